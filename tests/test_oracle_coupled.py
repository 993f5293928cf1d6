"""The coupled oracle: its bound against random plans and brute force on random sites, its plans against known ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from carbonpilot.agents.metrics import episode_metrics
from carbonpilot.agents.policy_registry import contestants, default_policies
from carbonpilot.agents.rollout import run_policy
from carbonpilot.envs.scenario import load_scenario, merge
from carbonpilot.envs.schema import Episode, Scenario
from carbonpilot.envs.tape import evaluation_seeds
from carbonpilot.oracle import coupled
from carbonpilot.oracle.anywhen import anywhen_bound
from carbonpilot.oracle.coupled import Effort, solve_coupled
from carbonpilot.oracle.dual import Climb, Prices, climb, evaluate, first_prices
from carbonpilot.oracle.exhaustive import every_plan, plan_count, play_every_plan
from carbonpilot.oracle.relaxation import relax, requests_played
from carbonpilot.oracle.replay import columns_of, replay, tapes_for
from carbonpilot.oracle.separate import separate_bound
from carbonpilot.oracle.solvers import ORACLES, make_oracle, solve_budget_coupled, solve_per_request

QUICK = Effort(
    climb=Climb(steps=40, refresh=20), again=10, factors=(0.6, 1.0, 1.5), width=4, points=6, swaps=1
)
RANDOM = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def site(
    rng: np.random.Generator,
    requests: int,
    arrivals: dict | None = None,
    quantile: float = 0.9,
    split_share: float = 0.0,
) -> Scenario:
    """A random site with one to three nodes on one or two links, with and without every switchable part.

    ``split_share`` of the nodes also take the rest of a split model.
    """
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    data = load_scenario("metro").model_dump(mode="json", by_alias=True)
    slow = {
        "slowdown": 1.4,
        "time_constant_s": 2,
        "hot_utilisation": 0.5,
        "cool_utilisation": 0.4,
        "ambient_spread": 0.1,
    }
    node = data["nodes"]["edge"]
    nodes, placements = {}, [data["placements"][0]]
    if rng.random() < 0.3:
        placements.append({**placements[0], "name": "local-slow", "active_energy_j": 3.0,
                           "service": {"distribution": "lognormal", "p50_ms": 120, "p95_ms": 140}})  # fmt: skip
    links = ["up"] if rng.random() < 0.7 else ["up", "second"]
    for i in range(rng.integers(1, 4)):
        batching = pick(None, node["batching"])
        background = pick(
            None, {"service_ms": 18, "service_distribution": "exponential", "phases": [{"load": 0.6}]}
        )
        nodes[f"n{i}"] = {
            **node, "link": pick(*links), "batching": batching, "background": background,
            "extra_rtt_ms": rng.uniform(0, 40), "zone": pick("a", "b"), "parallelism": int(rng.integers(1, 3)),
        }  # fmt: skip
        service = pick(
            {"distribution": "lognormal", "p50_ms": 18, "p95_ms": 40},
            {"distribution": "exponential", "mean_ms": 30},
        )
        placement = {"name": f"p{i}", "node": f"n{i}", "model": "m", "accuracy_miou": 70, "service": service,
                     "active_energy_j": rng.uniform(2, 12)}  # fmt: skip
        placements.append(placement | ({"batched_energy_j": 1.3} if batching else {}))
        if rng.random() < split_share:
            split = {"cut": "c", "active_energy_j": rng.uniform(0, 4), "activation_kb": rng.uniform(2, 90),
                     "service": {"distribution": "lognormal", "p50_ms": rng.uniform(5, 60), "p95_ms": 70}}  # fmt: skip
            placements.append({**placements[-1], "name": f"p{i}-c", "split": split})
    transfer = pick({"model": "tcp", "congestion_control": "bbr", "jitter": "normal"},
                    {"model": "tcp", "congestion_control": "cubic", "jitter": "normal"},
                    {"model": "empirical", "jitter": "normal"})  # fmt: skip
    phases = [{"until": 2, "rtt_ms": 60, "jitter_ms": 10, "loss_pct": rng.uniform(0, 6),
               "rate_mbps": rng.uniform(3, 40)},
              {"rtt_ms": 15, "jitter_ms": 2, "loss_pct": 0.2, "rate_mbps": 50}]  # fmt: skip
    link = {"source": {"kind": "phases", "phases": phases}, "transfer": transfer, "network_energy_nj_per_bit": 10,
            "network_zone": "a"}  # fmt: skip
    data |= {
        "name": "random", "nodes": nodes, "placements": placements, "links": dict.fromkeys(links, link),
        "zones": {"a": {"kind": "constant", "carbon_g_per_kwh": 400},
                  "b": {"kind": "constant", "carbon_g_per_kwh": 90}},
        "account": pick("marginal", "attributional"), "episode": {"requests": requests},
        "world_clock": pick("time", "request"), "slo": {"latency_ms": 150, "quantile": quantile},
        "arrivals": arrivals or pick({"kind": "poisson", "low_per_s": 5, "high_per_s": 20},
                                     {"kind": "periodic", "low_per_s": 9, "high_per_s": 14, "jitter_fraction": 0.2}),
    }  # fmt: skip
    data["device"] = {"zone": "a", "idle_power_w": 5, "throttling": pick(None, slow),
                      "radio": pick(None, {"transmit_power_w": 2, "tail_power_w": 1.2, "tail_s": 1.0})}  # fmt: skip
    return Scenario.model_validate(data)


def random_plans(rng, scenario, count):
    """Plans that stay with a placement for a while, as real ones do, and plans that do not."""
    placements, requests = len(scenario.placements), scenario.episode.requests
    share = rng.dirichlet(np.full(placements, 0.4), size=count)
    fresh = np.array([rng.choice(placements, size=requests, p=p) for p in share]).T
    stays = rng.random((requests, count)) < rng.choice([0.0, 0.7, 0.95], count)
    for n in range(1, requests):
        fresh[n] = np.where(stays[n], fresh[n - 1], fresh[n])
    return fresh


def many_plans(rng, scenario, tape, episode, count=60):
    columns = columns_of(tape, np.full(count, episode))
    return replay(scenario, columns, random_plans(rng, scenario, count))


@RANDOM
@given(seed=st.integers(0, 10**6))
def test_no_plan_falls_below_the_priced_bound_whatever_the_prices(seed):
    """carbon + price x (misses - allowed) of every plan is above the relaxation's total: before and after the climb."""
    rng = np.random.default_rng(seed)
    scenario = site(rng, requests=50)
    tape = tapes_for(scenario, [seed])
    relaxed = relax(scenario, tape, 0)
    prices = first_prices(relaxed)
    wild = prices.like(prices.flat() * rng.uniform(0, 2) + 0.1 * rng.standard_normal(prices.flat().size))
    wild = Prices(abs(wild.miss), abs(wild.busy), wild.offload, wild.entry, wild.leave)
    climbed, values = climb(relaxed, prices, QUICK.climb)
    assert values.total_mg >= evaluate(relaxed, prices).total_mg
    plain = separate_bound(relaxed, scenario.slo.quantile)
    given = many_plans(rng, scenario, tape, 0)
    for used in (prices, wild, climbed):
        priced = given.carbon_mg.sum(axis=0) + used.miss * (given.misses - given.allowed)
        assert (priced >= evaluate(relaxed, used).total_mg - 1e-9).all()
    keeps = given.misses <= given.allowed
    assert (given.carbon_mg.sum(axis=0)[keeps] >= plain - 1e-9).all()


