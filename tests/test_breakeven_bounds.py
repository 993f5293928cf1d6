"""Proofs and bounds against the simulator: no played request and no played hindsight may break them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbonpilot.envs.scenario import load_scenario, merge
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.validation import validated
from carbonpilot.oracle.breakeven import break_even
from carbonpilot.oracle.breakeven_costs import placement_terms
from carbonpilot.oracle.breakeven_proof import proven_best
from carbonpilot.oracle.breakeven_world import draw_world


def khan(ratio, **changes):
    """khan-lan with the server in a grid of its own."""
    data = load_scenario("khan-lan").model_dump(by_alias=True)
    data["zones"]["server"] = {"kind": "constant", "carbon_g_per_kwh": 400 * ratio}
    data["nodes"]["edge"]["zone"] = "server"
    return Scenario.model_validate(merge(data, changes))


def test_khans_ratio_is_where_the_proof_changes_sides():
    assert break_even(khan(0.172)).proven_best == "local-b0"
    below = break_even(khan(0.170))
    assert below.proven_best == "edge-b4"
    assert "A fixed choice (edge-b4) is best everywhere" in below.conclusion
    assert below.saving.any_latency == pytest.approx(1 - 0.170 / (5.1 / 29.8), abs=1e-3)


def test_nothing_is_proven_where_the_batch_decides():
    """PAPERS.md, Khan et al. (6): batched, the ratio is 0.51 to 1.02; so with tenants 0.3 is not always dirtier."""
    background = {
        "service_ms": 56,
        "service_distribution": "deterministic",
        "mean_low_load": 0.2,
        "mean_high_load": 0.9,
        "ar1_per_s": 0.9,
        "sigma_load": 0.05,
    }
    shared = khan(0.3, nodes={"edge": {"background": background}})
    assert break_even(khan(0.3)).proven_best == "local-b0"
    result = break_even(shared)
    assert result.proven_best is None
    assert 0 < result.pair("local-b0", "edge-b4").share_b_greener < 1
    batch = result.pair("local-b0", "edge-b4").tip("carbon", "batch", "marginal", "awake")
    shared_j, own_j = 29.8 - 4.31, 4.31
    assert batch.value == pytest.approx(shared_j / (5.1 / 0.3 - own_j), rel=1e-4)


def test_idle_power_of_a_closed_loop_is_not_proven_over():
    assert load_scenario("khan-lan").account == "marginal"
    assert break_even(khan(1.0, account="attributional")).proven_best is None


@pytest.mark.parametrize("account", ["marginal", "attributional"])
def test_a_radio_on_a_lossy_link_has_no_largest_energy(account):
    """A remote placement is never proven best where recovery can keep the radio on."""
    data = load_scenario("metro-mild").model_dump(by_alias=True)
    for zone, grid in (("home", 800), ("north", 1), ("south", 1)):
        data["zones"][zone] = {"kind": "constant", "carbon_g_per_kwh": grid}
    data["zones"]["city"] = {"kind": "constant", "carbon_g_per_kwh": 1}
    site = Scenario.model_validate(data)
    world = draw_world(site, moments=64)
    assert proven_best(site, placement_terms(site), world, account) is None


def played_mg(site, choose, episodes=48):
    """Mean CO2 of a request when ``choose`` sees what each placement would give (P, B)."""
    simulator = Simulator(site, episodes, part="evaluation")
    simulator.reset(np.arange(episodes))
    seen = []
    for _ in range(site.episode.requests):
        seen.append(simulator.step(choose(simulator.preview())).outcome.carbon_mg)
    return np.mean(seen)


def greedy(outcomes):
    """Hindsight that forgets the radio: lowest carbon of everything else within the SLO."""
    grid = outcomes[0].carbon_mg_marginal / outcomes[0].energy_j_marginal
    carbon = np.stack([o.carbon_mg - o.radio_energy_j * grid for o in outcomes])
    late = np.stack([o.missed for o in outcomes])
    late[0] = False
    return np.where(late, np.inf, carbon).argmin(axis=0)


@pytest.mark.parametrize("name", ["metro-mild", "metro-b4"])
def test_the_bound_lies_above_played_hindsight(name):
    """Not only on the page: on episodes of 300 requests, played here."""
    data = load_scenario(name).model_dump(by_alias=True)
    site = Scenario.model_validate(merge(data, {"episode": {"requests": 300}}))
    local = played_mg(site, lambda o: np.zeros(o[0].carbon_mg.size, dtype=int))
    saved = 1 - played_mg(site, greedy) / local
    assert 0.05 < saved < break_even(site).saving.no_miss


def test_always_local_emits_what_the_moments_say():
    site = load_scenario("metro-mild")
    local = played_mg(Scenario.model_validate(merge(site.model_dump(by_alias=True), {"episode": {"requests": 1}})),
                      lambda o: np.zeros(o[0].carbon_mg.size, dtype=int), episodes=4096)  # fmt: skip
    world = draw_world(site)
    evaluation = world.intensity["home"][world.parts[1]].mean() * 5.1 / 3600
    assert local == pytest.approx(evaluation, rel=0.03)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ratio=st.floats(0.05, 3),
    account=st.sampled_from(["marginal", "attributional"]),
    radio=st.booleans(),
    shared=st.booleans(),
    idle_w=st.sampled_from([0.0, 60.0]),
    payload_kb=st.sampled_from([25.0, 400.0]),
    energy_j=st.sampled_from([0.3, 1.0, 8.0]),
)
def test_a_proof_holds_on_every_played_request(
    tiny, ratio, account, radio, shared, idle_w, payload_kb, energy_j
):
    """Any mixture of placements, any moment: the proven placement never emits more than another would."""
    if not shared:
        tiny["nodes"]["edge"].update(background=None, batching=None)
        tiny["placements"][1]["batched_energy_j"] = None
    tiny["nodes"]["edge"]["idle_power_w"] = idle_w
    tiny["account"], tiny["payload"] = account, {"low_kb": 25.0, "high_kb": payload_kb}
    tiny["links"]["uplink"]["transfer"] = {"model": "empirical", "jitter": "normal"}
    tiny["placements"][0]["active_energy_j"] = energy_j
    tiny["zones"]["away"]["carbon_g_per_kwh"] = 400 * ratio
    if radio:
        tiny["device"]["radio"] = {"transmit_power_w": 1.0, "tail_power_w": 0.5, "tail_s": 1.0}
    site = validated(Scenario, tiny, "tiny")
    best = proven_best(site, placement_terms(site), draw_world(site, moments=64), account)
    if best is None:
        return
    index = [p.name for p in site.placements].index(best)
    simulator, rng = Simulator(site, 32), np.random.default_rng(0)
    simulator.reset(np.arange(32))
    for _ in range(30):
        emitted = np.stack([o.carbon_mg for o in simulator.preview()])
        assert (emitted[index] <= emitted.min(axis=0) * (1 + 1e-6)).all()
        simulator.step(rng.integers(0, 2, 32))


def test_a_policy_that_chooses_its_times_is_bounded_at_their_best(tiny_scenario):
    """In a closed loop quick answers put more requests into good times, so averages over time bound nothing."""
    changes = {"zones": {"away": {"carbon_g_per_kwh": 400}}, "payload": {"low_kb": 25, "high_kb": 25}}
    open_loop = break_even(tiny_scenario(**changes)).saving
    closed = break_even(tiny_scenario(**changes, arrivals={"kind": "closed_loop"})).saving
    full_j = 1.2 * (0.5 + 1.5 / 8) + 25 * 8e3 * 10e-9
    assert open_loop.no_miss < open_loop.any_latency < 1 - full_j / 1.0
    assert closed.no_miss == closed.any_latency == pytest.approx(1 - full_j / 1.0, rel=1e-6)


NEAR = {"rtt_ms": 0, "jitter_ms": 0, "loss_pct": 0}


def grids(home, away):
    return {name: {"kind": "constant", "carbon_g_per_kwh": g} for name, g in (("home", home), ("away", away))}


def test_any_intensity_is_possible_in_a_recorded_grid():
    """Only what is drawn from one and the same grid can then be compared."""
    apart, together = khan(1.0), load_scenario("khan-lan")
    for site, best in ((apart, None), (together, "local-b0")):
        world = draw_world(site, moments=64)
        unknown = replace(world, bounds=dict.fromkeys(world.bounds, (0.0, np.inf)))
        assert proven_best(site, placement_terms(site), unknown, "marginal") == best


def test_a_batch_that_costs_more_is_bounded_from_both_sides(tiny):
    """Nothing forbids one more image to cost more than the first; then the fullest batch is the dearest."""
    tiny["placements"][1]["batched_energy_j"] = 4.0  # alone 2.0, in a batch of 8 3.75
    for ratio, best in ((0.2, "edge-b0"), (0.3, None), (0.45, "local")):
        tiny["zones"] = grids(400, 400 * ratio)
        site = validated(Scenario, tiny, "tiny")
        assert proven_best(site, placement_terms(site), draw_world(site, moments=64), "marginal") == best


def test_a_best_placement_that_misses_the_objective_is_told(tiny_scenario):
    slow = break_even(tiny_scenario(slo={"latency_ms": 30}))
    assert slow.proven_best == "edge-b0"
    assert "A fixed choice" not in slow.conclusion
    assert "or more of its requests miss the SLO" in slow.conclusion


@pytest.mark.parametrize(
    "changes",
    [
        {"zones": grids(0, 50)},
        {"zones": grids(400, 0)},
        {"zones": grids(0, 0)},
        {"payload": {"low_kb": 0, "high_kb": 0}},
        {"arrivals": {"kind": "poisson", "low_per_s": 500, "high_per_s": 900}},  # no queue holds this
        {"links": {"uplink": {"source": {"phases": [{**NEAR, "rate_mbps": 0.01}]}}}},
    ],
)  # fmt: skip
def test_extremes_are_told_without_a_warning(tiny_scenario, changes):
    result = break_even(tiny_scenario(**changes))
    assert result.conclusion.endswith(".")
    assert result.proven_best is not None
    json.dumps(result.as_json(), allow_nan=False)
