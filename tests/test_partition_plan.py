"""Plans against every plan there is, on small problems, and against sums done by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents.partition.balance import balanced, green
from carbonpilot.agents.partition.cheapest import cheapest
from carbonpilot.agents.partition.plan import evaluate, whole
from carbonpilot.agents.partition.problem import MEASURES, Problem
from carbonpilot.envs.errors import InputError


def problem(block: dict, crossing: dict, kb=None) -> Problem:
    blocks, nodes = block["latency_ms"].shape
    return Problem(
        nodes=tuple(f"n{k}" for k in range(nodes)),
        boundaries=("input", *(f"cut-{b:03d}" for b in range(1, blocks)), "output"),
        block=block,
        crossing=crossing,
        crossing_kb=np.arange(1.0, blocks + 1) if kb is None else kb,
        refused=("",) * nodes,
    )


@st.composite
def problems(draw, most_blocks: int = 7, most_nodes: int = 4) -> Problem:
    """Small whole numbers, so that ties are common and sums exact; some blocks cannot run, some ways are missing."""
    blocks, nodes = draw(st.integers(1, most_blocks)), draw(st.integers(1, most_nodes))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    largest = draw(st.sampled_from([2, 10, 1000]))
    barred, missing = draw(st.sampled_from([0.0, 0.15])), draw(st.sampled_from([0.0, 0.3]))
    cannot = rng.random((blocks, nodes)) < barred
    no_way = rng.random((nodes, nodes)) < missing
    forward = np.triu(np.ones((nodes, nodes), bool), 1) & ~no_way
    block = {
        name: np.where(cannot, np.inf, rng.integers(0, largest, (blocks, nodes)).astype(float))
        for name in MEASURES
    }
    crossing = {
        name: np.where(forward, rng.integers(0, largest, (blocks, nodes, nodes)).astype(float), np.inf)
        for name in MEASURES
    }
    return problem(block, crossing)


def every_plan(p: Problem) -> list[tuple[int, ...]]:
    """Boundaries at which each node stops, in all ways."""
    last = p.blocks
    return [
        (*ends, last) for ends in itertools.combinations_with_replacement(range(last + 1), len(p.nodes) - 1)
    ]


def totals(p: Problem, ends: tuple[int, ...]) -> dict[str, float]:
    """A plan walked block by block, apart from the package's own sums."""
    out = dict.fromkeys((*MEASURES, "crossing_ms", "bottleneck_ms"), 0.0)
    where, stage = 0, 0.0
    for b in range(p.blocks):
        node = next(k for k, end in enumerate(ends) if end > b)
        if node != where:
            away = p.crossing["latency_ms"][b, where, node]
            out["bottleneck_ms"] = max(out["bottleneck_ms"], stage, away)
            out["crossing_ms"] += away
            for name in MEASURES:
                out[name] += p.crossing[name][b, where, node]
            where, stage = node, 0.0
        stage += p.block["latency_ms"][b, node]
        for name in MEASURES:
            out[name] += p.block[name][b, node]
    out["bottleneck_ms"] = max(out["bottleneck_ms"], stage)
    return out


@given(problems())
def test_a_plan_is_worth_what_it_adds_up_to(p):
    for ends in every_plan(p):
        plan, expected = evaluate(p, ends), totals(p, ends)
        for name, value in expected.items():
            assert getattr(plan, name) == pytest.approx(value), (ends, name)


@given(problems(), st.sampled_from(MEASURES))
@settings(max_examples=200)
def test_the_cheapest_plan_is_the_cheapest_of_all(p, measure):
    worth = [totals(p, ends) for ends in every_plan(p)]
    best = min((t[measure], t["latency_ms"]) for t in worth)
    plan = cheapest(p, measure)
    if math.isinf(best[1]):
        assert plan is None
    else:
        assert plan is not None
        assert (getattr(plan, measure), plan.latency_ms) == pytest.approx(best)


@given(problems(), st.sampled_from(["energy_j", "carbon_mg"]), st.integers(0, 100))
@settings(max_examples=300)
def test_the_cheapest_plan_within_a_limit_is_the_cheapest_of_those(p, measure, percentile):
    worth = [totals(p, ends) for ends in every_plan(p)]
    finite = [t["latency_ms"] for t in worth if math.isfinite(t["latency_ms"])]
    limit = float(np.percentile(finite, percentile, method="lower")) if finite else 10.0
    allowed = [t[measure] for t in worth if t["latency_ms"] <= limit]
    plan = cheapest(p, measure, limit)
    if not allowed or math.isinf(min(allowed)):
        assert plan is None
    else:
        assert plan is not None
        assert getattr(plan, measure) == pytest.approx(min(allowed))
        assert plan.latency_ms <= limit
    assert cheapest(p, measure, -1.0) is None


