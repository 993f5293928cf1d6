"""The coupled oracle: a plan for a whole episode with every queue in it, and a bound that no plan can beat."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..envs.schema import ClosedLoop, Scenario
from ..envs.tape import Tape
from .anywhen import anywhen_bound, least_costs
from .beam import beam_plans
from .dual import Climb, Prices, ValuesToGo, climb, first_prices
from .exhaustive import MOST_PLANS, plan_count, play_every_plan
from .greedy import NEVER, abreast, greedy_plans
from .relaxation import Relaxation, relax, requests_played
from .replay import columns_of, replay, start
from .result import OracleResult, allowed_misses
from .separate import separate_bound
from .splice import Best, improve, rank, splice

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
COUPLED = "oracle-coupled"
CLOSED = "in a closed loop a plan moves its own clock, so the bound takes every request at its best moment"
SPLIT = "a split request reaches its link when the device lets it, so the bound takes every request without queues"


@dataclass(frozen=True)
class Effort:
    """How hard the coupled oracle works; more is never worse.

    Attributes:
        climb: search of the prices.
        again: steps after which a beam of another price of a miss starts.
        factors: prices of a miss that are searched, in shares of the bound's.
        width: partial plans that a beam keeps.
        points: joints of a splice.
        swaps: rounds in which single requests of the plan are moved.
    """

    climb: Climb = field(default_factory=Climb)
    again: int = 40
    factors: tuple[float, ...] = (0.7, 0.85, 1.0, 1.2)
    width: int = 8
    points: int = 24
    swaps: int = 2


def solve_coupled(
    scenario: Scenario,
    tape: Tape,
    incumbents: Sequence[I64] = (),
    effort: Effort | None = None,
    progress: Callable[[int], None] | None = None,
) -> OracleResult:
    """Plan every episode of a tape with full hindsight and certify how far from the optimum it can be.

    Args:
        scenario: the site.
        tape: episodes (B).
        incumbents: known plans (N, B), such as what policies played; the result is never worse than any of them. The
            static placements and the per-request oracles are always among them.
        effort: how hard to work.
        progress: called with 1 after each episode.

    Returns:
        Plans and bounds; the bound is infinite where no plan can keep the SLO. Among plans that keep the SLO the
        cleanest is taken; where none was found, the one whose quantile of the latencies is lowest.
    """
    began = time.perf_counter()
    effort = effort or Effort()
    episodes = tape.words.shape[-1]
    known = known_plans(scenario, tape, incumbents)
    plans = np.zeros((scenario.episode.requests, episodes), dtype=np.int64)
    bound = np.full(episodes, np.nan)
    for b in range(episodes):
        best = Best(scenario, tape, b)
        best.offer(known[:, b])
        bound[b] = _solve_one(scenario, tape, b, best, effort)
        plans[:, b] = best.plan
        if progress is not None:
            progress(1)
    note = CLOSED if isinstance(scenario.arrivals, ClosedLoop) else SPLIT if scenario.can_split else ""
    return result_of(COUPLED, scenario, tape, plans, bound, time.perf_counter() - began, note)


def result_of(
    name: str, scenario: Scenario, tape: Tape, plans: I64, bound_mg: F64, seconds: float, note: str = ""
) -> OracleResult:
    """Replay plans and wrap what they gave; where the mask forbids a placement, the plan says local, as is played."""
    if tape.allowed is not None:
        plans = np.where(np.take_along_axis(tape.allowed, plans, axis=0), plans, 0)
    given = replay(scenario, tape, plans)
    return OracleResult(
        name, plans, given.value_mg, bound_mg, given.misses, given.allowed, given.quantile_ms, given.requests,
        seconds, note,
    )  # fmt: skip


def known_plans(scenario: Scenario, tape: Tape, incumbents: Sequence[I64] = ()) -> I64:
    """Static placements, per-request oracles and the given plans of every episode (N, B, I)."""
    requests, episodes = scenario.episode.requests, tape.words.shape[-1]
    rules = [(NEVER, True), (NEVER, False), (0.0, False)]
    greedy = greedy_plans(
        scenario,
        abreast(tape, len(rules)),
        np.tile([price for price, _ in rules], episodes),
        np.tile([radio for _, radio in rules], episodes),
    )
    static = np.broadcast_to(
        np.arange(len(scenario.placements)), (requests, episodes, len(scenario.placements))
    )
    given = [np.asarray(plan, dtype=np.int64)[:, :, None] for plan in incumbents]
    return np.concatenate([static, greedy.reshape(requests, episodes, -1), *given], axis=2)


def _solve_one(scenario: Scenario, tape: Tape, episode: int, best: Best, effort: Effort) -> float:
    """Offer plans of one episode to ``best``; returns the bound, mg per request."""
    if plan_count(scenario) <= MOST_PLANS:
        plans, given = play_every_plan(scenario, tape, episode)
        best.take(plans, rank(given))
        return float(np.where(given.misses <= given.allowed, given.value_mg, np.inf).min())
    if isinstance(scenario.arrivals, ClosedLoop):
        improve(best, effort.swaps)
        fixed = scenario.world_clock == "request"
        ends = requests_played(scenario, tape, episode) if fixed else None
        return anywhen_bound(scenario, tape, episode, ends)
    relaxed = relax(scenario, tape, episode)
    prices, values = climb(relaxed, first_prices(relaxed), effort.climb)
    led_by = [_at_price(relaxed, prices, values, factor, effort) for factor in effort.factors]
    plans = beam_plans(scenario, tape, episode, relaxed, led_by, effort.width)
    given = best.offer(plans)
    splice(best, plans, given, effort.points)
    improve(best, effort.swaps)
    if scenario.can_split:  # the relaxation leads the search, but bounds nothing
        return anywhen_bound(scenario, tape, episode, relaxed.requests)
    plain = separate_bound(relaxed, scenario.slo.quantile)
    bound = max(plain, values.total_mg, *(v.total_mg for _, v in led_by))
    return certified(bound, relaxed)


def certified(total_mg: float, relaxed: Relaxation) -> float:
    """The bound per request, mg, less what rounding in a sum of its terms can amount to."""
    slack = 1e-9 * abs(total_mg) if np.isfinite(total_mg) else 0.0
    return float(total_mg - slack) / relaxed.requests


def _at_price(
    relaxed: Relaxation, prices: Prices, values: ValuesToGo, factor: float, effort: Effort
) -> tuple[Prices, ValuesToGo]:
    """Prices and values-to-go for another price of a miss: the other prices must follow it."""
    if factor == 1.0:
        return prices, values
    other = replace(prices, miss=factor * prices.miss)
    how = replace(effort.climb, steps=effort.again, first=10 * effort.climb.last)
    return climb(relaxed, other, how, fixed_miss=True)


@dataclass(frozen=True)
class SmallestReachable:
    """How low the SLO's quantile of the latencies can get, per episode (B,), ms: found by a plan, and a bound below."""

    found_ms: F64
    bound_ms: F64


