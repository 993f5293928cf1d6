"""The single environment: the simulator with a batch of one, behind Gymnasium's interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from .errors import InputError
from .masked_space import AllowedPlacements
from .outcome import REWARD_TERMS
from .records import OUTCOME
from .render import EpisodeView
from .schema import Scenario
from .simulator import Simulator
from .tape import Part

INFO_KEYS = (
    "latency_ms", "device_wait_ms", "head_ms", "link_wait_ms", "upload_ms", "rtt_ms", "recovery_ms", "node_wait_ms",
    "service_ms", "missed", "energy_j", "carbon_mg", "carbon_mg_marginal", "carbon_mg_attributional", "accuracy_miou",
)  # fmt: skip

_NAMES = OUTCOME.names or ()
# Name and position among the record's fields, all of eight bytes.
INFO_FIELDS = [(key, _NAMES.index(key)) for key in INFO_KEYS]
REWARD_FIELDS = [(key, _NAMES.index(f"reward_{key}")) for key in REWARD_TERMS]
_PLACEMENT, _REWARD = _NAMES.index("placement"), _NAMES.index("reward")


class PlacementEnv(gym.Env):
    """Where should each inference request run?

    ## Description
    A camera device must answer every frame within a latency objective (SLO). Each request can run on the
    device or on one of several servers; network, server load and grid carbon intensity change all the time.
    One step places one request.

    ## Action Space
    `Discrete(P)`: the placement, a (node, model) pair of the scenario; 0 is the device itself.
    `action_masks()` tells which placements are reachable in this episode; 0 always is. Choosing another one is an
    `InputError` here, while in a batch the device does the work; sampling the space gives reachable ones only.

    ## Observation Space
    `Box(F,)` float32: the scenario's observation table (`env.unwrapped.table`), each feature clipped to its
    range and divided by its scale. `docs/observation.md` lists them. It holds telemetry only, never tape truth.

    ## Rewards
    Minus the weighted sum of named costs: carbon (mg of the scenario's account), a miss of the SLO (1 or 0),
    latency above the SLO (s), accuracy below the best model's (mIoU points; an answer that misses the SLO has none).
    Weights are in the scenario, and move with the wishes of the episode (`docs/dial.md`).

    ## Starting State
    Empty queues and a cool device at a random hour; the tape is drawn from the seed of `reset`.

    ## Episode End
    Never terminated. Truncated after the scenario's number of requests, or when a trace ends.

    ## Information
    - `latency_ms` and its terms `device_wait_ms`, `head_ms`, `link_wait_ms`, `upload_ms`, `rtt_ms`, `recovery_ms`,
      `node_wait_ms`, `service_ms`
    - `missed`: whether the latency exceeded the SLO
    - `energy_j`, `carbon_mg`: of the scenario's account; `carbon_mg_marginal`, `carbon_mg_attributional`: of both
    - `accuracy_miou`: expected accuracy of the model that served the request
    - `placement`: its name
    - `rewards`: the weighted reward terms by name; their sum is the reward
    - `action_mask`: allowed placements (P,)

    ## Arguments
    - `scenario`: shipped name, path of a YAML file, or a loaded scenario
    - `part`: "training" or "evaluation" tapes
    - `traces_dir`: trace folder for scenarios that read one
    - `render_mode`: "rgb_array" or "ansi"

    ## Version History
    * v0: first version
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's convention

    def __init__(
        self,
        scenario: str | Path | Scenario = "metro",
        part: Part = "training",
        traces_dir: str | Path | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Load the scenario; the first tape is drawn by `reset`."""
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise InputError(
                f"render_mode must be one of {self.metadata['render_modes']}, got '{render_mode}'."
            )
        self.simulator = Simulator(scenario, 1, part, traces_dir)
        self.scenario, self.table = self.simulator.scenario, self.simulator.table
        self.placement_names = self.simulator.placement_names
        self.observation_space = spaces.Box(self.table.low, self.table.high, dtype=np.float32)
        count, absences = len(self.placement_names), any(n.availability for n in self.scenario.nodes.values())
        self._allowed = AllowedPlacements(count) if absences else None
        self.action_space = self._allowed or spaces.Discrete(count)
        self.render_mode = render_mode
        self._view = None if render_mode is None else EpisodeView(self.scenario)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Draw a new tape and return its first observation; the same seed gives the same tape."""
        super().reset(seed=seed)
        tape_seed = self.np_random.integers(0, 2**62, dtype=np.int64)
        observation = self.simulator.reset([tape_seed])[0]
        if self._allowed is not None:
            self._allowed.allow(self.simulator.masks()[0])
        if self._view is not None:
            self._view.clear()
        return observation, {"action_mask": self.action_masks()}

    def step(
        self, action: int | np.integer
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Place the waiting request.

        Raises:
            InputError: the mask forbids the placement.
        """
        if self._allowed is not None:
            self._refuse_masked(int(action))
        result = self.simulator.step(action)
        records = result.outcome.records
        if self._view is not None:
            self._view.add(records.view(np.recarray)[0])
        values = records.item()  # plain Python numbers, all at once
        return result.observation[0], values[_REWARD], False, bool(result.truncated[0]), self._info(values)

    def _refuse_masked(self, action: int) -> None:
        """Refuse a placement whose node is absent in this episode."""
        mask = self.simulator.masks()[0]
        if 0 <= action < mask.size and not mask[action]:
            placement = self.scenario.placements[action]
            allowed = [name for name, may in zip(self.placement_names, mask, strict=True) if may]
            raise InputError(
                f"Placement {action} ('{placement.name}') is masked: its node '{placement.node}' is absent in this "
                f"episode. Allowed: {', '.join(allowed)}. Ask `action_masks()` before each step, or train with an "
                "algorithm that takes masks."
            )

    def _info(self, values: tuple) -> dict[str, Any]:
        info: dict[str, Any] = {key: values[i] for key, i in INFO_FIELDS}
        info["missed"] = bool(info["missed"])
        info["placement"] = self.placement_names[values[_PLACEMENT]]
        info["rewards"] = {key: values[i] for key, i in REWARD_FIELDS}
        info["action_mask"] = self.action_masks()
        return info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Allowed placements (P,)."""
        return self.simulator.masks()[0].copy()

    def render(self) -> npt.NDArray[np.uint8] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The episode so far: an image (H, W, 3) or a text, by `render_mode`."""
        if self._view is None:
            return None
        return self._view.image() if self.render_mode == "rgb_array" else self._view.text()
