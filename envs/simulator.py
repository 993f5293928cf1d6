"""The simulator: tapes, dynamics and observations of a batch of episodes, without gymnasium."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .compiling import COMPILED, entry_point
from .constants import Constants
from .errors import InputError
from .helper_thread import HelperThread
from .kernel import observe_all, preview_all, step_all
from .outcome import Outcome
from .records import OUTCOME, SENDING
from .scenario import load_scenario, scenario_sha256
from .schema import Scenario
from .site import Site
from .state import State
from .tape import Part, Tape, draw_tape
from .threads import allowed_threads

ABREAST = 64  # episodes whose look-ups are made together: many hide the memory's latency, few stay in cache


@dataclass
class StepResult:
    """What a step gives back: observation (B, F), reward (B,), truncated (B,) and the outcome."""

    observation: npt.NDArray[np.float32]
    reward: npt.NDArray[np.float64]
    truncated: npt.NDArray[np.bool_]
    outcome: Outcome


_STEP: list[Callable[..., None]] = []
_PREVIEW: list[Callable[..., None]] = []


def _compiled_step(arguments: tuple, *outputs: npt.NDArray[Any]) -> None:
    """`kernel.step_all`; its argument types never change, so they are looked up once a process."""
    if not _STEP:
        _STEP.append(entry_point(step_all, (*arguments, *outputs)))
    _STEP[0](*arguments, *outputs)


def _compiled_preview(*arguments: Any) -> None:
    """`kernel.preview_all`, looked up once a process as well: it is called for every placement."""
    if not _PREVIEW:
        _PREVIEW.append(entry_point(preview_all, arguments))
    _PREVIEW[0](*arguments)


@lru_cache(maxsize=16)
def _site(sha256: str, scenario_json: str) -> tuple[Site, Constants]:
    site = Site(Scenario.model_validate_json(scenario_json))
    return site, Constants(site)


def site_for(scenario: Scenario) -> Site:
    """The constants of a scenario, worked out once per process."""
    return _site(scenario_sha256(scenario), scenario.model_dump_json(by_alias=True))[0]


class Simulator:
    """Episodes of one scenario, stepped together.

    Batches of 512 and more are worked on by two threads where there are two cores and numba
    (`threads.allowed_threads`); results do not depend on it.

    Args:
        scenario: shipped name, path of a YAML file, or a loaded scenario.
        batch: number of episodes.
        part: "training" or "evaluation" part of seeds, hours and traces.
        traces_dir: trace folder for scenarios that read one.
    """

    def __init__(
        self,
        scenario: str | Path | Scenario,
        batch: int,
        part: Part = "training",
        traces_dir: str | Path | None = None,
    ) -> None:
        """Prepare the constants; `reset` draws the first tapes."""
        if batch < 1:
            raise InputError(f"batch must be at least 1, got {batch}.")
        if not isinstance(scenario, Scenario):
            scenario = load_scenario(str(scenario))
        self.scenario, self.batch = scenario, batch
        self.part: Part = part
        self.traces_dir = None if traces_dir is None else Path(traces_dir)
        self.site, self.constants = _site(scenario_sha256(scenario), scenario.model_dump_json(by_alias=True))
        self.table = self.site.table
        self.placement_names = self.site.placement_names
        self.requests = scenario.episode.requests
        table = self.table
        self._encoding = (np.float32(1.0) / table.scale, table.low, table.high)
        self._shape = (batch, len(table))
        self._sendings = np.zeros(min(batch, ABREAST), SENDING).view(np.recarray)
        self._helper: HelperThread | None = None
        if allowed_threads(batch) > 1:
            self._helper = HelperThread(batch, ABREAST, len(table))
        self._all_allowed = np.ones((batch, len(self.placement_names)), dtype=bool)
        self._all_allowed.flags.writeable = False
        self._allowed = self._all_allowed
        self._rows = np.arange(batch)

    def reset(self, seeds: npt.ArrayLike, overwrite: bool = False) -> npt.NDArray[np.float32]:
        """Start fresh episodes.

        Args:
            seeds: one per episode (B,).
            overwrite: draw the new tape over the present one, which nobody else may need any more.

        Returns:
            the first observation (B, F).
        """
        seeds = np.asarray(seeds, dtype=np.uint64).reshape(-1)
        if seeds.size != self.batch:
            raise InputError(f"reset needs {self.batch} seeds, one per episode, got {seeds.size}.")
        tape, state = (self.tape, self.state) if overwrite else (None, None)
        self.tape = draw_tape(self.site, seeds, self.part, self.traces_dir, tape)
        self.state = State(self.site, self.constants, self.tape, state)
        return self._look()

    def reset_tape(self, tape: Tape) -> npt.NDArray[np.float32]:
        """Start fresh episodes on a given tape and return the first observation (B, F)."""
        self.tape = tape
        self.state = State(self.site, self.constants, tape)
        return self._look()

    def reset_columns(self, episodes: npt.NDArray[np.intp], seeds: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Start some episodes of the batch afresh and return all waiting observations (B, F)."""
        if len(episodes) == self.batch:
            return self.reset(seeds)
        fresh = draw_tape(self.site, seeds, self.part, self.traces_dir)
        self.tape.copy_columns(fresh, episodes)
        self.state.copy_episodes(State(self.site, self.constants, fresh), episodes)
        return self._look()

    def restart(self, episodes: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Start some episodes of the present tape again and return all waiting observations (B, F)."""
        fresh = State(self.site, self.constants, self.tape)
        self.state.copy_episodes(fresh, episodes, episodes)
        return self._look()

    def _look(self) -> npt.NDArray[np.float32]:
        """Bind tape and state to the compiled functions and encode the waiting requests (B, F)."""
        t, c = self.tape, self.constants
        self._allowed = self._all_allowed if t.allowed is None else np.ascontiguousarray(t.allowed.T)
        self._allowed.flags.writeable = False
        arrivals = np.zeros((1, 1)) if t.arrivals_ms is None else t.arrivals_ms
        tape = (t.rows, arrivals, t.payload_kb, t.words, t.valid_rows, t.warmup)
        # Fixed types: compiled code is called without looking at them again.
        wanted = (np.float32, np.float64, np.float32, np.uint32, np.int64)
        tape = (
            *(np.ascontiguousarray(a, dtype=d) for a, d in zip(tape, wanted, strict=False)),
            int(t.warmup),
        )
        moving = (tape, self.state.arrays, self._sendings)
        self._preview_arguments = (c.sites, c.placements, c.tables, *moving)
        self._arguments = (c.sites, c.placements, c.tables, self._encoding, *moving)
        out = np.empty((self.batch, len(self.table)), dtype=np.float32)
        observe_all(c.sites, c.placements, self._encoding, tape, self.state.arrays, out)
        return out

    def preview(self) -> list[Outcome]:
        """What each placement would give the waiting requests now; nothing changes.

        A placement that the mask forbids gives what the device gives, as in `step`.
        """
        outcomes: list[Outcome] = []
        for a in range(len(self.placement_names)):
            records = np.zeros(self.batch, OUTCOME)
            filled = (
                records if COMPILED else records.view(np.recarray)
            )  # plain Python needs the fields as attributes
            _compiled_preview(*self._preview_arguments, a, filled)
            if self.tape.allowed is not None:
                forbidden = ~self._allowed[:, a]
                records[forbidden] = outcomes[0].records[forbidden] if outcomes else records[forbidden]
            outcomes.append(Outcome(records))
        return outcomes

    def step(self, actions: npt.ArrayLike) -> StepResult:
        """Place the waiting request of every episode and return what follows, in fresh arrays.

        Args:
            actions: placements (B,), integers. Every episode must have a waiting request. Where the mask forbids a
                placement, the device does the work, as in the runtime; the outcome's ``placement`` says so.
        """
        actions = np.ascontiguousarray(actions, dtype=np.int64).reshape(-1)  # compiled code knows no strides
        self._check(actions)
        if self.tape.allowed is not None:
            actions = np.where(self._allowed[self._rows, actions], actions, 0)
        records = np.empty(self.batch, OUTCOME)
        observation = np.empty(self._shape, dtype=np.float32)
        truncated = np.empty(self.batch, dtype=np.bool_)
        filled = (
            records if COMPILED else records.view(np.recarray)
        )  # plain Python needs the fields as attributes
        outputs = (actions, filled, observation, truncated)
        if self._helper is None or not self._helper.step(self._arguments, *outputs):
            _compiled_step(self._arguments, *outputs)
        return StepResult(observation, records["reward"], truncated, Outcome(records))

    def _check(self, actions: npt.NDArray[np.int64]) -> None:
        """Refuse what compiled code would read out of bounds."""
        if actions.size != self.batch:
            raise InputError(f"step needs {self.batch} actions, one per episode, got {actions.size}.")
        # Negative numbers read as unsigned are large. A reduction costs more than the step of one episode.
        count = len(self.placement_names)
        if not 0 <= actions[0] < count or (self.batch > 1 and actions.view(np.uint64).max() >= count):
            low, high = actions.min(), actions.max()
            raise InputError(f"actions must lie in 0 to {count - 1}, got {low} to {high}.")

    def close(self) -> None:
        """End the helper thread, if there is one; stepping again starts another."""
        if self._helper is not None:
            self._helper.close()

    def masks(self) -> npt.NDArray[np.bool_]:
        """Allowed placements (B, P), read-only; local always is.

        A node that is absent in an episode (`availability`) forbids its placements; a stalled link shows in telemetry,
        not in the mask.
        """
        return self._allowed
