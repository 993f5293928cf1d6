"""Every oracle by name: as a result for tables, and as a policy for the benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..envs.errors import unknown_name
from ..envs.schema import Scenario
from ..envs.tape import Tape
from .budget import solve_budget
from .coupled import COUPLED, Effort, result_of, solve_coupled
from .greedy import NEVER, abreast, greedy_plans
from .per_request import PER_REQUEST, WARM_RADIO
from .plan_policy import PlanPolicy
from .replay import columns_of, replay, start
from .result import OracleResult
from .splice import Best, rank

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

BUDGET = "oracle-budget"
UNCOUPLED = "oracle-uncoupled"
ORACLES = (PER_REQUEST, WARM_RADIO, BUDGET, COUPLED)
PRICES = 5  # prices of a miss that the budget oracle tries abreast
ABREAST = 32  # episodes worked on together: bounds the memory of their copies
ROUNDS = 2  # times that it narrows their range


def solve_per_request(
    scenario: Scenario, tape: Tape, count_radio: bool = True, coupled: bool = True
) -> OracleResult:
    """Khan et al.'s per-request oracle as a result.

    Args:
        scenario: the site.
        tape: episodes (B).
        count_radio: whether the radio's energy counts in the choice.
        coupled: whether a request meets the queues that earlier choices left. If not, each is chosen as if nothing else
            were placed; what such a plan then gives is replayed with everything else in place.
    """
    began = time.perf_counter()
    episodes = tape.words.shape[-1]
    if coupled:
        plans = greedy_plans(scenario, tape, np.full(episodes, NEVER), np.full(episodes, count_radio))
        name = PER_REQUEST if count_radio else WARM_RADIO
    else:
        plans, name = _alone(scenario, tape, count_radio), UNCOUPLED
    nothing = np.full(episodes, np.nan)
    return result_of(name, scenario, tape, plans, nothing, time.perf_counter() - began)


def _alone(scenario: Scenario, tape: Tape, count_radio: bool) -> I64:
    """Choices made as if every request were the first to be placed (N, B).

    Open-loop arrivals only take the clock along: the state is put back after each request. In a closed loop the clock
    follows the choices, as it does for a device that decides request by request.
    """
    plans, _, _ = _walk(scenario, tape, None, count_radio, forget=True)
    return plans


def solve_budget_coupled(scenario: Scenario, tape: Tape) -> OracleResult:
    """The budget oracle on a site where requests interact.

    Two kinds of plans are tried on every episode: greedy ones under a price on misses whose range is narrowed until the
    budget is used up, and the exact budget plan for the costs along the best plan's own trajectory, again and again
    until it settles. The cleanest that keeps the budget is taken, so it is kept whenever one of them keeps it.
    """
    began = time.perf_counter()
    episodes = tape.words.shape[-1]
    parts = [np.arange(i, min(i + ABREAST, episodes)) for i in range(0, episodes, ABREAST)]
    plans = np.concatenate([_budget_plans(scenario, columns_of(tape, part)) for part in parts], axis=1)
    nothing = np.full(episodes, np.nan)
    return result_of(BUDGET, scenario, tape, plans, nothing, time.perf_counter() - began)


def _budget_plans(scenario: Scenario, tape: Tape) -> I64:
    """Plans of the budget oracle for a few episodes (N, B)."""
    episodes = tape.words.shape[-1]
    best = [Best(scenario, tape, b) for b in range(episodes)]
    _narrow(scenario, tape, best)
    for _ in range(ROUNDS):
        plans = np.stack([b.plan for b in best], axis=1)
        _, carbon, latency = _walk(scenario, tape, plans, True, forget=False)
        slo = scenario.slo
        fixed = [
            solve_budget(carbon[:, :, b], latency[:, :, b], slo.latency_ms, slo.quantile).plan
            for b in range(episodes)
        ]
        plans = np.stack(fixed, axis=1)
        for b, key in enumerate(rank(replay(scenario, tape, plans))):
            best[b].take(plans[:, b : b + 1], [key])
    return np.stack([b.plan for b in best], axis=1)


def _narrow(scenario: Scenario, tape: Tape, best: list[Best]) -> None:
    """Offer greedy plans under prices of a miss, with and without the radio in the choice."""
    episodes = len(best)
    top = _top_price_mg(scenario, tape)
    low, high = np.zeros((episodes, 2)), np.repeat(top[:, None], 2, axis=1)
    many = abreast(tape, 2 * (PRICES + 1))
    for _ in range(ROUNDS):
        inside = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, PRICES) ** 2
        price = np.concatenate([inside, np.full((episodes, 2, 1), NEVER)], axis=2)
        counted = np.broadcast_to(np.array([True, False])[None, :, None], price.shape)
        plans = greedy_plans(scenario, many, price.ravel(), counted.ravel())
        given = replay(scenario, many, plans)
        spent = given.misses <= given.allowed
        keys, size = rank(given), price[0].size
        for b, keep in enumerate(best):
            mine = slice(b * size, (b + 1) * size)
            keep.take(plans[:, mine], keys[mine])
        keeps = spent.reshape(price.shape)[..., :PRICES]
        first = np.where(keeps.any(axis=2), keeps.argmax(axis=2), PRICES - 1)
        high = np.take_along_axis(inside, first[..., None], axis=2)[..., 0]
        low = np.take_along_axis(inside, np.maximum(first - 1, 0)[..., None], axis=2)[..., 0]


def _top_price_mg(scenario: Scenario, tape: Tape) -> F64:
    """Three times what a request of the cleanest static placement emits (B,), mg: few misses save more."""
    count, episodes = len(scenario.placements), tape.words.shape[-1]
    plans = np.tile(np.arange(count), episodes)
    everywhere = np.broadcast_to(plans, (scenario.episode.requests, plans.size))
    given = replay(scenario, abreast(tape, count), everywhere)
    return 3.0 * given.value_mg.reshape(episodes, count).min(axis=1)


def _walk(
    scenario: Scenario, tape: Tape, plans: I64 | None, count_radio: bool, forget: bool
) -> tuple[I64, F64, F64]:
    """Walk through episodes and note what every placement would have given at each request.

    Returns:
        Plans (N, B), carbon in mg (N, P, B) and latency in ms (N, P, B).
    """
    from .greedy import radio_carbon_mg
    from .per_request import cheapest_within_slo

    simulator, episodes = start(scenario, tape), tape.words.shape[-1]
    count = len(scenario.placements)
    carbon = np.zeros((scenario.episode.requests, count, episodes))
    latency = np.zeros_like(carbon)
    taken = np.zeros((scenario.episode.requests, episodes), dtype=np.int64)
    fresh = [array.copy() for array in simulator.state.arrays[1:4]]
    for n in range(len(taken)):
        outcomes = simulator.preview()
        carbon[n] = np.stack([o.carbon_mg for o in outcomes])
        latency[n] = np.stack([o.latency_ms for o in outcomes])
        if plans is not None:
            taken[n] = plans[n]
        else:
            cost = carbon[n] if count_radio else carbon[n] - radio_carbon_mg(outcomes)
            everything = np.ones((episodes, count), dtype=bool)
            taken[n] = cheapest_within_slo(cost.T, latency[n].T, everything, scenario.slo.latency_ms)
        if simulator.step(taken[n]).truncated.all():
            break
        if forget:
            for array, was in zip(simulator.state.arrays[1:4], fresh, strict=True):
                array[...] = was
            e = simulator.state.episodes
            e.tail_until_ms, e.heat, e.throttled, e.device_free_ms = -1e9, 0.0, 0.0, 0.0
    return taken, carbon, latency


def make_oracle(name: str, scenario: Scenario, effort: Effort | None = None) -> PlanPolicy:
    """An oracle as a policy that solves the tapes of the simulator it is bound to.

    Args:
        name: one of `ORACLES`.
        scenario: the site.
        effort: of the coupled oracle.
    """
    solvers: dict[str, Callable[[Tape], I64]] = {
        PER_REQUEST: lambda tape: solve_per_request(scenario, tape).plan,
        WARM_RADIO: lambda tape: solve_per_request(scenario, tape, count_radio=False).plan,
        BUDGET: lambda tape: solve_budget_coupled(scenario, tape).plan,
        COUPLED: lambda tape: solve_coupled(scenario, tape, effort=effort).plan,
    }
    if name not in solvers:
        raise unknown_name("oracle", name, list(solvers))
    return PlanPolicy(name, solve=solvers[name])
