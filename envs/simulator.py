"""The simulator: tapes, dynamics and observations of a batch of episodes, without gymnasium.

A batch of one runs on plain floats, larger ones on arrays; the physics is the same code (see ops.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import physics
from .encoder import Encoder
from .errors import InputError
from .ops import BatchOps, ScalarOps
from .outcome import Outcome
from .reward import Reward
from .scenario import load_scenario, scenario_sha256
from .schema import Scenario
from .constants import Constants
from .site import Site
from .state import State
from .tape import Part, Tape, draw_tape


@dataclass
class StepResult:
    """What a step gives back: observation (B, F), reward (B,), truncated (B,) and the outcome."""

    observation: npt.NDArray[np.float32]
    reward: npt.NDArray[np.float64]
    truncated: npt.NDArray[np.bool_]
    outcome: Outcome


@lru_cache(maxsize=16)
def _site(sha256: str, scenario_json: str) -> Site:
    return Site(Scenario.model_validate_json(scenario_json))


def site_for(scenario: Scenario) -> Site:
    """The constants of a scenario, worked out once per process."""
    return _site(scenario_sha256(scenario), scenario.model_dump_json(by_alias=True))


class Simulator:
    """Episodes of one scenario, stepped together.

    Args:
        scenario: shipped name, path of a YAML file, or a loaded scenario.
        batch: number of episodes.
        part: "training" or "evaluation" part of seeds, hours and traces.
        traces_dir: trace folder for scenarios that read one.
        plain: use plain floats; by default exactly where the batch is one.
    """

    def __init__(
        self,
        scenario: str | Path | Scenario,
        batch: int,
        part: Part = "training",
        traces_dir: str | Path | None = None,
        *,
        plain: bool | None = None,
    ) -> None:
        """Prepare the constants; `reset` draws the first tapes."""
        if batch < 1:
            raise InputError(f"batch must be at least 1, got {batch}.")
        if not isinstance(scenario, Scenario):
            scenario = load_scenario(str(scenario))
        self.scenario, self.batch, self.part = scenario, batch, part
        self.traces_dir = None if traces_dir is None else Path(traces_dir)
        self.plain = batch == 1 if plain is None else plain
        self.site = site_for(scenario)
        self.table = self.site.table
        self.placement_names = self.site.placement_names
        self.ops: Any = ScalarOps() if self.plain else BatchOps(batch)
        self.constants: Constants = Constants(self.site, self.ops)
        self._encoder = Encoder(self.site, self.ops)
        self._reward = Reward(scenario, self.ops)
        self._all_allowed = np.ones((batch, len(self.placement_names)), dtype=bool)
        self._all_allowed.flags.writeable = False
        self.requests = scenario.episode.requests
        self._request_clock = scenario.world_clock == "request"

    # -- episodes ---------------------------------------------------------------------------------

    def reset(self, seeds: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Start fresh episodes from one seed each (B,) and return the first observation (B, F)."""
        seeds = np.asarray(seeds, dtype=np.uint64).reshape(-1)
        if seeds.size != self.batch:
            raise InputError(f"reset needs {self.batch} seeds, one per episode, got {seeds.size}.")
        return self.reset_tape(draw_tape(self.site, seeds, self.part, self.traces_dir))

    def reset_tape(self, tape: Tape) -> npt.NDArray[np.float32]:
        """Start fresh episodes on a given tape and return the first observation (B, F)."""
        self.tape = tape
        self.state = State(self.site, self.constants, self.ops)
        self.n: Any = 0  # requests placed so far: one number while all episodes run in step
        self._second: Any = None
        self._read_tape()
        self._move_world()
        return self.observe()

    def reset_columns(self, columns: npt.NDArray[np.intp], seeds: npt.ArrayLike) -> None:
        """Start some episodes of the batch afresh; `observation` then holds their first observations."""
        if self.plain or len(columns) == self.batch:
            self.reset(seeds)
            return
        fresh = draw_tape(self.site, seeds, self.part, self.traces_dir)
        self.tape.copy_columns(fresh, columns)
        blank = State(self.site, Constants(self.site, BatchOps(len(columns))), BatchOps(len(columns)))
        self.state.copy_columns(blank, columns)
        self.n = np.broadcast_to(np.asarray(self.n, dtype=np.int64), (self.batch,)).copy()
        self.n[columns] = 0
        self._second[columns] = -1
        self._read_tape()
        self._move_world()
        self.observe()

    def _read_tape(self) -> None:
        """Bring the tape's request columns into this arithmetic."""
        tape = self.tape
        if self.plain:
            self._payload = tape.payload_kb[:, 0].astype(np.float64).tolist()
            self._words = tape.words[:, 0].tolist()
            self._arrivals = None if tape.arrivals_ms is None else tape.arrivals_ms[:, 0].tolist()
            self._phase, self._ambient = tape.phase_ms[:, 0].tolist(), float(tape.ambient[0])
            self._valid_rows = int(tape.valid_rows[0])
        else:
            self._payload, self._words = tape.payload_kb, tape.words
            self._arrivals, self._phase, self._ambient = tape.arrivals_ms, tape.phase_ms, tape.ambient
            self._valid_rows = tape.valid_rows
        self._last_row = tape.rows.shape[1] - 1

    # -- time -------------------------------------------------------------------------------------

    def _move_world(self) -> None:
        """Bring the world's rows up to the waiting request's second."""
        if self._request_clock:
            second = self.n
        else:
            second = self.ops.floor(self.state.issued_ms / 1000.0) + self.tape.warmup
        rows = self.tape.rows
        world_rows = self.site.rows.world
        if self.plain:
            if second != self._second:
                self._second = second
                column = rows[:, min(second, self._last_row), 0]
                self.world = column[:world_rows].astype(np.float64).tolist()
                self._features = column[world_rows:]
            return
        if self._second is None:
            self._second = np.full(self.batch, -1)
            self.world = np.empty((world_rows, self.batch), dtype=np.float64)
            self._features = np.empty((len(rows) - world_rows, self.batch), dtype=np.float32)
        changed = np.flatnonzero(second != self._second)
        if changed.size:
            self._second = np.full(self.batch, second) if isinstance(second, int) else second
            at = np.minimum(self._second[changed], self._last_row)
            fresh = rows.reshape(len(rows), -1).take(at * self.batch + changed, axis=1)
            if changed.size == self.batch:
                self.world[...], self._features[...] = fresh[:world_rows], fresh[world_rows:]
            else:
                self.world[:, changed] = fresh[:world_rows]
                self._features[:, changed] = fresh[world_rows:]

    # -- stepping ---------------------------------------------------------------------------------

    def _request(self) -> physics.Request:
        return physics.Request(self._waiting_kb(), self.ops.row(self._words, self.n))

    def _waiting_kb(self) -> Any:
        """Payload of the waiting request in double precision, as the plain arithmetic has it."""
        payload = self.ops.row(self._payload, self.n)
        return payload if self.plain else payload.astype(np.float64)

    def preview(self) -> list[Outcome]:
        """What each placement would give the waiting request now; nothing changes."""
        request = self._request()
        outcomes = []
        for p in range(len(self.placement_names)):
            action = p if self.plain else np.full(self.batch, p)
            outcome, _ = physics.serve(
                self.ops, self.site, self.constants, self.state, self.world, request, self._phase, action
            )
            self._reward.complete(outcome)
            outcomes.append(outcome)
        return outcomes

    def place(self, actions: Any) -> Outcome:
        """Place the waiting requests and move to the next ones; the core of `step`, in this arithmetic."""
        ops, site, state = self.ops, self.site, self.state
        request = self._request()
        outcome, effects = physics.serve(
            ops, site, self.constants, state, self.world, request, self._phase, actions
        )
        self._reward.complete(outcome)
        physics.commit(ops, site, state, self.world, self.n, request.payload_kb, outcome, effects)
        self.n = self.n + 1
        if self._arrivals is None:
            following = state.issued_ms + outcome.latency_ms
        else:
            following = ops.row(self._arrivals, self.n)
        physics.advance(ops, site, state, following, self._ambient)
        self._move_world()
        return outcome

    def step(self, actions: npt.ArrayLike) -> StepResult:
        """Place the waiting request of every episode and return what follows, as arrays.

        Args:
            actions: placements (B,), integers.
        """
        if self.plain:
            outcome = self.place(int(np.asarray(actions).reshape(-1)[0]))
            reward = np.array([outcome.reward])
        else:
            outcome = self.place(np.asarray(actions, dtype=np.int64))
            reward = outcome.reward
        return StepResult(self.observe(), reward, np.atleast_1d(self.truncated()), outcome)

    def truncated(self) -> Any:
        """Whether each episode is over: all requests placed, or a trace ended (B,)."""
        over = self.n >= self.requests
        ended = self._second >= self._valid_rows
        if self.plain:
            return over or ended
        return ended | over

    def observe(self) -> npt.NDArray[np.float32]:
        """Encode the waiting requests; a fresh array each time (B, F)."""
        encoder = self._encoder
        progress = self.n / self.requests
        values = encoder.raw(self.state, self.world, self._waiting_kb(), progress)
        if self.plain:
            out = np.empty(encoder.count, dtype=np.float32)
            out[: encoder.first] = self._features
            encoder.single(out, values)
            self.observation = out[None, :]
        else:
            block = np.empty((encoder.count, self.batch), dtype=np.float32)
            block[: encoder.first] = self._features
            encoder.batch(block, values)
            self.observation = block.T
        return self.observation

    def masks(self) -> npt.NDArray[np.bool_]:
        """Allowed placements (B, P), read-only; local always is. Every placement is reachable so far:
        a stalled link shows in telemetry, not in the mask.
        """
        return self._all_allowed
