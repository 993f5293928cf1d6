"""Static placements and simple rules: what every learned policy has to be better than.

All of them decide from the encoded observation alone, one request or a batch, and never choose a placement
that the mask forbids.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..envs.errors import unknown_name
from ..envs.observation import build_table, remote_placements
from ..envs.schema import Placement, Scenario
from ..envs.service import service_p95_ms
from ..envs.streams import Stream, episode_keys

LOCAL_INDEX = 0  # placement 0 is the device; the schema enforces it
RULES = ("round-robin", "random", "rtt-threshold", "cleanest-zone")

Observation = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Choice = npt.NDArray[np.int64]


class ObservationReader:
    """Reads features by name, in their own units, from encoded observations (F,) or (B, F)."""

    def __init__(self, scenario: Scenario) -> None:
        """Build the table of the scenario, which says where each feature stands and how it is scaled."""
        self.table = build_table(scenario)

    def value(self, observation: Observation, name: str) -> npt.NDArray[np.float32]:
        """One feature in its unit: () for (F,), (B,) for (B, F)."""
        position = self.table.index[name]
        return observation[..., position] * self.table.features[position].scale

    def values(self, observation: Observation, names: list[str]) -> npt.NDArray[np.float32]:
        """Several features, last axis: (n,) for (F,), (B, n) for (B, F)."""
        return np.stack([self.value(observation, name) for name in names], axis=-1)


class BatchRule:
    """Base of the rules here: one request is a batch of one, and a forbidden choice becomes local."""

    name: str

    def reset(self, batch: int) -> None:
        """Start ``batch`` fresh episodes."""

    def decide(self, observation: Observation, mask: Mask) -> Choice | int:
        """Choose placements; see `Policy.decide`."""
        single = observation.ndim == 1
        allowed = np.atleast_2d(mask)
        choice = self.choose(np.atleast_2d(observation), allowed)
        choice = np.where(np.take_along_axis(allowed, choice[:, None], axis=1)[:, 0], choice, LOCAL_INDEX)
        return int(choice[0]) if single else choice

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Choose for a batch: observation (B, F) and allowed (B, P) to placements (B,)."""
        raise NotImplementedError(f"{type(self).__name__} must say how it chooses")


class Always(BatchRule):
    """The same placement for every request; local while that placement is not allowed."""

    def __init__(self, name: str, placement: int) -> None:
        """Name the policy and fix its placement."""
        self.name = name
        self.placement = placement

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the fixed placement (B,)."""
        return np.full(len(observation), self.placement, dtype=np.int64)


class RoundRobin(BatchRule):
    """Each placement in turn, skipping those that are not allowed."""

    name = "round-robin"

    def __init__(self, placements: int) -> None:
        """Remember how many placements there are."""
        self.placements = placements
        self._next = np.zeros(0, dtype=np.int64)

    def reset(self, batch: int) -> None:
        """Start every episode with placement 0."""
        self._next = np.zeros(batch, dtype=np.int64)

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the first allowed placement at or after the one whose turn it is (B,)."""
        turns = (self._next[:, None] + np.arange(self.placements)) % self.placements
        waits = np.take_along_axis(allowed, turns, axis=1).argmax(axis=1)
        choice = np.take_along_axis(turns, waits[:, None], axis=1)[:, 0]
        self._next = (choice + 1) % self.placements
        return choice


