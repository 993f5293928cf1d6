"""Lessons: observations with the cost of every placement, collected by playing training tapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ...envs.outcome import Outcome
from ...envs.schema import Scenario
from ...envs.simulator import Simulator
from ...envs.tape import Tape
from .baseline import HindsightReference
from .cost_to_go import Act, CostToGo
from .costs import LabelUnit, MissPrice, reward_of

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lessons:
    """Labelled requests, one a row.

    Attributes:
        observation: encoded (S, F).
        mask: allowed placements (S, P).
        cost_mg: of every placement from here on, mg of carbon, or of it at the mean grid (`LabelUnit`) (S, P).
        taken: the placement that was played (S,).
        value: discounted reward from here on as it was played (S,), unscaled.
        tape: number of the tape (S,), to keep whole tapes apart.
    """

    observation: F32
    mask: npt.NDArray[np.bool_]
    cost_mg: F32
    taken: npt.NDArray[np.int64]
    value: F32
    tape: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.taken)

    @property
    def label(self) -> npt.NDArray[np.int64]:
        """The cheapest allowed placement (S,); the first among equals."""
        return np.where(self.mask, self.cost_mg, np.inf).argmin(axis=1)

    def of(self, rows: npt.NDArray) -> Lessons:
        """Some of the lessons."""
        return Lessons(*(getattr(self, f.name)[rows] for f in fields(self)))

    def split(self, share: float) -> tuple[Lessons, Lessons]:
        """Lessons to learn from, and those of the last ``share`` of the tapes (at least one, if there are two)."""
        tapes = np.unique(self.tape)
        kept = len(tapes) - max(round(share * len(tapes)), 1 if len(tapes) > 1 else 0)
        learned = np.isin(self.tape, tapes[:kept])
        return self.of(learned), self.of(~learned)


def joined(parts: Sequence[Lessons]) -> Lessons:
    """All lessons of several collections; tapes keep apart."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Lessons)}
    first = 0
    for i, part in enumerate(parts):
        columns["tape"][i] = part.tape + first
        first += int(part.tape.max(initial=-1)) + 1
    return Lessons(**{name: np.concatenate(arrays) for name, arrays in columns.items()})


@dataclass(frozen=True)
class Collected:
    """What playing some tapes gave.

    Attributes:
        lessons: the labelled requests.
        miss_rate: share of the played requests that missed the SLO.
        simulated: requests that the simulator worked out, labels included.
    """

    lessons: Lessons
    miss_rate: float
    simulated: int


class Collector:
    """Plays tapes and labels some of their requests.

    Args:
        scenario: the site.
        price: of a miss in the labels.
        unit: of the labels.
        gamma: discount of the values, per request.
        multiplier: of a constraint, in the rewards that values are made of; None without one.
        tape_baseline: whether values are those of rewards above the tape's baseline.
    """

    def __init__(
        self,
        scenario: Scenario,
        price: MissPrice,
        unit: LabelUnit,
        gamma: float,
        multiplier: float | None = None,
        tape_baseline: bool = False,
    ) -> None:
        """Keep what all collections have in common."""
        self._scenario, self._price, self._unit, self._gamma = scenario, price, unit, gamma
        self._multiplier, self._tape_baseline = multiplier, tape_baseline

    def collect(
        self,
        tape: Tape,
        act: Act,
        label: CostToGo,
        dual_mg: F64 | None,
        every: int,
        explore: float,
        rng: np.random.Generator,
        danger: F64 | None = None,
    ) -> Collected:
        """Play tapes once.

        Args:
            tape: training tapes (B).
            act: places the requests.
            label: gives the costs.
            dual_mg: dual of each tape's budget (B,), mg; see `MissPrice.by_tape`.
            every: requests between two labels; where they start is drawn.
            explore: share of requests that are placed at random instead.
            rng: draws both.
            danger: share of a miss's price that holds on each tape (B,); None: all of it.
        """
        requests, batch = self._scenario.episode.requests, tape.words.shape[-1]
        simulator = Simulator(self._scenario, batch)
        observation = simulator.reset_tape(tape)
        reference = HindsightReference(simulator) if self._tape_baseline else None
        weights = simulator.state.episodes
        tape_mg = self._price.by_tape(weights.weight_miss / weights.weight_carbon, dual_mg, danger)
        rewards, running = np.zeros((requests, batch)), np.ones(batch, dtype=bool)
        missed = played = simulated = 0
        first, rows = int(rng.integers(every)), []
        for n in range(requests):
            mask = simulator.masks()
            chosen = _explored(act(n, observation, mask), mask, explore, rng)
            if n % every == first:
                unit = self._unit.at(observation)
                cost = label(simulator, n, unit * self._price.at(tape_mg, observation)) / unit[:, None]
                rows.append((n, observation, mask.copy(), cost, chosen, running.copy()))
                simulated += label.simulated
            if reference is not None:
                rewards[n] -= np.where(running, reference.rewards(self._multiplier), 0.0)
            result = simulator.step(chosen)
            rewards[n] += np.where(running, self._reward(result.outcome), 0.0)
            missed += int(result.outcome.missed[running].sum())
            played += int(running.sum())
            observation, running = result.observation, running & ~result.truncated
            if not running.any():
                break
        values = discounted(rewards[: n + 1], self._gamma)
        return Collected(_lessons(rows, values), missed / played, simulated + played)

    def _reward(self, outcome: Outcome) -> F64:
        return reward_of(outcome, self._multiplier, self._scenario.reward.slo_miss)


def discounted(rewards: F64, gamma: float) -> F64:
    """Discounted sums from each request on (N, B).

    What follows the last request is taken to be as good as the mean one: episodes are cut off, they do not end.
    """
    values = np.empty_like(rewards)
    ahead = rewards.mean(axis=0) / (1.0 - gamma)
    for n in range(len(rewards) - 1, -1, -1):
        ahead = rewards[n] + gamma * ahead
        values[n] = ahead
    return values


def _explored(
    chosen: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], explore: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    if explore == 0.0:
        return chosen
    random = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)
    return np.where(rng.random(len(chosen)) < explore, random, chosen)


def _lessons(rows: list[tuple], values: F64) -> Lessons:
    columns: dict[str, list] = {f.name: [] for f in fields(Lessons)}
    for n, observation, mask, cost, chosen, running in rows:
        kept = np.flatnonzero(running)
        columns["observation"].append(observation[kept])
        columns["mask"].append(mask[kept])
        columns["cost_mg"].append(cost[kept].astype(np.float32))
        columns["taken"].append(chosen[kept])
        columns["value"].append(values[n, kept].astype(np.float32))
        columns["tape"].append(kept.astype(np.int64))
    return Lessons(**{name: np.concatenate(arrays) for name, arrays in columns.items()})
