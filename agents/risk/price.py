"""The price on risk: what a placement costs once a miss has a price. Stateless, all from one observation.

    score = carbon x corrections + radio tail + heat + price of a miss x probability of one - worth of accuracy

in mg of carbon. The wishes of the operator's dial move the two prices (`envs/dial.py`): all that is not carbon gets
dearer as the wish for carbon falls, a miss as that for latency rises, accuracy as that for accuracy does. An answer
that comes too late has no accuracy, so the worth of accuracy is part of the price of a miss. The score is linear in
what a wish moves: more wish for carbon never chooses more carbon (with its radio and heat), more wish for latency
never more risk, more wish for accuracy never less accuracy (less what misses lose of it).

The lowest score wins. It is what the rule `slo-predictive-budget` (`agents/predictive.py`) minimises, less its memory,
and with the risk head's probability in place of the rule's own prediction. While misses run ahead of plan their price
rises; with few misses left only the risk counts (the shield).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.observation import ObservationTable, build_table
from ...envs.schema import LOCAL, Scenario
from ...envs.units import MG_PER_J_PER_G_PER_KWH
from .parameters import complete_price

Floats = npt.NDArray[np.floating]

STEEPEST = 60.0  # exp of more overflows single precision
# Misses are whole numbers, and shares of them are not exact in single precision: this near to whole is whole.
WHOLE = 1e-3
# What belongs to the request; behind it come carbon and load of each placement.
_REQUEST = (
    "device_carbon_g_per_kwh",
    "radio_tail_s",
    "device_heat",
    "device_throttled",
    "slo_budget_spent",
    "progress",
    "wish_carbon",
    "wish_latency",
    "wish_accuracy",
)
_SPENT = _REQUEST.index("slo_budget_spent")


class Price:
    """Scores of placements from an observation and the logits of the risk head.

    Attributes:
        parameters: by name (`parameters.EVERY`); each a number, or one per episode (B,) for batches.
    """

    def __init__(self, scenario: Scenario, parameters: Mapping[str, Any] | None = None) -> None:
        """Find the columns and fix the constants.

        Args:
            scenario: the site, for its table, radio, throttling, SLO and accuracies.
            parameters: what is left out keeps its default.

        Raises:
            InputError: unknown parameter, or a value outside of its range.
        """
        self.parameters = complete_price(parameters)
        table, places = build_table(scenario), scenario.placements
        radio, throttling = scenario.device.radio, scenario.device.throttling
        self._shape = (len(table),)
        loads = [f"{p.node}_load" for p in places]
        names = [*_REQUEST, *(f"{p.name}_carbon_mg" for p in places), *loads]
        self._columns, self._scales = _columns(table, names)
        self._remote = np.array([p.node != LOCAL for p in places])
        more_miou = [p.accuracy_miou - places[0].accuracy_miou for p in places]
        self._more_miou = np.array(more_miou, np.float32)
        self._local_miou = np.float32(
            places[0].accuracy_miou
        )  # what a late answer loses, within a few points
        self._allowed_misses = np.float32(max(1.0, (1.0 - scenario.slo.quantile) * scenario.episode.requests))
        self._tail_s = np.float32(0.0 if radio is None else radio.tail_s)
        tail_w = 0.0 if radio is None else radio.tail_power_w
        self._tail_mg_per_s = np.float32(tail_w * MG_PER_J_PER_G_PER_KWH)  # at 1 g/kWh
        self._hot = None if throttling is None else np.float32(throttling.hot_utilisation)
        self._p = {name: np.asarray(value, np.float32) for name, value in self.parameters.items()}
        self._one = self.constants() if all(p.ndim == 0 for p in self._p.values()) else None
        self._output = np.empty(len(places), np.float32)

    def scores(self, observation: Floats, logits: Floats) -> Floats:
        """What is minimised, mg of carbon; where few misses are left (`shielded`), the logits themselves.

        Args:
            observation: encoded observation (F,), or (B, F) for a batch.
            logits: of a miss, (P,) or (B, P).

        Returns:
            (P,), in a buffer that the next call writes over, or a fresh (B, P). NaN where logits are.

        Raises:
            InputError: a shape is wrong.
        """
        if observation.shape == self._shape and logits.shape == self._output.shape:
            self._output[:] = self.scores_one(observation, logits)
            return self._output
        return self._scores_batch(observation, logits)

    def scores_one(self, observation: Floats, logits: Floats) -> list[float]:
        """As `scores`, of one observation (F,), unchecked: so few numbers are faster in plain Python than in NumPy."""
        c = self._one
        if c is None:
            raise InputError(
                "These prices are one for each episode of a batch; a single observation needs one alone."
            )
        odds = logits.tolist()
        v = (observation[self._columns] * self._scales).tolist()
        grid, tail_s, heat, throttled, spent, progress, wish_carbon, wish_latency, wish_accuracy = v[:9]
        if (1.0 - spent) * c.allowed_misses < c.shield_misses - WHOLE:
            return odds
        dearer = c.log_carbon_span * (1.0 - wish_carbon)
        steepness = c.budget_gain * (spent - c.planned_start - c.planned_slope * progress)
        steepness = _within(steepness + c.log_miss_span * (wish_latency - 0.5) + dearer)
        price_mg = (c.miss_mg + c.miss_locals * v[9] + c.late_mg * wish_accuracy) * math.exp(steepness)
        worth = wish_accuracy * math.exp(dearer)
        radio_mg = c.radio_mg_per_s * grid * (c.tail_s - tail_s)
        warm_mg = (c.warm_mg + c.warm_locals * v[9]) * _share((heat - c.warm_from) / c.warm_width)
        heat_mg = c.hot_mg + c.hot_locals * v[9] if throttled > 0.0 else warm_mg
        scores = []
        for odd, (carbon_at, load_at, factor, load_factor, remote, worth_mg) in zip(
            odds, c.placements, strict=True
        ):
            carbon_mg = v[carbon_at] * factor * (1.0 + load_factor * v[load_at])
            carbon_mg += (radio_mg if remote else heat_mg) - worth * worth_mg
            scores.append(carbon_mg + price_mg / (1.0 + math.exp(-_within(odd))))
        return scores

    def shielded(self, observation: Floats) -> npt.NDArray[np.bool_]:
        """Whether so few misses are left that only the risk counts: () for (F,), (B,) for (B, F)."""
        spent = observation[..., self._columns[_SPENT]] * self._scales[_SPENT]
        return (1 - spent) * self._allowed_misses < self._p["shield_misses"] - np.float32(WHOLE)

    def _scores_batch(self, observations: Floats, logits: Floats) -> Floats:
        self._check(observations, logits)
        # Placements first, episodes last: parameters (B,) broadcast.
        values = np.ascontiguousarray(observations.T)[self._columns] * self._scales[:, None]
        grid, tail_s, heat, throttled, spent, progress, *wishes = values[: len(_REQUEST)]
        carbon, load = np.split(values[len(_REQUEST) :], 2)
        p, remote = self._p, self._remote[:, None]
        score = carbon * np.where(remote, p["remote_carbon_factor"], np.float32(1))
        score *= 1 + np.where(remote, p["load_carbon_share"], np.float32(0)) * load
        radio_mg = p["radio_share"] * self._tail_mg_per_s * grid * (self._tail_s - tail_s)
        score += np.where(remote, radio_mg, self._heat_mg(heat, throttled, carbon[0]))
        dearer = -np.log(p["carbon_share_at_zero"]) * (1 - wishes[0])  # what is not carbon, as less counts
        worth_mg = p["accuracy_price_mg"] * wishes[2]
        score -= worth_mg * np.exp(dearer) * self._more_miou[:, None]
        miss_mg = p["miss_price_mg"] + p["miss_price_locals"] * carbon[0] + worth_mg * self._local_miou
        dial = np.log(p["miss_price_span"]) * (wishes[1] - np.float32(0.5)) + dearer
        score += miss_mg * self._steepness(spent, progress, dial) * _sigmoid(logits.T)
        return np.ascontiguousarray(np.where(self.shielded(observations), logits.T, score).T)

    def _heat_mg(self, heat: Floats, throttled: Floats, local_mg: Floats) -> Floats:
        """Price of the device's heat (B,), mg: rising before the throttling point, another one while throttled."""
        if self._hot is None:
            return np.zeros_like(heat)
        p = self._p
        nearness = np.clip((heat - (self._hot - p["heat_reserve"])) / p["heat_ramp"], 0, 1)
        warm_mg = (p["heat_price_mg"] + p["heat_price_locals"] * local_mg) * nearness
        return np.where(throttled > 0, p["hot_price_mg"] + p["hot_price_locals"] * local_mg, warm_mg)

    def _steepness(self, spent: Floats, progress: Floats, dial: Floats) -> Floats:
        """Factor on the price of a miss (B,): how far misses are ahead of plan, and what the wishes make of it.

        ``dial`` is the logarithm of the latter (B,).
        """
        p = self._p
        start, end = p["budget_head_start"], p["budget_end"]
        ahead = spent - start - (end - start) * progress
        return np.exp(np.clip(p["budget_gain"] * ahead + dial, -STEEPEST, STEEPEST))

    def _check(self, observations: Floats, logits: Floats) -> None:
        if observations.ndim != 2 or observations.shape[1:] != self._shape:
            raise InputError(
                f"Observation: expected shape {self._shape} or (B, {self._shape[0]}), got {observations.shape}."
            )
        expected = (len(observations), len(self._remote))
        if logits.shape != expected:
            raise InputError(f"Logits: expected shape {expected}, got {logits.shape}.")

    def constants(self) -> Constants:
        """All that a single decision needs, in plain numbers; a bundle's card holds them."""
        p, count = {name: float(value) for name, value in self._p.items()}, len(self._remote)
        first = len(_REQUEST)
        placements = tuple(
            (
                first + i,
                first + count + i,
                p["remote_carbon_factor"] if remote else 1.0,
                p["load_carbon_share"] if remote else 0.0,
                bool(remote),
                p["accuracy_price_mg"] * float(self._more_miou[i]),
            )
            for i, remote in enumerate(self._remote)
        )
        cold = self._hot is None
        return Constants(
            allowed_misses=float(self._allowed_misses),
            shield_misses=p["shield_misses"],
            budget_gain=p["budget_gain"],
            planned_start=p["budget_head_start"],
            planned_slope=p["budget_end"] - p["budget_head_start"],
            miss_mg=p["miss_price_mg"],
            miss_locals=p["miss_price_locals"],
            late_mg=p["accuracy_price_mg"] * float(self._local_miou),
            log_miss_span=math.log(p["miss_price_span"]),
            log_carbon_span=-math.log(p["carbon_share_at_zero"]),
            radio_mg_per_s=p["radio_share"] * float(self._tail_mg_per_s),
            tail_s=float(self._tail_s),
            hot_mg=0.0 if cold else p["hot_price_mg"],
            hot_locals=0.0 if cold else p["hot_price_locals"],
            warm_mg=0.0 if cold else p["heat_price_mg"],
            warm_locals=0.0 if cold else p["heat_price_locals"],
            warm_from=0.0 if self._hot is None else float(self._hot) - p["heat_reserve"],
            warm_width=p["heat_ramp"],
            placements=placements,
        )


