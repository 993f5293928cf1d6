"""What one placement costs in a given situation, expected values of `envs/physics.py` in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..envs.node_bank import NodeBank, bank_for
from ..envs.queueing import Values
from ..envs.schema import LOCAL, Placement, Scenario
from ..envs.service import batch_energy_j, mean_ms, service_scv
from ..envs.units import BITS_PER_BYTE, MG_PER_J_PER_G_PER_KWH, MS_PER_S, network_energy_j
from .breakeven_forms import radio_energy_j, server_idle_j

F64 = npt.NDArray[np.float64]
Account: TypeAlias = Literal["marginal", "attributional"]
Radio: TypeAlias = Literal["awake", "asleep", "free"]
ACCOUNTS: tuple[Account, ...] = ("marginal", "attributional")


class NodeCurve(NamedTuple):
    """What a node's other tenants cause at each load (L,): the profile of its type (`envs.node_bank`).

    Attributes:
        load: levels, rising.
        inverse_batch: mean of 1 / batch, which is what energy goes with.
        batch: mean batch, which service time goes with.
        wait_ms, wait_ms2: mean and variance of the wait.
        background_per_ms: the tenants' requests.
    """

    load: F64
    inverse_batch: F64
    batch: F64
    wait_ms: F64
    wait_ms2: F64
    background_per_ms: F64

    def at(self, column: str, load: Values) -> F64:
        """A column at a load, straight lines between the levels."""
        return np.interp(load, self.load, getattr(self, column))


_ALONE = NodeCurve(*(np.array([v]) for v in (0.0, 1.0, 1.0, 0.0, 0.0, 0.0)))
_CURVES: dict[int, tuple[NodeBank, NodeCurve]] = {}  # by identity, the bank kept so that it stays


def node_curve(scenario: Scenario, node: str) -> NodeCurve:
    """The profile of a node; a node without background serves one request at a time and nobody waits for others."""
    spec = scenario.nodes[node]
    if spec.background is None:
        return _ALONE
    bank = bank_for(spec)
    if id(bank) not in _CURVES:
        wait = bank.wait_ms.astype(np.float64)
        curve = NodeCurve(
            bank.levels, (1.0 / bank.batch_size).mean(axis=1, dtype=np.float64), bank.mean_batch, wait.mean(axis=1),
            wait.var(axis=1), bank.background_per_ms,
        )  # fmt: skip
        _CURVES[id(bank)] = (bank, curve)
    return _CURVES[id(bank)][1]


@dataclass(frozen=True)
class Terms:
    """One placement's constants; what a local placement does not have is zero.

    Attributes:
        name, node, link: names; node is "local" and link "" on the device.
        compute_j: device energy of an inference, or of a split one's first part.
        shared_j, own_j: the server's, PUE included (`batch_energy_j`).
        network_j_per_kb: energy of moving bytes.
        transmit_w, tail_w, tail_ms, device_idle_w, server_idle_w: powers; the server's with PUE.
        service_ms, service_scv: service time alone, its squared coefficient of variation.
        batch_share: how much one more image lengthens a batch; max_batch: its limit.
        extra_rtt_ms: the node's extra distance.
        slowdown, hot: factor of a hot device and the utilisation from which it is hot (1, inf: never).
        head_ms, head_scv: first part of a split inference, on the device; 0 of others.
        activation_kb: what crosses the cut of a split inference instead of the payload; 0 of others.
    """

    name: str
    node: str
    link: str
    compute_j: float
    shared_j: float
    own_j: float
    network_j_per_kb: float
    transmit_w: float
    tail_w: float
    tail_ms: float
    device_idle_w: float
    server_idle_w: float
    service_ms: float
    service_scv: float
    batch_share: float
    max_batch: int
    extra_rtt_ms: float
    slowdown: float
    hot: float
    head_ms: float
    head_scv: float
    activation_kb: float

    @property
    def split(self) -> bool:
        """Whether the device computes a first part and a server the rest."""
        return self.activation_kb > 0

    def crossing_kb(self, payload_kb: Values) -> Values:
        """What a request of the given size puts on the link."""
        return self.activation_kb if self.split else payload_kb

    @property
    def remote(self) -> bool:
        """Whether it runs on a server."""
        return self.node != LOCAL


def placement_terms(scenario: Scenario) -> list[Terms]:
    """The constants of every placement, in the scenario's order."""
    return [_terms(scenario, p) for p in scenario.placements]


