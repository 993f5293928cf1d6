"""What stands between the simulator and a learner: checks, what is forbidden, the price of a miss, memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack

from ..envs.errors import CarbonPilotError
from ..envs.sb3_vec_env import Sb3VecEnv
from .constraint import PidLagrangian, budget_weight
from .teach.baseline import TapeBaseline
from .training_settings import PpoConfig, TrainingConfig

F32 = npt.NDArray[np.float32]
LOCAL_INDEX = 0


class CheckedEnv(VecEnvWrapper):
    """Refuses to train on what a simulator must never give: an observation that is no number, an empty mask."""

    venv: Sb3VecEnv

    def reset(self) -> Any:
        """Start all episodes."""
        return self._checked(self.venv.reset())

    def step_wait(self) -> Any:
        """Step and check."""
        observation, reward, done, info = self.venv.step_wait()
        if not np.isfinite(reward).all():
            raise CarbonPilotError(f"The reward of environment {_first(~np.isfinite(reward))} is no number.")
        return self._checked(observation), reward, done, info

    def _checked(self, observation: Any) -> F32:
        finite = np.isfinite(observation)
        if not finite.all():
            names = self.venv.simulator.table.names
            wrong = [names[i] for i in np.flatnonzero(~finite.all(axis=0))]
            raise CarbonPilotError(
                f"Environment {_first(~finite.all(axis=1))} gave an observation that is no number: "
                f"{', '.join(wrong)}. Nothing was learned from it. Likely cause: a trace or scenario with an "
                "impossible value; check it with: carbonpilot traces check FILE"
            )
        some = self.venv.action_masks().any(axis=1)
        if not some.all():
            raise CarbonPilotError(
                f"Environment {_first(~some)} allows no placement at all; expected at least local, "
                "which is always reachable. Likely cause: a simulator or wrapper that masks the device."
            )
        return observation


class LocalInstead(VecEnvWrapper):
    """Runs a request on the device where the learner asks for what the mask forbids.

    For learners that cannot mask (PPO, RecurrentPPO): they see what local gives and never a forbidden placement.
    """

    def reset(self) -> Any:
        """Start all episodes."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Pass on the allowed actions."""
        masks = np.stack(self.venv.env_method("action_masks"))
        allowed = np.take_along_axis(masks, np.asarray(actions).reshape(-1, 1), axis=1)[:, 0]
        self.venv.step_async(np.where(allowed, actions, LOCAL_INDEX))

    def step_wait(self) -> Any:
        """Step."""
        return self.venv.step_wait()


class PricedMisses(VecEnvWrapper):
    """The reward that the agent sees: scaled, and with the constraint's multiplier as the price of a miss.

    ``reward = rest - multiplier x costs``, where ``rest`` holds the reward's other terms and ``costs`` is the
    scale where a request missed the SLO. ``info`` and with it every metric stays in its own unit.

    Attributes:
        costs: of the last step (B,); None without a constraint, then the reward's own weight holds.
        rest: of the last step (B,).
        weights: what a miss of the last step counts by its episode's budget (B,).
    """

    def __init__(self, venv: VecEnv, site: Sb3VecEnv, scale: float, constraint: PidLagrangian | None) -> None:
        """Wrap an environment.

        Args:
            venv: what is wrapped.
            site: the simulator's adapter inside it.
            scale: factor on the whole reward.
            constraint: gives the price of a miss, and is told who missed; None to leave the reward's terms.
        """
        super().__init__(venv)
        self._site, self._scale, self._constraint = site, np.float32(scale), constraint
        self._before: Any = None
        self.costs: F32 | None = None
        self.rest: F32 = np.zeros(site.num_envs, np.float32)
        self.weights: F32 = np.ones(site.num_envs, np.float32)

    @property
    def multiplier(self) -> float:
        """Present price of a miss; 0 without a constraint, since then the rest holds it already."""
        return 0.0 if self._constraint is None else self._constraint.multiplier

    @property
    def missed(self) -> npt.NDArray[np.bool_]:
        """Who missed the SLO in the last step (B,)."""
        assert self._site.outcome is not None, "only known after a step"
        return self._site.outcome.missed

    def reset(self) -> Any:
        """Start all episodes."""
        self._before = self.venv.reset()
        return self._before

    def step_wait(self) -> Any:
        """Step and price."""
        observation, reward, done, info = self.venv.step_wait()
        self.rest = reward * self._scale
        if self._constraint is not None:
            assert self._site.outcome is not None, "a step has an outcome"
            own = self._site.outcome.reward_terms["slo_miss"].astype(np.float32)
            self.rest = (reward - own) * self._scale
            self.weights = self._budget_factor()
            self.costs = self._misses(own) * self.weights * self._scale
            reward = self.rest - np.float32(self.multiplier) * self.costs
        else:
            reward = self.rest
        self._before = observation
        return observation, reward, done, info

    def _misses(self, own: F32) -> F32:
        """Misses (B,), each counted by the episode's wish for latency: one at the scenario's own (`envs.dial`).

        ``own`` is the reward's term for misses (B,), which has that weight.
        """
        weight = self._site.scenario.reward.slo_miss
        counted = -own / weight if weight > 0 else self.missed
        return np.asarray(counted, np.float32)

    def _budget_factor(self) -> F32:
        """How much a miss counts by the budget as the device knew it when it decided (B,)."""
        assert self._constraint is not None
        return budget_weight(self._before, self._site.simulator.table, self._constraint.budget_gain)


def training_env(
    site: Sb3VecEnv, settings: TrainingConfig, masks_itself: bool, constraint: PidLagrangian | None
) -> VecEnv:
    """Wrap the simulator for a learner.

    Args:
        site: the simulator's adapter.
        settings: of the algorithm.
        masks_itself: whether the algorithm never chooses what the mask forbids.
        constraint: the SLO's constraint, or None for the scenario's fixed weight.
    """
    env: VecEnv = CheckedEnv(site)
    if not masks_itself:
        env = LocalInstead(env)
    env = PricedMisses(env, site, settings.reward_scale, constraint)
    if isinstance(settings, PpoConfig) and settings.tape_baseline:
        env = TapeBaseline(env, site, settings.reward_scale, constraint is not None)
    return VecFrameStack(env, settings.stack) if settings.stack > 1 else env


def _first(wrong: Any) -> int:
    return int(np.flatnonzero(wrong)[0])