@RANDOM
@given(seed=st.integers(0, 10**6))
def test_equals_brute_force_on_tiny_episodes(seed):
    rng = np.random.default_rng(seed)
    scenario = site(rng, requests=4, quantile=float(rng.choice([0.5, 0.7, 0.95])), split_share=0.3)
    assume(plan_count(scenario) <= coupled.MOST_PLANS)
    tape = tapes_for(scenario, [seed, seed + 1])
    exact = solve_coupled(scenario, tape)
    for b in range(2):
        plans, given = play_every_plan(scenario, tape, b)
        assert plans.shape[1] == len(scenario.placements) ** 4
        assert np.unique(plans, axis=1).shape == plans.shape
        keeps = given.misses <= given.allowed
        assert exact.feasible[b] == keeps.any()
        if keeps.any():
            assert exact.value_mg[b] == pytest.approx(given.value_mg[keeps].min(), rel=1e-12)
            assert exact.lower_bound_mg[b] == pytest.approx(exact.value_mg[b], rel=1e-12)
        else:
            assert exact.latency_ms[b] == given.quantile_ms.min()


@RANDOM
@given(seed=st.integers(0, 10**6))
def test_search_and_bound_enclose_the_optimum_of_tiny_episodes(seed):
    """The general method on episodes that brute force can solve: bound <= optimum <= plan, for both kinds of clock."""
    rng = np.random.default_rng(seed)
    closed = {"kind": "closed_loop"} if rng.random() < 0.4 else None
    scenario = site(
        rng, requests=5, quantile=float(rng.choice([0.5, 0.95])), arrivals=closed, split_share=0.3
    )
    tape = tapes_for(scenario, [seed])
    given = play_every_plan(scenario, tape, 0)[1]
    keeps = given.misses <= given.allowed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coupled, "MOST_PLANS", 0)
        found = solve_coupled(scenario, tape, effort=QUICK)
    optimum = given.value_mg[keeps].min() if keeps.any() else np.inf
    assert found.lower_bound_mg[0] <= optimum * (1 + 1e-12)
    assert found.value_mg[0] >= optimum * (1 - 1e-12) or not found.feasible[0]
    assert keeps.any() or not found.feasible[0]