def smallest_reachable(scenario: Scenario, tape: Tape, incumbents: Sequence[I64] = ()) -> SmallestReachable:
    """The smallest quantile that a known plan reaches, and one that no plan can undercut.

    The bound takes each request at the least latency that any state of queues, links and connections could give it; the
    quantile of these latencies is below that of every plan.
    """
    episodes = tape.words.shape[-1]
    known = known_plans(scenario, tape, incumbents)
    fast = _fastest_plans(scenario, tape)
    found, bound = np.empty(episodes), np.empty(episodes)
    for b in range(episodes):
        plans = np.concatenate([known[:, b], fast[:, b : b + 1]], axis=1)
        found[b] = replay(scenario, columns_of(tape, np.full(plans.shape[1], b)), plans).quantile_ms.min()
        bound[b] = _least_quantile_ms(scenario, tape, b)
    return SmallestReachable(found, bound)


def _fastest_plans(scenario: Scenario, tape: Tape) -> I64:
    """Each request where it is answered first (N, B)."""
    simulator = start(scenario, tape)
    plans = np.zeros((scenario.episode.requests, tape.words.shape[-1]), dtype=np.int64)
    for n in range(len(plans)):
        plans[n] = np.stack([o.latency_ms for o in simulator.preview()]).argmin(axis=0)
        if simulator.step(plans[n]).truncated.all():
            break
    return plans


def _least_quantile_ms(scenario: Scenario, tape: Tape, episode: int) -> float:
    """Quantile of the requests' least latencies, ms."""
    latency = least_costs(scenario, tape, episode)[1].min(axis=1)
    closed = isinstance(scenario.arrivals, ClosedLoop)
    if closed and scenario.world_clock == "time":
        return float(latency.min())  # how many requests there are depends on the plan
    latency = np.sort(latency[: requests_played(scenario, tape, episode)])
    return float(latency[latency.size - int(allowed_misses(latency.size, scenario.slo.quantile)) - 1])
