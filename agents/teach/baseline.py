"""A baseline that the tape alone determines, to cut the variance of policy gradients.

Mao, Venkatakrishnan, Schwarzkopf and Alizadeh (2019), "Variance reduction for reinforcement learning in input-driven
environments": where what comes from outside (here links, loads, grids, payloads) makes returns scatter more than the
actions do, a baseline may depend on all of it, future included, and the gradient's expectation stays, because what
comes from outside does not depend on the action. Instead of a value learned for each input sequence we have the tape:
from each request's reward we take what the same request gives on hindsight's own way through the same tape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from ...envs.sb3_vec_env import Sb3VecEnv
from ...envs.simulator import Simulator
from ...oracle.greedy import radio_carbon_mg
from .costs import reward_of

F64 = npt.NDArray[np.float64]


class HindsightReference:
    """Greedy hindsight on the tapes that another simulator plays: what it gets, no placement there can change.

    It has queues, heat and radio of its own and places each request where the reward is best, the radio's energy left
    out of the choice (as `oracle-warm-radio` does: who counts it would never send the first request).
    """

    def __init__(self, simulator: Simulator) -> None:
        """Start with the simulator, at the first request of all of its episodes."""
        self._simulator = simulator
        self._shadow = Simulator(simulator.scenario, simulator.batch, simulator.part, simulator.traces_dir)
        self._shadow.reset_tape(simulator.tape)

    def restart(self, episodes: npt.NDArray[np.intp]) -> None:
        """Follow the simulator, in which these episodes have started afresh."""
        if len(episodes) == self._simulator.batch:
            self._shadow.reset_tape(self._simulator.tape)
        else:
            self._shadow.restart(episodes)

    def rewards(self, multiplier: float | None = None) -> F64:
        """Reward of the next request of each episode (B,), unscaled; the reference then goes on to the one after.

        Args:
            multiplier: of a constraint, in place of the scenario's price of a miss.
        """
        outcomes = self._shadow.preview()
        slo_miss = self._shadow.scenario.reward.slo_miss
        rewards = np.stack([reward_of(o, multiplier, slo_miss) for o in outcomes])
        judged = rewards + self._shadow.state.episodes.weight_carbon * radio_carbon_mg(outcomes)
        choice = np.where(self._shadow.masks().T, judged, -np.inf).argmax(axis=0)
        self._shadow.step(choice)
        return np.take_along_axis(rewards, choice[None], axis=0)[0]

    def close(self) -> None:
        """End the helper thread, if there is one."""
        self._shadow.close()


class TapeBaseline(VecEnvWrapper):
    """Takes the reference from the reward that the agent sees; ``info`` and with it every metric stays as it is.

    Attributes:
        baseline: what was taken in the last step (B,), scaled.
    """

    def __init__(self, venv: VecEnv, site: Sb3VecEnv, scale: float, constrained: bool) -> None:
        """Wrap an environment.

        Args:
            venv: what is wrapped; gives rewards that are scaled, and has a ``multiplier`` where constrained.
            site: the simulator's adapter inside it.
            scale: factor on the reward.
            constrained: whether the multiplier stands in place of the scenario's price of a miss.
        """
        super().__init__(venv)
        self._site, self._scale, self._constrained = site, scale, constrained
        self._reference: HindsightReference | None = None
        self.baseline: F64 = np.zeros(site.num_envs)

    def reset(self) -> Any:
        """Start all episodes."""
        observation = self.venv.reset()
        self._reference = HindsightReference(self._site.simulator)
        return observation

    def step_wait(self) -> Any:
        """Step and take the baseline off."""
        assert self._reference is not None, "reset comes before the first step"
        multiplier = float(self.venv.multiplier) if self._constrained else None  # pyright: ignore[reportAttributeAccessIssue]
        self.baseline = self._scale * self._reference.rewards(multiplier)
        observation, reward, done, info = self.venv.step_wait()
        if done.any():
            self._reference.restart(np.flatnonzero(done))
        return observation, (reward - self.baseline).astype(np.float32), done, info