def over_all_nodes(p: Problem) -> list[dict[str, float]]:
    plans = [
        ends for ends in every_plan(p) if ends[0] > 0 and all(a < b for a, b in itertools.pairwise(ends))
    ]
    worth = [totals(p, ends) for ends in plans]
    return [t for t in worth if math.isfinite(t["bottleneck_ms"])]


@given(problems())
@settings(max_examples=200)
def test_the_balanced_plan_has_the_least_bottleneck_and_then_the_least_to_cross(p):
    if p.blocks < len(p.nodes):
        with pytest.raises(InputError, match="are to have a part each"):
            balanced(p)
        return
    worth, plan = over_all_nodes(p), balanced(p)
    if not worth:
        assert plan is None
    else:
        assert plan is not None
        best = min((t["bottleneck_ms"], t["crossing_ms"]) for t in worth)
        assert (plan.bottleneck_ms, plan.crossing_ms) == pytest.approx(best)
        assert len(plan.stretches) == len(p.nodes)


@given(problems(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
@settings(max_examples=200)
def test_the_green_plan_has_the_least_weighted_sum(p, weight):
    if p.blocks < len(p.nodes):
        return
    worth, plan = over_all_nodes(p), green(p, weight)
    if not worth:
        assert plan is None
        return
    assert plan is not None
    least = {name: min(t[name] for t in worth) for name in ("bottleneck_ms", "carbon_mg")}

    def score(bottleneck_ms: float, carbon_mg: float) -> float:
        load = bottleneck_ms / least["bottleneck_ms"] if least["bottleneck_ms"] else 1.0
        carbon = carbon_mg / least["carbon_mg"] if least["carbon_mg"] else 1.0
        return (1 - weight) * load + weight * carbon

    best = min(score(t["bottleneck_ms"], t["carbon_mg"]) for t in worth)
    assert score(plan.bottleneck_ms, plan.carbon_mg) == pytest.approx(best)


def test_numbers_with_many_digits_end_too():
    """Sums in another order differ in the last digit, and the walk along the front must still come to an end."""
    rng = np.random.default_rng(5)
    block = {name: rng.random((40, 3)) / 3.0 for name in MEASURES}
    way = np.triu(np.ones((3, 3), bool), 1)
    crossing = {name: np.where(way, rng.random((40, 3, 3)) / 7.0, np.inf) for name in MEASURES}
    p = problem(block, crossing)
    plan, even = green(p), balanced(p)
    assert plan is not None
    assert even is not None
    assert even.bottleneck_ms <= plan.bottleneck_ms + 1e-9
    quickest = cheapest(p, "latency_ms")
    assert quickest is not None
    tight = cheapest(p, "carbon_mg", quickest.latency_ms)
    assert tight is not None
    assert tight.latency_ms == pytest.approx(quickest.latency_ms)


def test_a_slow_link_keeps_everything_on_the_device_and_a_quick_one_sends_everything():
    def site(away_ms: float) -> Problem:
        block = {name: np.tile([10.0, 1.0], (3, 1)) for name in MEASURES}
        crossing = {name: np.full((3, 2, 2), np.inf) for name in MEASURES}
        for name in MEASURES:
            crossing[name][:, 0, 1] = away_ms
        return problem(block, crossing)

    assert cheapest(site(100.0), "latency_ms") == whole(site(100.0), 0)
    assert cheapest(site(0.5), "latency_ms") == whole(site(0.5), 1)


def test_a_shrinking_activation_is_where_the_cut_lies():
    """Neurosurgeon's case: the input is large, the middle small, the server quick."""
    block = {name: np.tile([10.0, 1.0], (4, 1)) for name in MEASURES}
    away = np.array([200.0, 150.0, 2.0, 150.0])
    crossing = {name: np.full((4, 2, 2), np.inf) for name in MEASURES}
    for name in MEASURES:
        crossing[name][:, 0, 1] = away
    plan = cheapest(problem(block, crossing), "latency_ms")
    assert plan is not None
    assert plan.ends == (2, 4)
    assert plan.latency_ms == 10 + 10 + 2 + 1 + 1
    assert plan.crossing_kb == 3.0
