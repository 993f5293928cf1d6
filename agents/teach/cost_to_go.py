"""What every placement of a waiting request costs from here on, with the tape in hand.

The tape fixes all that is random, so the costs of two placements differ by nothing but the placements: each is tried
in a copy of the simulator, which then goes on for some requests in the same way. That catches what one outcome cannot
show: the radio stays awake for the next transfers, a queue delays them, a hot device slows down. Where the copies go on
as the learner does, this is the "vine" of Schulman et al. (2015, section 5.2) without any noise left in it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ...envs.schema import Scenario
from ...envs.simulator import Simulator
from ...envs.tape import Tape
from ...oracle.replay import columns_of
from .costs import cost_mg

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Act = Callable[
    [int, F32, Mask], I64
]  # number of the request, observations (B, F), masks (B, P) to placements (B,)


class CostToGo:
    """Labels the waiting requests of a simulator with the cost of every placement.

    Args:
        scenario: the site.
        tape: what the simulator plays (B).
        lookahead: requests after the waiting one that are counted; 0: its own outcome alone.
        follow: places them; gets each episode P times, first all of them with placement 0, then with 1, and so on.
            Not needed where ``lookahead`` is 0.
    """

    def __init__(self, scenario: Scenario, tape: Tape, lookahead: int, follow: Act | None) -> None:
        """Lay the tapes out, once for each placement."""
        self._lookahead, self._follow = lookahead, follow
        self._count, self._episodes = len(scenario.placements), tape.words.shape[-1]
        self._tried = np.repeat(np.arange(self._count), self._episodes)
        self._copies: Simulator | None = None
        if lookahead:
            assert follow is not None, "somebody must place the requests that are looked ahead at"
            self._copies = Simulator(scenario, self._tried.size)
            self._copies.reset_tape(columns_of(tape, np.tile(np.arange(self._episodes), self._count)))

    @property
    def simulated(self) -> int:
        """Requests that one call works out, for all episodes."""
        return self._tried.size * (1 + self._lookahead)

    def __call__(self, simulator: Simulator, request: int, miss_mg: F64) -> F64:
        """Costs of every placement (B, P), mg; nothing changes in ``simulator``.

        Args:
            simulator: with a waiting request in every episode.
            request: its number.
            miss_mg: price of a miss at these states (B,), mg; it holds for all requests that are counted.
        """
        if self._copies is None:
            weight = simulator.state.episodes.weight_carbon
            return np.stack([cost_mg(o, miss_mg, weight) for o in simulator.preview()], axis=1)
        return self._tried_out(self._copies, simulator, request, miss_mg)

    def _tried_out(self, copies: Simulator, simulator: Simulator, request: int, miss_mg: F64) -> F64:
        assert self._follow is not None
        _copy_state(copies, simulator, request, self._count)
        price, weight = np.tile(miss_mg, self._count), copies.state.episodes.weight_carbon
        total, running = np.zeros(self._tried.size), np.ones(self._tried.size, dtype=bool)
        placements = self._tried
        for n in range(request, request + 1 + self._lookahead):
            result = copies.step(placements)
            total += np.where(running, cost_mg(result.outcome, price, weight), 0.0)
            running &= ~result.truncated
            if not running.any() or n == request + self._lookahead:
                break
            placements = self._follow(n + 1, result.observation, copies.masks())
        return total.reshape(self._count, self._episodes).T


def _copy_state(copies: Simulator, simulator: Simulator, request: int, times: int) -> None:
    """Put ``times`` copies of a simulator's state, side by side, into another simulator's."""
    theirs = simulator.state
    for mine, array in zip(copies.state.arrays, theirs.arrays, strict=True):
        if array is theirs.known_at or array is theirs.miss:  # by request; nothing is known of later ones
            mine[:request] = np.tile(array[:request], (1, times))
        else:
            mine[...] = np.tile(array, (times, *(1,) * (array.ndim - 1)))
