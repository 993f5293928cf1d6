"""Training data of the risk head: observations of a rollout, and what every placement would have come to there.

The simulator can say without changing anything whether each placement would miss the SLO (`Simulator.preview`), so one
request gives one label for each placement, not only for the one that was chosen. Training tapes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.schema import Scenario
from ...envs.simulator import Simulator
from ...envs.tape import Part
from ..policy import Policy

BATCH = 400  # tapes played at once: bounds their memory

Bools = npt.NDArray[np.bool_]


@dataclass
class Samples:
    """Labelled requests, one row each.

    Attributes:
        observation: encoded (N, F) float32.
        missed: whether each placement would have missed the SLO (N, P).
        allowed: whether the mask allowed it (N, P); labels of others mean nothing.
        chosen: placement that the behaviour chose before any exploration (N,).
        tape: number of the request's tape (N,), for splits that leave no tape on both sides.
    """

    observation: npt.NDArray[np.float32]
    missed: Bools
    allowed: Bools
    chosen: npt.NDArray[np.int64]
    tape: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.observation)

    @property
    def tapes(self) -> int:
        """Number of tapes."""
        return len(np.unique(self.tape))

    def of_tapes(self, wanted: npt.NDArray[np.int64]) -> Samples:
        """The rows of some tapes."""
        rows = np.isin(self.tape, wanted)
        return Samples(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def joined(parts: Sequence[Samples]) -> Samples:
    """Samples of several rollouts, whose tapes are different ones."""
    offsets = np.cumsum([0, *(int(part.tape.max(initial=-1)) + 1 for part in parts[:-1])])
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Samples)}
    columns["tape"] = [tape + offset for tape, offset in zip(columns["tape"], offsets, strict=True)]
    return Samples(**{name: np.concatenate(column) for name, column in columns.items()})


@dataclass(frozen=True)
class Collector:
    """How rollouts are made.

    Attributes:
        scenario: the site.
        exploration: share of requests that go to a random allowed placement instead of the behaviour's.
        share: share of requests whose labels are taken; neighbours in time say much the same.
        traces_dir: trace folder of a scenario that reads files.
        part: only "training"; it is here to be refused.
    """

    scenario: Scenario
    exploration: float
    share: float
    traces_dir: str | None = None
    part: Part = "training"

    def __post_init__(self) -> None:
        """Check shares and part."""
        if self.part != "training":
            raise InputError(
                f"The risk head learns from training tapes only, got part '{self.part}'. The evaluation part is for "
                "`carbonpilot benchmark`; a head that has seen it would be compared on tapes that it knows."
            )
        if not 0 <= self.exploration <= 1:
            raise InputError(f"exploration is a share of the requests: 0 to 1, got {self.exploration}.")
        if not 0 < self.share <= 1:
            raise InputError(f"share is a share of the requests: above 0 and at most 1, got {self.share}.")

    def collect(self, behaviour: Policy, seeds: npt.NDArray[np.int64], rng: np.random.Generator) -> Samples:
        """Play a behaviour on training tapes and label what it meets.

        Args:
            behaviour: what decides; it is reset for each batch of tapes.
            seeds: one per tape.
            rng: draws exploration and the requests that are labelled.
        """
        parts = [self._play(behaviour, seeds[i : i + BATCH], rng, i) for i in range(0, len(seeds), BATCH)]
        return Samples(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Samples)}
        )

    def _play(
        self, behaviour: Policy, seeds: npt.NDArray[np.int64], rng: np.random.Generator, first: int
    ) -> Samples:
        batch = len(seeds)
        simulator = Simulator(self.scenario, batch, part=self.part, traces_dir=self.traces_dir)
        behaviour.reset(batch)
        observation, running = simulator.reset(seeds), np.ones(batch, dtype=bool)
        tape, rows = first + np.arange(batch), []
        while running.any():
            mask = simulator.masks()
            choice = np.asarray(behaviour.decide(observation, mask), dtype=np.int64)
            if rng.random() < self.share:
                missed = np.stack([outcome.missed for outcome in simulator.preview()], axis=1)
                row = (observation, missed.astype(bool), mask, choice, tape)
                rows.append([np.asarray(column)[running] for column in row])
            result = simulator.step(explored(choice, mask, self.exploration, rng))
            observation, running = result.observation, running & ~result.truncated
        simulator.close()
        if not rows:
            raise InputError(
                f"No request was labelled: {self.scenario.episode.requests} requests with a share of {self.share:g}. "
                "Raise the share."
            )
        return Samples(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def explored(
    choice: npt.NDArray[np.int64], mask: Bools, exploration: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Placements with some replaced by random allowed ones (B,)."""
    random = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)
    return np.where(rng.random(len(choice)) < exploration, random, choice)
