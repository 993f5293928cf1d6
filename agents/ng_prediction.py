"""What Algorithm 1 of Ng et al. predicts for each placement, from believed parameters and an observation.

All placements are predicted in one sweep of arrays (B, P); on the device the network's terms are zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..envs import queueing as q
from ..envs import tail_latency as tail
from ..envs.node_bank import capacity_per_ms
from ..envs.schema import LOCAL, ClosedLoop, Placement, Scenario, TraceArrivals
from ..envs.service import mean_ms, service_scv
from .baselines import Observation, ObservationReader

F64 = npt.NDArray[np.float64]
NIC_SCV = 1.0  # section 3.3: network interfaces are M/M/1
# Overloaded queues are predicted at this utilisation: hopeless, but still in order of their service times.
TOP_UTILISATION = 0.995


class Believed(NamedTuple):
    """What the device believes of one placement.

    Attributes:
        service_ms, service_scv: of its own requests.
        joint_ms: what one of them adds to the node's work, its k servers and full batches counted:
            1 / "edge server aggregated service rate".
        tenant_ms, tenant_scv: the same for the requests of others; 0 where there are none.
        payload_kb, extra_rtt_ms: 0 on the device, as ``slower`` is on a server.
        slower: share by which a throttled device is slower.
        head_ms, head_scv, head_slower: of a split one's first part, on the device; 0 of others.
    """

    service_ms: float
    service_scv: float
    joint_ms: float
    tenant_ms: float
    tenant_scv: float
    payload_kb: float
    extra_rtt_ms: float
    slower: float
    head_ms: float = 0.0
    head_scv: float = 0.0
    head_slower: float = 0.0


class Predictor:
    """Predicts the latency of every placement of a scenario if all requests of the device went there."""

    def __init__(self, scenario: Scenario) -> None:
        """Note what is believed of each placement and where the observation tells the rest."""
        placements = scenario.placements
        self._all = Believed(*np.array([believed(scenario, p) for p in placements]).T)
        self._split = scenario.can_split
        reader = ObservationReader(scenario)
        links = [None if p.node == LOCAL else scenario.nodes[p.node].link for p in placements]
        self._uplink = _Columns(reader, [link and f"{link}_uplink_mbps" for link in links])
        self._rtt = _Columns(reader, [link and f"{link}_rtt_ms" for link in links])
        self._deviation = _Columns(reader, [link and f"{link}_rtt_deviation_ms" for link in links])
        self._load = _Columns(reader, [_load_feature(scenario, p) for p in placements])
        self._throttled = _Columns(reader, ["device_throttled"] * len(placements))

    def predict(self, observation: Observation, rate_per_s: F64, arrival_scv: q.Values) -> tail.Delay:
        """Latency as a delay: mean = ``floor_ms + mean_ms``.

        Args:
            observation: (B, F).
            rate_per_s: the device's requests a second (B,).
            arrival_scv: squared coefficient of variation of their gaps, 1 for Poisson; a number or (B, 1).

        Returns:
            Arrays of shape (B, P).
        """
        b, slower = self._all, 1 + self._all.slower * self._throttled.read(observation)
        own = np.broadcast_to(rate_per_s[:, None], slower.shape)
        upload = q.transmission_ms(b.payload_kb, self._uplink.read(observation))
        rtt = self._rtt.read(observation) + b.extra_rtt_ms
        network = queue_wait(upload, own, NIC_SCV, arrival_scv).then(tail.Delay(upload, 0.0, 0.0, 0.0))
        if (
            self._split
        ):  # a tandem: the first part on the device, then the network, then the rest (section 3.3)
            head = b.head_ms * (1 + b.head_slower * self._throttled.read(observation))
            stage = queue_wait(head, own, b.head_scv, arrival_scv).then(tail.service_delay(head, b.head_scv))
            network = stage.then(network)
        there = network.then(_round_trip(rtt, self._deviation.read(observation)))
        wait = self._server_wait(own, self._load.read(observation), slower, arrival_scv)
        return there.then(wait).then(tail.service_delay(b.service_ms * slower, b.service_scv))

    def _server_wait(self, own: F64, load: F64, slower: F64, arrival_scv: q.Values) -> tail.Delay:
        """Wait behind the tenants' requests and the device's own: M/G/1 over all (section 3.4)."""
        b = self._all
        tenants = np.where(b.tenant_ms > 0, 1000 * load / np.where(b.tenant_ms > 0, b.tenant_ms, 1.0), 0.0)
        together = own + tenants
        share = np.where(together > 0, own / np.where(together > 0, together, 1.0), 1.0)
        joint = b.joint_ms * slower
        mean = share * joint + (1 - share) * b.tenant_ms
        second = share * joint**2 * (1 + b.service_scv) + (1 - share) * b.tenant_ms**2 * (1 + b.tenant_scv)
        scv = np.maximum(second / mean**2 - 1, 0.0)
        # Only the device's share of the arrivals can be other than Poisson.
        return queue_wait(mean, together, scv, 1 + share * (arrival_scv - 1))


class _Columns:
    """Reads one feature per placement (B, P) in its unit; 0 where a placement has no such feature."""

    def __init__(self, reader: ObservationReader, names: list[str | None]) -> None:
        table = reader.table
        self._at = np.array([0 if n is None else table.index[n] for n in names])
        self._scale = np.array([0.0 if n is None else table.features[table.index[n]].scale for n in names])

    def read(self, observation: Observation) -> F64:
        return np.asarray(observation[:, self._at] * self._scale, dtype=np.float64)


def believed(scenario: Scenario, placement: Placement) -> Believed:
    """What the scenario states of a placement: its service times and who else is served there.

    Replies take no time: a scenario's payload holds them.
    """
    service, scv = mean_ms(placement.service), service_scv(placement.service)
    heat = scenario.device.throttling
    slower = 0.0 if heat is None else heat.slowdown - 1.0
    if placement.node == LOCAL:
        return Believed(service, scv, service, 0.0, 0.0, 0.0, 0.0, slower)
    node, kb = scenario.nodes[placement.node], (scenario.payload.low_kb + scenario.payload.high_kb) / 2
    joint = 1 / capacity_per_ms(service, node.parallelism, node.batching)
    tenant, tenant_scv = 0.0, 0.0
    if node.background is not None:
        tenant = 1 / capacity_per_ms(node.background.service_ms, node.parallelism, node.batching)
        tenant_scv = 1.0 if node.background.service_distribution == "exponential" else 0.0
    one = Believed(service, scv, joint, tenant, tenant_scv, kb, node.extra_rtt_ms, 0.0)
    if (split := placement.split) is None:
        return one
    return one._replace(
        payload_kb=split.activation_kb,
        head_ms=mean_ms(split.service),
        head_scv=service_scv(split.service),
        head_slower=slower,
    )


def queue_wait(
    service_ms: q.Values, rate_per_s: q.Values, scv: q.Values, arrival_scv: q.Values
) -> tail.Delay:
    """Wait of G/G/1: M/G/1 for Poisson arrivals, else its mean and deviation scaled as Kingman's form scales."""
    with np.errstate(divide="ignore"):
        most = 1000 * TOP_UTILISATION / np.asarray(service_ms, dtype=np.float64)
    wait = tail.wait_delay(service_ms, np.minimum(rate_per_s, most), scv)
    factor = (arrival_scv + scv) / (1 + np.asarray(scv))
    return wait._replace(mean_ms=wait.mean_ms * factor, variance_ms2=wait.variance_ms2 * factor**2)


def believed_rate_per_s(scenario: Scenario) -> float:
    """Mean arrival rate that the scenario states; 0 for a closed loop, which never queues behind itself."""
    arrivals = scenario.arrivals
    if isinstance(arrivals, ClosedLoop):
        return 0.0
    if isinstance(arrivals, TraceArrivals):
        return arrivals.mean_per_s
    return (arrivals.low_per_s + arrivals.high_per_s) / 2


def _load_feature(scenario: Scenario, placement: Placement) -> str | None:
    if placement.node == LOCAL or scenario.nodes[placement.node].background is None:
        return None
    return f"{placement.node}_load"


def _round_trip(rtt_ms: F64, deviation_ms: F64) -> tail.Delay:
    """The probed RTT; its deviation is taken as that of an exponential part (assumed, for the tail only)."""
    spread = np.minimum(deviation_ms, rtt_ms)
    return tail.Delay(rtt_ms - spread, np.where(spread > 0, 1.0, 0.0), spread, spread**2)
