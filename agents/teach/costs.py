"""What is counted in a label and in a return: carbon, misses at a price, and the scenario's other reward terms."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.observation import build_table
from ...envs.outcome import Outcome
from ...envs.schema import Scenario
from ..baselines import LOCAL_INDEX
from ..local_unit import local_units
from .settings import MissPriceConfig

STEEPEST = (
    3.0  # assumed, as `agents.training_env`: a budget makes a miss at most 20 times as dear or as cheap
)

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def check_weights(scenario: Scenario) -> None:
    """Refuse a site whose reward does not count carbon: labels are in mg of it.

    Raises:
        InputError: the weight of carbon is zero.
    """
    if scenario.reward.carbon_per_mg <= 0:
        raise InputError(
            f"Scenario '{scenario.name}': a teacher's labels are in mg of carbon, so reward.carbon_per_mg must be "
            f"above 0, got {scenario.reward.carbon_per_mg}. Train without `teacher`, or give carbon a weight."
        )


def reward_of(outcome: Outcome, multiplier: float | None, slo_miss: float) -> F64:
    """Reward of each episode's request (B,), unscaled.

    Args:
        outcome: of the requests.
        multiplier: of a constraint, reward per miss, in place of the scenario's weight; None: the scenario's holds.
        slo_miss: that weight; where the dial gives episodes weights of their own, the multiplier keeps their ratio.
    """
    if multiplier is None:
        return outcome.reward
    if slo_miss > 0:
        return np.asarray(
            outcome.reward + (multiplier / slo_miss - 1.0) * outcome.reward_slo_miss, np.float64
        )
    return np.asarray(outcome.reward - outcome.reward_slo_miss - multiplier * outcome.missed, np.float64)


def cost_mg(outcome: Outcome, miss_mg: npt.ArrayLike, carbon_per_mg: npt.ArrayLike) -> F64:
    """The reward's costs with another price of a miss (B,), mg of carbon.

    Args:
        outcome: of a request of each episode.
        miss_mg: price of a miss, mg; a number or one for each episode (B,).
        carbon_per_mg: weight of carbon in the reward, likewise; the dial may give each episode its own.
    """
    rest = outcome.reward - outcome.reward_slo_miss
    return np.asarray(outcome.missed * np.asarray(miss_mg) - rest / np.asarray(carbon_per_mg), np.float64)


class LabelUnit:
    """The unit of the labels at some states, as a factor on the mg that the other episodes' labels are in."""

    def __init__(self, scenario: Scenario, labels_in: Literal["mg", "local"]) -> None:
        """Find the feature of a local request's believed carbon; see `TeacherConfig.labels_in`."""
        table = build_table(scenario)
        self._local = labels_in == "local"
        self._column = table.index[f"{scenario.placements[LOCAL_INDEX].name}_carbon_mg"]

    def at(self, observation: F32) -> F64:
        """Units at the waiting requests of episodes that are played together (B, F) to (B,)."""
        return local_units(observation[:, self._column]) if self._local else np.ones(len(observation))


class MissPrice:
    """The price of a miss at each state of some tapes.

    Attributes:
        factor: on the price; the teacher moves it between rounds.
    """

    def __init__(self, scenario: Scenario, settings: MissPriceConfig) -> None:
        """Find the features of the budget; the factor starts at its setting."""
        self._settings = settings
        table = build_table(scenario)
        self._columns = [table.index["slo_budget_spent"], table.index["progress"]]
        self._scale = table.scale[self._columns]
        self.factor = settings.factor

    def by_tape(self, reward_mg: F64, dual_mg: F64 | None, danger: F64 | None = None) -> F64:
        """Price on each tape before the budget's share (B,), mg; see `MissPriceConfig`.

        Args:
            reward_mg: what the reward makes a miss cost (B,).
            dual_mg: dual of each tape's budget, NaN where there is none (B,); None where it was not asked for.
            danger: share of the price that holds on each tape (B,) (`danger_share`); None: all of it.
        """
        found = reward_mg
        if self._settings.source == "oracle":
            assert dual_mg is not None, "the oracle's price needs the oracle"
            known = dual_mg[np.isfinite(dual_mg)]
            found = np.where(np.isfinite(dual_mg), dual_mg, np.median(known) if known.size else reward_mg)
        share = 1.0 if danger is None else danger
        return np.maximum(self.factor * found * share, self._settings.lowest_mg)

    def at(self, tape_mg: F64, observation: F32) -> F64:
        """Price at the waiting request (B,), mg: higher while misses run ahead of the episode.

        Args:
            tape_mg: `by_tape` (B,).
            observation: encoded observation (B, F).
        """
        spent, progress = (observation[:, self._columns] * self._scale).T.astype(np.float64)
        steepness = np.clip(self._settings.budget_gain * (spent - progress), -STEEPEST, STEEPEST)
        return tape_mg * np.exp(steepness)

    def adapt(self, miss_rate: float, quantile: float) -> None:
        """Move the factor after a round: up where more was missed than the target, else down."""
        s = self._settings
        target = s.target_share * (1.0 - quantile)
        self.factor *= float(np.exp(s.adapt * np.clip(miss_rate / target - 1.0, -1.0, 1.0)))
