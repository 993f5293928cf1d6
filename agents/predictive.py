"""The SLO-predictive rules: lowest predicted carbon among the placements that are predicted to meet the SLO.

Both know what a device knows: believed latency and carbon, telemetry, what became of their own requests. One keeps the
SLO request by request, the other spends the share of misses that the SLO's quantile allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..envs.schema import Scenario
from ..envs.units import MG_PER_J_PER_G_PER_KWH
from .baselines import LOCAL_INDEX, BatchRule, Choice, Mask, Observation
from .predictive_device import Heat, HiddenBacklog
from .predictive_margins import predicted_ms
from .predictive_memory import AnswerMemory
from .predictive_parameters import BUDGET, CARBON, PREDICTION, STRICT_CARBON, STRICT_PREDICTION
from .predictive_view import Floats, PlacementView, View
from .tunable import Tunable

LATE_MG = np.float32(1e6)  # puts every placement that is predicted to be late behind all that are in time
STEEPEST = np.float32(60.0)  # exp of more overflows single precision


class SloPredictive(BatchRule):
    """Lowest predicted carbon among the placements predicted to meet the SLO; the fastest where none is.

    Predicted latency is the believed one plus a margin (`predictive_margins`). Predicted carbon is the believed one,
    corrected for the load, plus a share of the radio tail that an offload adds, plus prices that keep the device
    from getting too hot.
    """

    name = "slo-predictive"
    TUNABLES: tuple[Tunable, ...] = STRICT_PREDICTION + STRICT_CARBON

    def __init__(self, scenario: Scenario, parameters: Mapping[str, Any] | None = None) -> None:
        """Set the parameters.

        Args:
            scenario: the site, for its believed parameters.
            parameters: by name, each a number or one for each episode (B,); see `TUNABLES` for names and units.
        """
        values = {t.name: t.default for t in self.TUNABLES} | dict(parameters or {})
        self.p = {name: np.asarray(value, np.float32) for name, value in values.items()}
        self._view = PlacementView(scenario)
        self._remote = self._view.remote.astype(np.float32)
        self._slo_ms = np.float32(scenario.slo.latency_ms)
        self._answers = AnswerMemory(self._view, scenario.slo.latency_ms)
        self._device, self._heat = HiddenBacklog(), Heat(scenario)
        self._last = np.zeros(0, np.int64)
        radio = scenario.device.radio
        self._tail_s = np.float32(0.0 if radio is None else radio.tail_s)
        tail_w = 0.0 if radio is None else radio.tail_power_w
        self._tail_mg_per_s = np.float32(tail_w * MG_PER_J_PER_G_PER_KWH)  # at 1 g/kWh

    def reset(self, batch: int) -> None:
        """Start ``batch`` episodes: nothing is remembered, the last placement was local."""
        for memory in (self._answers, self._device, self._heat):
            memory.start(batch)
        self._last = np.zeros(batch, np.int64)

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Return the placement of the lowest score among those allowed (B,)."""
        view = self._view.of(observation)
        self._answers.learn(view, self.p["link_weight"])
        self._device.advance(view)
        self._heat.learn(view, self.p["heat_reserve"])
        score = self.score(view, self.predict(view), self.carbon(view))
        choice = np.where(allowed.T, score, np.inf).argmin(axis=0)
        self._answers.note(choice, view.latency_ms)
        share = self._view.device_share[choice, 0]
        self._device.note(share, view, self.p["local_inflation_ms"])
        self._last = choice
        return choice

    def predict(self, view: View) -> Floats:
        """Predicted latency of each placement with its margin (P, B), ms."""
        return predicted_ms(view, self._view, self._answers, self._device, self.p)

    def carbon(self, view: View) -> Floats:
        """Predicted carbon of each placement with prices for heat and for changing (P, B), mg."""
        p = self.p
        # Belief divides a batch's energy by its mean size; the mean of the quotient is larger, the more so under load.
        short = np.where(self._remote > 0, p["remote_carbon_factor"], np.float32(1))
        carbon = view.carbon_mg * short * (1 + p["load_carbon_share"] * view.load)
        # The radio is awake until the tail ends: an offload adds the time by which it moves that end.
        added_s = p["radio_share"] * (self._tail_s - view.radio_tail_s)
        carbon += self._remote * (added_s * self._tail_mg_per_s * view.device_carbon_g_per_kwh)
        heat = np.where(self._heat.throttled, p["hot_price_mg"], p["heat_price_mg"] * self._heat.nearness)
        carbon += self._view.device_share * heat
        carbon[self._last, np.arange(len(self._last))] -= p["hysteresis_mg"]
        return carbon

    def score(self, view: View, latency_ms: Floats, carbon_mg: Floats) -> Floats:
        """What is minimised (P, B): carbon where the SLO is met by prediction, else latency behind all of those."""
        return np.where(latency_ms <= self._slo_ms, carbon_mg, LATE_MG + latency_ms)


class SloPredictiveBudget(SloPredictive):
    """The same with a price on risk in place of the line at the SLO, so that allowed misses buy carbon.

    The error of a prediction is taken as logistic in its logarithm. The price of a miss rises while misses run ahead of
    plan and falls while they stay behind; with few misses left, only risk counts (the shield).
    """

    name = "slo-predictive-budget"
    TUNABLES: tuple[Tunable, ...] = PREDICTION + CARBON + BUDGET

    def __init__(self, scenario: Scenario, parameters: Mapping[str, Any] | None = None) -> None:
        """Set the parameters; see `SloPredictive`."""
        super().__init__(scenario, parameters)
        allowed = (1.0 - scenario.slo.quantile) * scenario.episode.requests
        self._allowed_misses = np.float32(max(1.0, allowed))

    def score(self, view: View, latency_ms: Floats, carbon_mg: Floats) -> Floats:
        """What is minimised (P, B): carbon plus price times risk, or under the shield the risk alone."""
        odds = self.log_odds(latency_ms)
        risk = 1.0 / (1.0 + np.exp(-odds))
        return np.where(self.shielded(view), odds, carbon_mg + self.price_mg(view) * risk)

    def log_odds(self, latency_ms: Floats) -> Floats:
        """Logarithm of the odds that a placement misses the SLO (P, B)."""
        scale = np.where(self._remote > 0, self.p["spread"], self.p["local_spread"])
        return np.clip(np.log(np.maximum(latency_ms, 1) / self._slo_ms) / scale, -STEEPEST, STEEPEST)

    def price_mg(self, view: View) -> Floats:
        """Price of a miss (B,), mg: a sum and a multiple of local carbon, by how far misses are ahead of plan."""
        p = self.p
        planned = p["budget_head_start"] + (p["budget_end"] - p["budget_head_start"]) * view.progress
        base = p["miss_price_mg"] + p["miss_price_locals"] * view.carbon_mg[LOCAL_INDEX]
        return base * np.exp(p["budget_gain"] * (view.slo_budget_spent - planned))

    def shielded(self, view: View) -> np.ndarray:
        """Whether too few misses are left to buy carbon with (B,)."""
        return (1 - view.slo_budget_spent) * self._allowed_misses < self.p["shield_misses"]
