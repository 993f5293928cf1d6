"""The resource manager of Ng et al. (Algorithm 1) as a policy: each epoch the smallest predicted mean latency.

It predicts from what a device can know: believed mean service times, its own arrival rate over a sliding
window (here an exponential one), the probed uplink rate and RTT, and the servers' load reports. Beyond the
paper it adds the RTT, which the paper neglects for nearby servers (section 4.2), and may weigh in a p95.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..envs import tail_latency as tail
from ..envs.errors import InputError, unknown_name
from ..envs.schema import Scenario
from .baselines import BatchRule, Choice, Mask, Observation, ObservationReader
from .ng_prediction import Predictor, believed_rate_per_s
from .policy import Policy
from .tunable import Tunable

F64 = npt.NDArray[np.float64]
NAMES = ("ng-resource-manager",)
ROUNDING = 1e-6
TUNABLES: dict[str, tuple[Tunable, ...]] = {
    "ng-resource-manager": (
        Tunable("epoch_s", 0.05, 20.0, 1.0, True, "time between two decisions"),
        Tunable("smoothing", 0.005, 0.5, 0.02, True, "weight of the newest gap in the arrival rate"),
        Tunable("arrival_scv", 0.0, 4.0, 1.0, False, "c_a^2 of its own arrivals; 1: Poisson, as the paper"),
        Tunable("tail_weight", 0.0, 1.0, 0.0, False, "0: mean latency, as the paper; 1: its p95 estimate"),
        Tunable("margin_ms", 0.0, 50.0, 0.0, False, "gain that a change of placement must promise"),
    )
}


def make(name: str, scenario: Scenario, parameters: Mapping[str, npt.ArrayLike] | None = None) -> Policy:
    """Build a policy of this file.

    Raises:
        InputError: no such policy or tunable, or a value outside its range.
    """
    if name not in NAMES:
        raise unknown_name("policy", name, NAMES)
    return ResourceManager(scenario, parameters)


class ResourceManager(BatchRule):
    """Algorithm 1 over all placements of a scenario; its arrival rate starts at the scenario's mean."""

    name = NAMES[0]

    def __init__(self, scenario: Scenario, parameters: Mapping[str, npt.ArrayLike] | None = None) -> None:
        """Look up what is believed of each placement.

        Args:
            scenario: the site.
            parameters: values of `TUNABLES`, each a number or one per episode (B,); those left out take their
                defaults.

        Raises:
            InputError: an unknown tunable, or a value outside its range.
        """
        self._parameters = checked_parameters(self.name, parameters)
        self._reader = ObservationReader(scenario)
        self._predictor = Predictor(scenario)
        self._placements = len(scenario.placements)
        rate_per_s = believed_rate_per_s(scenario)
        self._queues = rate_per_s > 0  # a closed loop does not queue behind itself
        self._first_gap_ms = 1000 / rate_per_s if self._queues else np.inf
        self._gap_ms = self._since_ms = np.zeros(0)
        self.predicted_ms = np.zeros((0, self._placements))
        self._current = np.zeros(0, dtype=np.int64)

    def reset(self, batch: int) -> None:
        """Start ``batch`` fresh episodes."""
        self._gap_ms = np.full(batch, self._first_gap_ms)
        self._since_ms = np.full(batch, np.inf)  # the first request opens an epoch
        self.predicted_ms = np.zeros((batch, self._placements))
        self._current = np.full(batch, -1)

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the allowed placement of the smallest latency that this epoch predicts (B,)."""
        gap_ms = self._reader.value(observation, "gap_ms").astype(np.float64)
        if self._queues:
            self._gap_ms += self._parameters["smoothing"] * np.where(gap_ms > 0, gap_ms - self._gap_ms, 0.0)
        self._since_ms += gap_ms
        due = self._since_ms >= 1000 * self._parameters["epoch_s"]
        if due.any():
            self.predicted_ms[due] = self.predict_ms(observation)[due]
            self._since_ms[due] = 0.0
        score = np.where(allowed, self.predicted_ms, np.inf)
        best, rows = score.argmin(axis=1), np.arange(len(score))
        near = score[rows, self._current] <= score[rows, best] + self._parameters["margin_ms"]
        self._current = np.where(near & (self._current >= 0), self._current, best)
        return self._current

    def predict_ms(self, observation: Observation) -> F64:
        """Predicted latency of every placement (B, P), ms: the mean, its p95 estimate, or between them."""
        arrival_scv, weight = (self._parameters[key][..., None] for key in ("arrival_scv", "tail_weight"))
        delay = self._predictor.predict(observation, 1000 / self._gap_ms, arrival_scv)
        mean_ms = np.asarray(delay.floor_ms + delay.mean_ms)
        if not weight.any():
            return mean_ms
        return (1 - weight) * mean_ms + weight * tail.quantile_ms(delay, 0.95)


def checked_parameters(name: str, parameters: Mapping[str, npt.ArrayLike] | None) -> dict[str, F64]:
    """Defaults of a policy's tunables overlaid with the given values, each () or (B,).

    Raises:
        InputError: an unknown tunable, or a value outside its range.
    """
    tunables = {t.name: t for t in TUNABLES[name]}
    chosen = {t.name: np.asarray(t.default, dtype=np.float64) for t in tunables.values()}
    for key, given in (parameters or {}).items():
        if key not in tunables:
            raise unknown_name(f"tunable of {name}", key, tunables)
        t, value = tunables[key], np.asarray(given, dtype=np.float64)
        slack = ROUNDING * (
            t.high - t.low
        )  # a search on a logarithmic scale misses the ends by a rounding error
        if not ((value >= t.low - slack) & (value <= t.high + slack)).all():
            raise InputError(f"{name}: {key} must lie between {t.low:g} and {t.high:g}, got {value}.")
        chosen[key] = np.clip(value, t.low, t.high)
    return chosen
