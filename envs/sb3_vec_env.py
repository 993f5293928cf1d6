"""The simulator as a stable-baselines3 VecEnv: episodes restart in the step they end, as SB3 expects."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from .outcome import Outcome
from .recorder import Recorder
from .schema import Scenario
from .simulator import Simulator
from .tape import Part


class Sb3VecEnv(VecEnv):
    """``num_envs`` episodes of a scenario for SB3; metrics of a finished episode stand in its info.

    A placement that the mask forbids is done by the device instead.

    Args:
        scenario: shipped name, path or loaded scenario.
        num_envs: episodes stepped together.
        seed: all tapes follow from it.
        part: "training" or "evaluation" tapes.
        traces_dir: trace folder for scenarios that read one.
        phases: groups of episodes that are spread evenly over an episode's length; 1: all start together.
            To get there each group but the first is cut off once (no metrics: it was no whole episode).

    Attributes:
        simulator: what is adapted.
        outcome: what the last step gave each episode (B,); None before the first step.
    """

    def __init__(
        self, scenario: str | Path | Scenario, num_envs: int, seed: int, part: Part = "training",
        traces_dir: str | Path | None = None, phases: int = 1,
    ) -> None:  # fmt: skip
        """Prepare the simulator and the stream of tape seeds."""
        self.simulator = Simulator(scenario, num_envs, part, traces_dir)
        table = self.simulator.table
        self.render_mode = None
        super().__init__(
            num_envs,
            spaces.Box(table.low, table.high, dtype=np.float32),
            spaces.Discrete(len(self.simulator.placement_names)),
        )
        self.scenario = self.simulator.scenario
        self._recorder = Recorder(self.scenario, num_envs)
        self._phases = min(phases, num_envs, self.simulator.requests)
        self._steps = 0  # since `reset`
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self.outcome: Outcome | None = None
        self._actions = np.zeros(num_envs, dtype=np.int64)
        self._no_info: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        self._start = time.perf_counter()

    def _draw_seeds(self, count: int) -> npt.NDArray[np.int64]:
        return self._rng.integers(0, 2**62, count)

    def reset(self) -> npt.NDArray[np.float32]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start all episodes afresh (B, F)."""
        if self._seeds[0] is not None:  # SB3's set_random_seed came before this reset
            self._rng = np.random.Generator(np.random.SFC64(self._seeds[0]))
        self._recorder.position[:] = 0
        self._steps = 0
        observation = self.simulator.reset(self._draw_seeds(self.num_envs))
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: npt.NDArray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """Place the waiting requests; finished episodes restart at once."""
        result = self.simulator.step(self._actions)
        self.outcome = result.outcome
        self._recorder.add(result.outcome)
        observation, infos, done = result.observation, self._no_info, result.truncated
        self._steps += 1
        cut = self._cut() & ~done
        if done.any() or cut.any():
            infos = self._infos(observation, done, cut)
            done = done | cut
            over = np.flatnonzero(done)
            observation = self.simulator.reset_columns(over, self._draw_seeds(over.size))
        return observation, result.reward.astype(np.float32), done, infos

    def _infos(
        self, observation: npt.NDArray[np.float32], done: npt.NDArray[np.bool_], cut: npt.NDArray[np.bool_]
    ) -> list[dict[str, Any]]:
        """What SB3 wants to know of the episodes that are over, and the metrics of the whole ones among them."""
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done | cut):
            infos[i] = {"terminal_observation": observation[i].copy(), "TimeLimit.truncated": True}
        whole, elapsed = np.flatnonzero(done), round(time.perf_counter() - self._start, 3)
        for i, metrics in zip(whole, self._recorder.close(whole), strict=True):
            infos[i]["episode"] = {"r": metrics["return"], "l": metrics["requests"], "t": elapsed}
            infos[i]["episode_metrics"] = metrics
        self._recorder.position[cut] = 0
        return infos

    def _cut(self) -> npt.NDArray[np.bool_]:
        """The group of episodes that is cut off now (B,), so that the groups are spread over the episode."""
        group = self._steps * self._phases // self.simulator.requests
        before = (self._steps - 1) * self._phases // self.simulator.requests
        if group == before or group >= self._phases or self._phases == 1:
            return np.zeros(self.num_envs, dtype=bool)
        return np.arange(self.num_envs) * self._phases // self.num_envs == group

    def close(self) -> None:
        """End the simulator's helper thread, if there is one."""
        self.simulator.close()

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Allowed placements (B, P)."""
        return self.simulator.masks()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Attribute of this adapter, or of the simulator, for each index."""
        source = self if hasattr(self, attr_name) else self.simulator
        return [getattr(source, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the adapter (it is shared by all episodes)."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method per index; only `action_masks` exists per episode."""
        if method_name != "action_masks":
            raise AttributeError(f"Sb3VecEnv has no per-episode method '{method_name}', only 'action_masks'.")
        masks = self.simulator.masks()
        return [masks[i] for i in self._indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Episodes are not wrapped one by one."""
        return [False] * len(self._indices(indices))

    def _indices(self, indices: int | Iterable[int] | None) -> list[int]:
        if indices is None:
            return list(range(self.num_envs))
        return [indices] if isinstance(indices, int) else list(indices)


def make_sb3_env(
    scenario: str | Path | Scenario, num_envs: int, seed: int, part: Part = "training",
    traces_dir: str | Path | None = None, phases: int = 1,
) -> Sb3VecEnv:  # fmt: skip
    """Build the vector environment that agents train in; arguments as those of `Sb3VecEnv`."""
    return Sb3VecEnv(scenario, num_envs, seed, part, traces_dir, phases)
