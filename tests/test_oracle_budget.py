"""The budget problem: brute force, HiGHS, monotonicity, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.envs.errors import InputError
from carbonpilot.oracle.budget import solve_budget
from carbonpilot.oracle.result import allowed_misses

SLO_MS = 150.0


def brute_force(carbon, latency, budget, allowed):
    """(misses beyond the budget, carbon) of the best plan, lexicographically."""
    requests, placements = carbon.shape
    best = (10**9, np.inf)
    for plan in itertools.product(range(placements), repeat=requests):
        rows = np.arange(requests)
        if not allowed[rows, plan].all():
            continue
        misses = int((latency[rows, plan] > SLO_MS).sum())
        best = min(best, (max(misses - budget, 0), float(carbon[rows, plan].sum())))
    return best


def highs(carbon, latency, budget):
    """The same problem as a mixed integer programme, solved without a gap."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    requests, placements = carbon.shape
    columns = np.arange(requests * placements)
    one_each = coo_array((np.ones(columns.size), (columns // placements, columns)))
    misses = coo_array((latency > SLO_MS).astype(float).reshape(1, -1))
    found = milp(
        carbon.ravel(),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(misses, 0, budget)],
        integrality=np.ones(columns.size),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    return found.fun if found.success else None


def check_plan(solution, carbon, latency, allowed=None):
    """What the solution says of itself is what its plan gives."""
    rows = np.arange(len(carbon))
    assert solution.carbon_mg == pytest.approx(carbon[rows, solution.plan].sum(), rel=1e-12)
    assert solution.misses == (latency[rows, solution.plan] > SLO_MS).sum()
    assert allowed is None or allowed[rows, solution.plan].all()


@st.composite
def problems(draw):
    requests, placements = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    # Few distinct values: ties are where a partial sort goes wrong.
    size = requests * placements
    carbon = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0, 3.0]), min_size=size, max_size=size))
    latency = draw(
        st.lists(st.sampled_from([90.0, 150.0, 150.1, 400.0, np.inf]), min_size=size, max_size=size)
    )
    allowed = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    shape = (requests, placements)
    reachable = np.array(allowed).reshape(shape)
    reachable[:, 0] = True
    return np.array(carbon).reshape(shape), np.array(latency).reshape(shape), reachable


@settings(max_examples=300, deadline=None)
@given(problem=problems(), quantile=st.sampled_from([0.01, 0.3, 0.5, 0.75, 0.95]))
def test_equals_brute_force(problem, quantile):
    carbon, latency, allowed = problem
    solution = solve_budget(carbon, latency, SLO_MS, quantile, allowed)
    budget = int(allowed_misses(len(carbon), quantile))
    excess, least = brute_force(carbon, latency, budget, allowed)
    assert max(solution.misses - budget, 0) == excess
    assert solution.carbon_mg == pytest.approx(least, abs=1e-12)
    assert solution.feasible == (excess == 0)
    check_plan(solution, carbon, latency, allowed)


def instance(kind, requests=1000, placements=4, seed=0):
    rng = np.random.default_rng(seed)
    carbon = rng.gamma(2.0, 0.2, (requests, placements))
    latency = rng.gamma(6.0, 20.0, (requests, placements))
    latency[:, 0] = np.minimum(latency[:, 0], 140)
    if kind == "quantised":
        carbon = np.round(carbon, 1)
    if kind == "ties":  # every saving is one of two values, and the budget cuts through the larger
        carbon = np.where(latency > SLO_MS, 0.0, rng.choice([0.5, 1.0], (requests, 1)))
    if kind == "hopeless":  # some requests must miss
        latency[rng.permutation(requests)[:30]] = 200.0
    return carbon, latency


@pytest.mark.parametrize("kind", ["random", "quantised", "ties", "hopeless"])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_highs_at_1000_requests(kind, seed):
    carbon, latency = instance(kind, seed=seed)
    solution = solve_budget(carbon, latency, SLO_MS, 0.95)
    assert solution.allowed == 50
    assert solution.feasible
    assert abs(solution.carbon_mg - highs(carbon, latency, 50)) <= 1e-9
    check_plan(solution, carbon, latency)


def test_highs_agrees_that_there_is_no_plan():
    carbon, latency = instance("random")
    latency[:51] = 200.0
    solution = solve_budget(carbon, latency, SLO_MS, 0.95)
    assert not solution.feasible
    assert solution.misses == 51
    assert highs(carbon, latency, 50) is None
    # Where too many must miss, those and only those do.
    rows = np.flatnonzero(latency[np.arange(1000), solution.plan] > SLO_MS)
    np.testing.assert_array_equal(rows, np.arange(51))


def test_more_budget_is_never_dearer():
    carbon, latency = instance("random")
    quantiles = [0.99, 0.97, 0.95, 0.9, 0.7, 0.3]
    found = [solve_budget(carbon, latency, SLO_MS, q) for q in quantiles]
    assert all(b.carbon_mg <= a.carbon_mg for a, b in itertools.pairwise(found))
    assert all(b.allowed > a.allowed for a, b in itertools.pairwise(found))


def test_nothing_is_missed_for_nothing():
    """A miss that saves no carbon is not made, although the budget would allow it."""
    solution = solve_budget(np.array([[1.0, 1.0]] * 100), np.array([[200.0, 100.0]] * 100), SLO_MS, 0.95)
    assert solution.misses == 0


@pytest.mark.parametrize("requests", [1, 7, 20, 100, 999, 1000])
@pytest.mark.parametrize("quantile", [0.05, 0.07, 0.5, 0.95, 0.99])
def test_allowed_misses_are_the_rank_of_the_quantile(requests, quantile):
    """As many misses as leave the ceil(q n)-th smallest latency within the SLO, and not one more."""
    from fractions import Fraction
    from math import ceil

    rank = max(ceil(Fraction(str(quantile)) * requests), 1)
    allowed = int(allowed_misses(requests, quantile))
    for misses in (allowed, allowed + 1):
        ordered = np.sort(np.r_[np.full(requests - misses, 100.0), np.full(misses, 200.0)])
        assert (ordered[rank - 1] <= SLO_MS) == (misses == allowed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latency_ms": np.zeros((3, 2))}, "one shape"),
        ({"carbon_mg": np.array([[1.0, 2.0], [np.nan, 1.0]])}, "carbon_mg of request 1 is NaN"),
        ({"carbon_mg": np.array([[1.0, np.inf], [1.0, 1.0]])}, "must be finite"),
        ({"allowed": np.array([[True, False], [False, False]])}, "request 1 has no reachable"),
        ({"allowed": np.ones((2, 3), dtype=bool)}, "allowed has shape"),
        ({"quantile": 1.0}, "quantile must lie between"),
    ],
)
def test_refuses_what_cannot_be(change, message):
    given = {"carbon_mg": np.ones((2, 2)), "latency_ms": np.ones((2, 2)), "slo_ms": SLO_MS, "quantile": 0.95}
    with pytest.raises(InputError, match=message):
        solve_budget(**(given | change))