@RANDOM
@given(seed=st.integers(0, 10**6))
def test_never_worse_than_any_policy_and_bound_below_all(seed):
    rng = np.random.default_rng(seed)
    closed = {"kind": "closed_loop"} if rng.random() < 0.3 else None
    scenario = site(rng, requests=40, arrivals=closed, split_share=0.4)
    seeds = [seed, seed + 1]
    tape = tapes_for(scenario, seeds)
    names = [*default_policies(scenario), *ORACLES[:3]]
    played = [run_policy(c.policy, scenario, seeds) for c in contestants(names, scenario)]
    known = random_plans(rng, scenario, 2)
    found = solve_coupled(scenario, tape, [known, *(p.placement for p in played)], effort=QUICK)
    for record in played:
        metrics = episode_metrics(record, scenario.slo)
        keeps, carbon = metrics["episodes_meeting_slo"] == 1, metrics["carbon_mg_per_request"]
        assert found.feasible[keeps].all()
        assert (found.value_mg[keeps] <= carbon[keeps] + 1e-12).all()
        assert (found.lower_bound_mg[keeps] <= carbon[keeps] + 1e-12).all()
    assert (found.lower_bound_mg[found.feasible] <= found.value_mg[found.feasible] + 1e-12).all()


def short(name: str, requests: int) -> Scenario:
    return load_scenario(name).model_copy(update={"episode": Episode(requests=requests)})


@pytest.mark.parametrize("name", ["metro", "clean-device", "ng-tenants", "khan-mixed", "carbonedge"])
def test_oracles_as_policies_play_what_they_promise(name):
    scenario = short(name, 60)
    seeds = evaluation_seeds(0, 2)
    tape = tapes_for(scenario, seeds)
    found = solve_coupled(scenario, tape, effort=QUICK)
    record = run_policy(make_oracle("oracle-coupled", scenario, QUICK), scenario, seeds)
    metrics = episode_metrics(record, scenario.slo)
    np.testing.assert_array_equal(record.placement, found.plan)
    np.testing.assert_allclose(metrics["carbon_mg_per_request"], found.value_mg, rtol=1e-12)
    np.testing.assert_array_equal(metrics["episodes_meeting_slo"] == 1, found.feasible)
    for count_radio in (True, False):
        per_request = solve_per_request(scenario, tape, count_radio)
        assert (found.value_mg <= per_request.value_mg)[per_request.feasible].all()
    budget = solve_budget_coupled(scenario, tape)
    assert (budget.value_mg <= per_request.value_mg + 1e-12)[per_request.feasible].all()
    assert budget.feasible[per_request.feasible].all()


def test_budget_oracle_spends_misses_where_they_save():
    scenario = short("metro", 100)
    tape = tapes_for(scenario, evaluation_seeds(0, 8))
    budget, warm = solve_budget_coupled(scenario, tape), solve_per_request(scenario, tape, count_radio=False)
    assert budget.feasible.all()
    assert budget.value_mg.mean() < warm.value_mg.mean()
    assert budget.misses.sum() > warm.misses.sum()


def test_gap_is_small_on_a_short_flagship():
    scenario = short("metro", 200)
    tape = tapes_for(scenario, evaluation_seeds(0, 2))
    found = solve_coupled(scenario, tape, effort=Effort(climb=Climb(steps=200)))
    assert found.feasible.all()
    assert (found.gap >= 0).all()
    assert found.gap.mean() < 0.1


def test_a_closed_loop_in_a_constant_world_is_solved_exactly():
    scenario = short("khan-lan", 40)
    found = solve_coupled(scenario, tapes_for(scenario, [1, 2]), effort=QUICK)
    assert found.feasible.all()
    np.testing.assert_allclose(found.gap, 0, atol=1e-8)
    assert "closed loop" in found.note


def test_says_that_nothing_meets_the_slo():
    data = short("metro", 30).model_dump(mode="json", by_alias=True)
    scenario = Scenario.model_validate(merge(data, {"slo": {"latency_ms": 20.0}}))
    found = solve_coupled(scenario, tapes_for(scenario, [3]), effort=QUICK)
    assert not found.feasible.any()
    assert (found.latency_ms > 20).all()
    smallest = coupled.smallest_reachable(scenario, tapes_for(scenario, [3]), [found.plan])
    assert (smallest.bound_ms > 20).all()
    assert (smallest.bound_ms <= smallest.found_ms).all()
    assert (smallest.found_ms <= found.latency_ms).all()


def test_smallest_reachable_quantile_encloses_brute_force():
    rng = np.random.default_rng(5)
    scenario = site(rng, requests=5, quantile=0.7)
    tape = tapes_for(scenario, [1])
    columns = columns_of(tape, np.zeros(len(scenario.placements) ** 5, dtype=np.int64))
    least = replay(scenario, columns, every_plan(scenario)).quantile_ms.min()
    smallest = coupled.smallest_reachable(scenario, tape)
    assert smallest.bound_ms[0] <= least + 1e-9
    assert smallest.found_ms[0] >= least - 1e-9


def test_closed_loop_bound_of_an_unknown_length_is_below_that_of_any_length():
    scenario = short("carbonedge", 12)
    tape = tapes_for(scenario, [1])
    lengths = [anywhen_bound(scenario, tape, 0, n) for n in (1, 5, 12)]
    assert anywhen_bound(scenario, tape, 0, None) <= min(lengths)
    assert requests_played(short("khan-mixed", 12), tapes_for(short("khan-mixed", 12), [1]), 0) == 12
