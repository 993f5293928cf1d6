"""Neurosurgeon's choice (Kang et al., ASPLOS 2017): the cut of the least predicted latency or mobile energy.

For each point: the first part's time on the device, what crosses the cut over the present bandwidth, and the rest's
time on the server, which grows with its load level. Whole-model placements are the two end points. It knows no queue of
the device, no round trip and no objective; those are what the other rules add.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..envs.beliefs import BELIEVED_TOP_LOAD, MBPS_PER_KB_PER_MS
from ..envs.errors import unknown_name
from ..envs.schema import LOCAL, Placement, Scenario
from ..envs.service import mean_ms
from ..envs.units import MS_PER_S
from .baselines import BatchRule, Choice, Mask, Observation, ObservationReader
from .policy import Policy
from .predictive_margins import LEAST_UPLINK_MBPS
from .tunable import Tunable, check_parameters

F64 = npt.NDArray[np.float64]
NAMES = ("neurosurgeon", "neurosurgeon-energy")
TUNABLES: dict[str, tuple[Tunable, ...]] = dict.fromkeys(NAMES, ())


def make(name: str, scenario: Scenario, parameters: Mapping[str, npt.ArrayLike] | None = None) -> Policy:
    """Build a policy of this file.

    Raises:
        InputError: no such policy; or a parameter, of which it has none.
    """
    if name not in NAMES:
        raise unknown_name("policy", name, NAMES)
    check_parameters(name, TUNABLES[name], parameters or {})
    return Neurosurgeon(scenario, energy=name == NAMES[1])


class Neurosurgeon(BatchRule):
    """The least latency, or the least energy of the device and then the least latency."""

    def __init__(self, scenario: Scenario, energy: bool = False) -> None:
        """Note what each placement takes of device, link and server.

        Args:
            scenario: the site.
            energy: minimise the device's energy, computing and sending, in place of the latency.
        """
        self.name, self._energy = NAMES[int(energy)], energy
        places = scenario.placements
        parts = np.array([_parts(p) for p in places]).T
        self._device_ms, self._device_j, self._sent_kb, self._server_ms = parts
        self._whole = np.isnan(self._sent_kb)
        radio = scenario.device.radio
        self._transmit_w = 0.0 if radio is None else radio.transmit_power_w
        self._reader = ObservationReader(scenario)
        self._uplinks = [
            None if p.node == LOCAL else f"{scenario.nodes[p.node].link}_uplink_mbps" for p in places
        ]
        self._loads = [
            f"{p.node}_load" if p.node != LOCAL and scenario.nodes[p.node].background is not None else None
            for p in places
        ]

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the best partition point among the allowed ones (B,)."""
        upload_ms = self._upload_ms(observation)
        score = self._device_ms + upload_ms + self._server_ms * self._level(observation)
        if self._energy:
            joules = self._device_j + upload_ms * (self._transmit_w / MS_PER_S)
            least = np.where(allowed, joules, np.inf).min(axis=1, keepdims=True)
            score = np.where(joules <= least, score, np.inf)
        return np.where(allowed, score, np.inf).argmin(axis=1)

    def _upload_ms(self, observation: Observation) -> F64:
        """Bytes over the bandwidth that was measured last (B, P)."""
        kb = np.tile(self._sent_kb, (len(observation), 1))
        kb[:, self._whole] = self._reader.value(observation, "payload_kb")[:, None]
        rate = np.maximum(self._read(observation, self._uplinks, np.inf), LEAST_UPLINK_MBPS)
        return kb * MBPS_PER_KB_PER_MS / rate

    def _level(self, observation: Observation) -> F64:
        """How much longer the server takes at its load (B, P).

        The paper's level K is looked up from a probe of the server; here it is what a busy processor's share is:
        1 / (1 - load), an assumption of ours.
        """
        load = np.minimum(self._read(observation, self._loads, 0.0), BELIEVED_TOP_LOAD)
        return 1.0 / (1.0 - load)

    def _read(self, observation: Observation, names: list[str | None], otherwise: float) -> F64:
        columns = [
            np.full(len(observation), otherwise) if name is None else self._reader.value(observation, name)
            for name in names
        ]
        return np.stack(columns, axis=1).astype(np.float64)


def _parts(p: Placement) -> tuple[float, float, float, float]:
    """Time (ms) and energy (J) on the device, kB on the link (NaN: the payload), time on the server (ms)."""
    if p.node == LOCAL:
        return mean_ms(p.service), p.active_energy_j, 0.0, 0.0
    if p.split is None:
        return 0.0, 0.0, np.nan, mean_ms(p.service)
    return mean_ms(p.split.service), p.split.active_energy_j, p.split.activation_kb, mean_ms(p.service)
