"""The native vector environment: many episodes stepped by array arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from .placement_env import INFO_FIELDS, REWARD_FIELDS, PlacementEnv
from .schema import Scenario
from .simulator import Simulator
from .tape import Part


class PlacementVectorEnv(gym.vector.VectorEnv):
    """`PlacementEnv`, ``num_envs`` at a time, by the same simulator (see `PlacementEnv` for the spaces).

    Sub-environment i of ``reset(seed=s)`` runs the tapes that a single environment runs after
    ``reset(seed=s + i)``. Episodes restart in the step after their end (`AutoresetMode.NEXT_STEP`).
    From 512 sub-environments on, two threads step them (`CARBONPILOT_THREADS=1` in the environment: one).
    A placement that the mask forbids is done by the device instead, and `placement` in the information says so: an
    algorithm that knows no masks can be trained, and its choice costs what the device costs.
    Information values are arrays (num_envs,) under the single environment's keys; `rewards` is a dict of them.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Path | Scenario = "metro",
        part: Part = "training",
        traces_dir: str | Path | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Load the scenario; the first tapes are drawn by `reset`."""
        if render_mode is not None:
            raise ValueError("PlacementVectorEnv does not render; use PlacementEnv for pictures.")
        self.num_envs = num_envs
        self.simulator = Simulator(scenario, num_envs, part, traces_dir)
        self.scenario, self.table = self.simulator.scenario, self.simulator.table
        self.placement_names = self.simulator.placement_names
        self.render_mode = None
        table = self.table
        self.single_observation_space = spaces.Box(table.low, table.high, dtype=np.float32)
        self.single_action_space = spaces.Discrete(len(self.placement_names))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._over = np.zeros(num_envs, dtype=bool)
        self._any_over = False
        self._terminated = np.zeros(num_envs, dtype=bool)
        self._generators: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Draw new tapes for all sub-environments."""
        self._seed(seed)
        return self._start(overwrite=False)

    def _start(self, overwrite: bool) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start all sub-environments afresh, over the present tape or not."""
        seeds = [self._next_seed(i) for i in range(self.num_envs)]
        observation = self.simulator.reset(seeds, overwrite)
        self._over[:], self._any_over = False, False
        return observation, {"action_mask": self.simulator.masks().copy()}

    def _seed(self, seed: int | list[int | None] | None) -> None:
        """Give each sub-environment a generator of its own, as single environments have."""
        if seed is None and self._generators:
            return
        seeds = [None] * self.num_envs if seed is None else seed
        if isinstance(seeds, int | np.integer):
            seeds = [int(seeds) + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ValueError(f"reset needs one seed, or {self.num_envs} of them, got {len(seeds)}.")
        old = self._generators or [None] * self.num_envs
        self._generators = [
            g if s is None and g is not None else np_random(s)[0] for s, g in zip(seeds, old, strict=True)
        ]

    def _next_seed(self, i: int | np.intp) -> int:
        """What `PlacementEnv` draws by ``integers(0, 2**62)``: PCG64's upper bits, without the call's cost."""
        return self._generators[i].bit_generator.random_raw() >> 2

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[
        npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict
    ]:
        """Place the waiting request of every sub-environment; those that were over start afresh instead."""
        simulator = self.simulator
        if self._any_over and self._over.all():
            observation, info = self._start(overwrite=True)  # the tape is this environment's own
            return (
                observation,
                np.zeros(self.num_envs),
                self._terminated.copy(),
                np.zeros(self.num_envs, bool),
                info,
            )
        result = simulator.step(actions)
        o = result.outcome
        columns = o.columns()
        info: dict[str, Any] = {key: columns[i] for key, i in INFO_FIELDS}
        info["missed"] = o.missed
        info["placement"] = o.placement
        info["rewards"] = {key: columns[i] for key, i in REWARD_FIELDS}
        observation, reward, truncated = result.observation, result.reward, result.truncated
        if self._any_over:
            restarted = np.flatnonzero(self._over)
            observation = simulator.reset_columns(restarted, [self._next_seed(i) for i in restarted])
            reward, truncated = reward.copy(), truncated.copy()
            reward[restarted], truncated[restarted] = 0.0, False
        info["action_mask"] = simulator.masks().copy()  # of the requests that wait now
        self._over, self._any_over = truncated, np.count_nonzero(truncated) > 0
        return observation, reward, self._terminated.copy(), truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """End the simulator's helper thread (called by `close`)."""
        self.simulator.close()

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Allowed placements (num_envs, P)."""
        return self.simulator.masks()


def make_vector_env(num_envs: int = 1, **kwargs: Any) -> PlacementVectorEnv:
    """Entry point for ``gymnasium.make_vec(..., vectorization_mode="vector_entry_point")``."""
    return PlacementVectorEnv(num_envs, **kwargs)


__all__ = ["PlacementEnv", "PlacementVectorEnv", "make_vector_env"]
