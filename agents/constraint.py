"""The SLO as a constraint: a PID controller moves the price of a missed request until its target is met.

Stooke, Achiam and Abbeel (2020), "Responsive safety in reinforcement learning by PID Lagrangian methods",
algorithm 2: lambda = max(0, Kp e + Ki sum(e) + Kd max(0, growth of the cost)). What is ours:

* The controller works on the logarithm of the multiplier, and the error is relative to the target. So the gains
  mean the same whether a site's carbon is dear or cheap (the right price of a miss is 1 at one site, 10 at another).
* The error is bounded, the integral is held between the multiplier's own bounds, and it waits while the error is
  beyond its bound but falling: the policy is still learning then, and no price makes it learn faster. Without this
  the integral winds up at the start of a run, and the policy is held where a miss costs more than anything else.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError
from ..envs.files import write_json
from ..envs.observation import ObservationTable
from ..envs.schema import Slo
from .training_settings import ConstraintConfig

SCHEMA = "carbonpilot/constraint/1"
FILE = "constraint.json"  # in a checkpoint's folder
STEEPEST = 2.0  # assumed: a budget makes a miss at most exp(2) = 7 times as dear or as cheap


class PidLagrangian:
    """Controller of the price of a missed request.

    Attributes:
        target: share of requests that may miss the SLO.
        budget_gain: how steeply a miss's weight rises with the budget spent ahead of time (`ConstraintConfig`).
        multiplier: present price of a miss, in units of reward.
        miss_rate: share of misses in the last complete window; None before it.
        weighted_rate: the same with each miss weighted by its episode's budget; this is what meets the target.
    """

    def __init__(
        self, settings: ConstraintConfig, slo: Slo, start: float | None = None, over_head: bool = False
    ) -> None:
        """Set the target and where to start.

        Args:
            settings: of the controller.
            slo: what it keeps.
            start: first multiplier (`constraint_start`); None: that of the settings, which then have one.
            over_head: whether the agent begins as a risk head.
        """
        start = settings.start if start is None else start
        assert start is not None, "the settings leave the start open"
        self._settings = settings
        self.target = settings.aim(over_head) * (1.0 - slo.quantile)
        self.budget_gain = settings.budget_gain
        self.multiplier = start
        self.miss_rate: float | None = None
        self.weighted_rate: float | None = None
        self._integral = math.log(start)
        self._smoothed: float | None = None  # measured share, earlier windows included
        self._missed, self._weighted, self._requests = 0, 0.0, 0

    def count(self, missed: int, weighted: float, requests: int) -> None:
        """Add requests of the present window.

        Args:
            missed: how many of them missed the SLO.
            weighted: the sum of these misses' weights.
            requests: how many there were.
        """
        self._missed += missed
        self._weighted += weighted
        self._requests += requests

    def end_window(self) -> bool:
        """Move the multiplier if the window is complete; returns whether it was."""
        if self._requests < self._settings.update_steps:
            return False
        self.miss_rate = self._missed / self._requests
        self.weighted_rate = self._weighted / self._requests
        self._update(self.weighted_rate)
        self._missed, self._weighted, self._requests = 0, 0.0, 0
        return True

    def _update(self, rate: float) -> None:
        s = self._settings
        before = self._smoothed
        now = rate if before is None else s.smoothing * before + (1.0 - s.smoothing) * rate
        error = min(now / self.target - 1.0, s.error_limit)
        growth = 0.0 if before is None else min(max(0.0, now - before) / self.target, s.error_limit)
        learning = error == s.error_limit and before is not None and now < before
        if not learning:
            self._integral = self._bounded(self._integral + s.ki * error)
        self.multiplier = math.exp(self._bounded(self._integral + s.kp * error + s.kd * growth))
        self._smoothed = now

    def _bounded(self, logarithm: float) -> float:
        s = self._settings
        return min(max(logarithm, math.log(s.lowest)), math.log(s.highest))

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as plain data."""
        return {
            "multiplier": self.multiplier,
            "integral": self._integral,
            "miss_rate": self.miss_rate,
            "weighted_rate": self.weighted_rate,
            "smoothed": self._smoothed,
            "window": {"missed": self._missed, "weighted": self._weighted, "requests": self._requests},
        }

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint's folder."""
        write_json(folder / FILE, {"schema": SCHEMA, **self.state()})

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint's state.

        Raises:
            InputError: the checkpoint holds none, or it is damaged.
        """
        file = folder / FILE
        try:
            state: Any = json.loads(file.read_text())
            self.multiplier, self._integral = float(state["multiplier"]), float(state["integral"])
            self.miss_rate, self.weighted_rate = state["miss_rate"], state["weighted_rate"]
            self._smoothed, window = state["smoothed"], state["window"]
            self._missed, self._requests = int(window["missed"]), int(window["requests"])
            self._weighted = float(window["weighted"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{file} does not hold the constraint's state ({error!r}). Likely cause: it was edited or removed. "
                f"Remove {folder} to go on from the checkpoint before it."
            ) from None


def budget_weight(
    observation: npt.NDArray[np.float32], table: ObservationTable, gain: float
) -> npt.NDArray[np.float32]:
    """How much a miss counts by the budget as the device knew it when it decided (B,).

    Args:
        observation: encoded, (B, F).
        table: of the observation.
        gain: ``budget_gain`` of the settings.
    """
    spent, progress = table.index["slo_budget_spent"], table.index["progress"]
    ahead = observation[:, spent] * table.scale[spent] - observation[:, progress] * table.scale[progress]
    return np.exp(np.clip(gain * ahead, -STEEPEST, STEEPEST)).astype(np.float32)