class Constants(NamedTuple):
    """The constants of a single decision.

    ``placements`` holds for each: where its carbon and its node's load stand among the values looked up, the factor on
    carbon, the further one per unit of load, whether it is remote, and what its accuracy is worth at full wish (mg).
    """

    allowed_misses: float
    shield_misses: float
    budget_gain: float
    planned_start: float
    planned_slope: float
    miss_mg: float
    miss_locals: float
    late_mg: float
    log_miss_span: float
    log_carbon_span: float
    radio_mg_per_s: float
    tail_s: float
    hot_mg: float
    hot_locals: float
    warm_mg: float
    warm_locals: float
    warm_from: float
    warm_width: float
    placements: tuple[tuple[int, int, float, float, bool, float], ...]


def _columns(table: ObservationTable, names: list[str]) -> tuple[npt.NDArray[np.intp], Floats]:
    """Columns of features and their scales; what does not exist reads some column and is multiplied by zero."""
    columns = np.array([table.index.get(name, 0) for name in names])
    scales = [table.features[table.index[name]].scale if name in table.index else 0.0 for name in names]
    return columns, np.array(scales, np.float32)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -STEEPEST, STEEPEST)))


def _within(value: float) -> float:
    """The value, at most `STEEPEST` from zero; NaN stays NaN, which min and max would lose."""
    return STEEPEST if value > STEEPEST else -STEEPEST if value < -STEEPEST else value


def _share(value: float) -> float:
    return 0.0 if value < 0.0 else 1.0 if value > 1.0 else value