def _terms(scenario: Scenario, p: Placement) -> Terms:
    device, node = scenario.device, scenario.nodes.get(p.node)
    remote, radio, heat = node is not None, scenario.device.radio, scenario.device.throttling
    link = node.link if node else ""
    shared, own = batch_energy_j(p, node.pue) if node else (0.0, 0.0)
    batching, split = node.batching if node else None, p.split
    computed_j = p.active_energy_j if not remote else split.active_energy_j if split else 0.0
    return Terms(
        name=p.name, node=p.node, link=link,
        compute_j=computed_j, shared_j=shared, own_j=own,
        network_j_per_kb=network_energy_j(1.0, scenario.links[link].network_energy_nj_per_bit) if node else 0.0,
        transmit_w=radio.transmit_power_w if radio and remote else 0.0,
        tail_w=radio.tail_power_w if radio and remote else 0.0,
        tail_ms=radio.tail_s * MS_PER_S if radio and remote else 0.0,
        device_idle_w=device.idle_power_w, server_idle_w=node.pue * node.idle_power_w if node else 0.0,
        service_ms=mean_ms(p.service), service_scv=service_scv(p.service),
        batch_share=batching.marginal_service_share if batching else 0.0,
        # Without other tenants nobody shares a batch (docs/physics.md).
        max_batch=batching.max_batch if batching and node and node.background else 1,
        extra_rtt_ms=node.extra_rtt_ms if node else 0.0,
        slowdown=heat.slowdown if heat and (split or not remote) else 1.0,
        hot=heat.hot_utilisation if heat and (split or not remote) else np.inf,
        head_ms=mean_ms(split.service) if split else 0.0, head_scv=service_scv(split.service) if split else 0.0,
        activation_kb=split.activation_kb if split else 0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A situation. Every value is a number or an array; arrays broadcast.

    Attributes:
        device_g, node_g, network_g: intensities, g/kWh: the device's, by node, by link.
        inverse_batch: mean of 1 / batch by node; background_per_ms: the other tenants' requests by node.
        payload_kb, rate_mbps: bytes and rate of the link, by link.
        gap_ms: time since the request before, by placement.
        radio: "awake": the request before was offloaded too; "asleep": long ago; "free": no tail is counted.
    """

    device_g: Values
    node_g: Mapping[str, Values]
    network_g: Mapping[str, Values]
    inverse_batch: Mapping[str, Values]
    background_per_ms: Mapping[str, Values]
    payload_kb: Values
    rate_mbps: Mapping[str, Values]
    gap_ms: Mapping[str, Values]
    radio: Radio = "awake"


class Energy(NamedTuple):
    """Energy of one request, J, by the grid that it is drawn from; PUE included."""

    device_j: Values
    network_j: Values
    server_j: Values

    @property
    def total_j(self) -> Values:
        """Everything."""
        return self.device_j + self.network_j + self.server_j


def energy(terms: Terms, setting: Setting, account: Account) -> Energy:
    """Expected energy of a request: marginal, or with idle power since the last request (docs/physics.md)."""
    device: Values = terms.compute_j
    network: Values = 0.0
    server: Values = 0.0
    gap = setting.gap_ms[terms.name]
    if terms.remote:
        crossing = terms.crossing_kb(setting.payload_kb)
        sending = crossing * BITS_PER_BYTE / setting.rate_mbps[terms.link]
        awake = {"awake": gap - sending, "asleep": terms.tail_ms, "free": 0.0}[setting.radio]
        if terms.transmit_w or terms.tail_w:
            device = device + radio_energy_j(sending, awake, terms.transmit_w, terms.tail_w, terms.tail_ms)
        network = crossing * terms.network_j_per_kb
        server = terms.shared_j * setting.inverse_batch[terms.node] + terms.own_j
    if account == "attributional":
        device = device + gap * terms.device_idle_w / MS_PER_S
        if terms.remote:
            background = setting.background_per_ms[terms.node]
            server = server + server_idle_j(gap, terms.server_idle_w, background)
    return Energy(device, network, server)


def carbon_mg(terms: Terms, setting: Setting, account: Account) -> F64:
    """Expected CO2 of a request, mg: energy x intensity of the grid it is drawn from (CarbonEdge eq (2))."""
    used = energy(terms, setting, account)
    grams = used.device_j * np.asarray(setting.device_g)
    if terms.remote:
        grams = (
            grams
            + used.network_j * setting.network_g[terms.link]
            + used.server_j * setting.node_g[terms.node]
        )
    return np.asarray(grams * MG_PER_J_PER_G_PER_KWH, dtype=np.float64)