class RandomPlacement(BatchRule):
    """Uniform over the allowed placements, from a stream of its own per episode."""

    name = "random"

    def __init__(self, seed: int) -> None:
        """Seed the streams; episode i of this policy's life draws from stream seed + i."""
        self._next_seed = seed
        self._stream = Stream(episode_keys([seed]), "policy:random")

    def reset(self, batch: int) -> None:
        """Give each of ``batch`` episodes a fresh stream."""
        seeds = self._next_seed + np.arange(batch)
        self._next_seed += batch
        self._stream = Stream(episode_keys(seeds), "policy:random")

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the k-th allowed placement with k uniform (B,)."""
        k = (self._stream.uniform() * allowed.sum(axis=1)).astype(np.int64)
        return (allowed.cumsum(axis=1) > k[:, None]).argmax(axis=1)


class RttThreshold(BatchRule):
    """Offload to the nearest remote placement while the smoothed RTT of its link is low, with hysteresis."""

    name = "rtt-threshold"

    def __init__(
        self, scenario: Scenario, offload_below_ms: float | None = None, return_above_ms: float | None = None
    ) -> None:
        """Fix target and thresholds.

        Args:
            scenario: the site.
            offload_below_ms: start to offload under this smoothed RTT. Default: 0.8 of the other one
                (assumed; a fifth of hysteresis).
            return_above_ms: go back to local above this smoothed RTT. Default: half of what the SLO leaves
                after the target's p95 service time and its extra RTT. Half, because an upload takes one RTT
                when all goes well and one more for a lost packet or a grown queue (assumed).
        """
        self._reader = ObservationReader(scenario)
        self.target = nearest_remote(scenario)
        if return_above_ms is None:
            return_above_ms = default_rtt_limit_ms(scenario, scenario.placements[self.target])
        self.return_above_ms = return_above_ms
        self.offload_below_ms = 0.8 * return_above_ms if offload_below_ms is None else offload_below_ms
        self._offloading = np.zeros(0, dtype=bool)
        if self.target != LOCAL_INDEX:
            node = scenario.placements[self.target].node
            self._feature = f"{scenario.nodes[node].link}_rtt_ms"

    def reset(self, batch: int) -> None:
        """Start every episode local."""
        self._offloading = np.zeros(batch, dtype=bool)

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the target where the link is good enough, else local (B,)."""
        if self.target == LOCAL_INDEX:
            return np.zeros(len(observation), dtype=np.int64)
        rtt_ms = self._reader.value(observation, self._feature)
        limit_ms = np.where(self._offloading, self.return_above_ms, self.offload_below_ms)
        self._offloading = rtt_ms <= limit_ms
        return np.where(self._offloading, self.target, LOCAL_INDEX)


class CleanestZone(BatchRule):
    """The placement in the grid zone with the lowest observed intensity; ties by believed carbon."""

    name = "cleanest-zone"

    def __init__(self, scenario: Scenario) -> None:
        """Look up which features hold each placement's intensity and believed carbon."""
        self._reader = ObservationReader(scenario)
        nodes = ["device" if p.node == "local" else p.node for p in scenario.placements]
        self._intensity = [f"{node}_carbon_g_per_kwh" for node in nodes]
        self._carbon = [f"{p.name}_carbon_mg" for p in scenario.placements]

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the cleanest allowed placement (B,)."""
        intensity = np.where(allowed, self._reader.values(observation, self._intensity), np.inf)
        cleanest = intensity <= intensity.min(axis=1, keepdims=True)
        carbon_mg = self._reader.values(observation, self._carbon)
        return np.where(cleanest, carbon_mg, np.inf).argmin(axis=1)


def nearest_remote(scenario: Scenario) -> int:
    """The remote placement with the least extra RTT, the first listed among equals; 0 if there is none."""
    remote = remote_placements(scenario)
    distance = {i: scenario.nodes[scenario.placements[i].node].extra_rtt_ms for i in remote}
    return min(remote, key=distance.__getitem__, default=LOCAL_INDEX)


def default_rtt_limit_ms(scenario: Scenario, target: Placement) -> float:
    """RTT up to which `RttThreshold` expects the target to meet the SLO, ms (never negative)."""
    if target.node == "local":
        return 0.0
    left_ms = scenario.slo.latency_ms - service_p95_ms(target.service)
    return max(0.0, left_ms / 2 - scenario.nodes[target.node].extra_rtt_ms)


def static_names(scenario: Scenario) -> dict[str, int]:
    """Name -> placement of the static policies; placement 0 is `always-local` whatever its own name."""
    return {
        "always-local" if i == LOCAL_INDEX else f"always-{p.name}": i
        for i, p in enumerate(scenario.placements)
    }


def baseline_names(scenario: Scenario) -> list[str]:
    """Every policy of this file, static placements first."""
    return [*static_names(scenario), *RULES]


def make_policy(name: str, scenario: Scenario, seed: int = 0) -> BatchRule:
    """Build a baseline by name.

    Args:
        name: one of `baseline_names`.
        scenario: the site it decides for.
        seed: for `random` only.

    Raises:
        InputError: there is no such baseline for this scenario.
    """
    static = static_names(scenario)
    if name in static:
        return Always(name, static[name])
    if name == RoundRobin.name:
        return RoundRobin(len(scenario.placements))
    if name == RandomPlacement.name:
        return RandomPlacement(seed)
    if name == RttThreshold.name:
        return RttThreshold(scenario)
    if name == CleanestZone.name:
        return CleanestZone(scenario)
    raise unknown_name("baseline", name, baseline_names(scenario))
