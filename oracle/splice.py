"""Join plans so that the budget of misses is used up: the start of one, the rest of another.

Under one price on misses the best plan may miss too often, and under the next higher price far too seldom. Where
both meet again in nearly the same state, and they often do, a plan that follows the first until request n and the
second from there on lies between them in carbon and misses. So the joined plans come as close to the bound as the price
alone would if plans could be mixed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from ..envs.tape import Tape
from .replay import Replay, columns_of, replay

I64 = npt.NDArray[np.int64]


class Best:
    """The best plan seen of one episode: the cleanest that keeps the SLO, or the one that comes closest."""

    def __init__(self, scenario: Scenario, tape: Tape, episode: int) -> None:
        """Start without any."""
        self._scenario, self._tape, self._episode = scenario, tape, episode
        self.placements = len(scenario.placements)
        self.plan = np.zeros(scenario.episode.requests, dtype=np.int64)
        self.key = (2, np.inf, np.inf)

    def offer(self, plans: I64) -> Replay:
        """Replay plans (N, G), keep the best and return what they gave."""
        columns = columns_of(self._tape, np.full(plans.shape[1], self._episode))
        given = replay(self._scenario, columns, plans)
        self.take(plans, rank(given))
        return given

    def take(self, plans: I64, keys: list[tuple[int, float, float]]) -> None:
        """Keep the best of plans (N, G) whose ranks are known."""
        for g, key in enumerate(keys):
            if key < self.key:
                self.key, self.plan = key, plans[:, g].copy()


def rank(given: Replay) -> list[tuple[int, float, float]]:
    """What makes a plan better, smallest first: it keeps the SLO and is clean, else its quantile is low."""
    keeps = given.misses <= given.allowed
    value, late = given.value_mg, given.quantile_ms
    return [
        (0, float(v), 0.0) if ok else (1, float(q), float(v))
        for ok, v, q in zip(keeps, value, late, strict=True)
    ]


def splice(best: Best, plans: I64, given: Replay, points: int) -> None:
    """Offer joined plans of the cheapest pairs that miss too often and seldom enough.

    Args:
        best: where they are offered.
        plans: plans of the episode (N, G).
        given: what they gave.
        points: requests at which plans are joined, for each pair and order.
    """
    over = np.flatnonzero(given.misses > given.allowed)
    within = np.flatnonzero(given.misses <= given.allowed)
    if not over.size or not within.size:
        return
    requests = int(given.requests[0])
    cheap = within[np.argsort(given.value_mg[within])][:2]
    near = over[np.argsort(given.misses[over])][:2]
    low, high = 0, requests
    for _ in range(2):  # first over the whole episode, then around the best point
        joints = np.unique(np.linspace(low, high, points + 2).astype(np.int64)[1:-1])
        joined = [
            _join(plans[:, a], plans[:, b], joints) for o in near for w in cheap for a, b in ((o, w), (w, o))
        ]
        found = best.offer(np.concatenate(joined, axis=1))
        centre = int(np.tile(joints, len(joined))[min(range(found.misses.size), key=rank(found).__getitem__)])
        reach = (high - low) // (points + 1)
        low, high = max(centre - reach, 0), min(centre + reach, requests)


def _join(start: I64, rest: I64, joints: I64) -> I64:
    """Plans that follow one until each joint and another from there on: (N,), (N,), (J,) to (N, J)."""
    return np.where(np.arange(len(start))[:, None] < joints[None, :], start[:, None], rest[:, None])


SWAPS = 192  # single moves that are replayed at a time


def improve(best: Best, rounds: int) -> None:
    """Move single requests of the best plan to other placements, and all moves that helped together.

    Args:
        best: whose plan is changed; moves are drawn from a fixed stream, so the result is always the same.
        rounds: how often a sample of moves is replayed.
    """
    rng = np.random.default_rng(0)
    requests, placements = len(best.plan), best.placements
    if placements == 1:
        return
    for _ in range(rounds):
        before, plan = best.key, best.plan
        count = min(SWAPS, requests * (placements - 1))
        moves = rng.choice(requests * (placements - 1), count, replace=False)
        where, to = moves // (placements - 1), moves % (placements - 1)
        to = to + (to >= plan[where])  # every placement but the present one
        plans = np.repeat(plan[:, None], count, axis=1)
        plans[where, np.arange(count)] = to
        keys = rank(best.offer(plans))
        better = [i for i in sorted(range(count), key=keys.__getitem__) if keys[i] < before]
        if len(better) > 1:
            shares = sorted({2 + (len(better) - 2) * i // 7 for i in range(8)})
            together = np.repeat(plan[:, None], len(shares), axis=1)
            for column, share in enumerate(shares):
                for i in better[:share]:
                    together[where[i], column] = to[i]
            best.offer(together)
