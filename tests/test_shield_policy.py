"""Policies under the shield in the simulator: nothing changes while all is well, and the budget is kept."""

import copy

import numpy as np
import pytest
from conftest import TINY
from device_room import Wants, site, vector
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents.policy import Policy
from carbonpilot.agents.policy_registry import contestant, contestants, resolve
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.shield import ShieldedPolicy
from carbonpilot.agents.shield_guards import GUARDS, Guards
from carbonpilot.agents.shield_settings import ShieldSettings
from carbonpilot.agents.shield_sight import ShieldSight
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario, merge
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.validation import validated

SITE = site()
COUNT = len(SITE.placements)
ALL = np.ones(COUNT, bool)


def shielded(answer=1, scenario=SITE, **settings_):
    policy = ShieldedPolicy(Wants(answer), scenario, ShieldSettings(**settings_) if settings_ else None)
    policy.reset(1)
    return policy


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_nothing_changes_while_nothing_is_wrong_and_the_budget_is_ample(data):
    """Whatever is wanted, believed late or not: while misses are not ahead of plan the policy has its way."""
    progress = data.draw(st.floats(0, 0.9))
    latencies = {
        f"{p.name.replace('-', '_')}_latency_ms": data.draw(st.floats(1, 600)) for p in SITE.placements
    }
    seen = vector(
        SITE, uplink_probe_age_s=data.draw(st.floats(0, 2)), edge_load_age_s=data.draw(st.floats(0, 3)),
        feed_age_h=data.draw(st.floats(0, 2)), progress=progress,
        slo_budget_spent=data.draw(st.floats(0, 1)) * min(progress, 0.8), **latencies,
    )  # fmt: skip
    wanted = data.draw(st.integers(0, COUNT - 1))
    policy = shielded(wanted)
    assert policy.decide(seen, ALL) == wanted
    assert policy.reasons == {"policy": 1}
    assert policy.policy.seen[0].all()


def test_a_compliant_policy_on_an_easy_site_is_never_overruled():
    policy = ShieldedPolicy(resolve("always-local", load_scenario("metro-mild")), load_scenario("metro-mild"))
    record = run_policy(policy, load_scenario("metro-mild"), range(4))
    assert (record.placement == 0).all()
    assert set(policy.reasons) == {"policy"}


@pytest.mark.parametrize("name", ["pretrained", "learned-risk", "slo-predictive-budget"])
def test_a_good_policy_pays_next_to_nothing_for_the_shield(name):
    """They spend misses early on purpose; a shield that knew no head start cost the agent 2 %."""
    scenario, seeds = load_scenario("metro"), np.random.default_rng(5).integers(0, 2**62, 60)
    alone = run_policy(resolve(name, scenario), scenario, seeds, "training")
    under = run_policy(ShieldedPolicy(resolve(name, scenario), scenario), scenario, seeds, "training")
    assert under.carbon_mg.mean() <= 1.01 * alone.carbon_mg.mean()
    assert under.missed.sum() <= 1.05 * alone.missed.sum()


def everywhere(latency_ms):
    """The same believed latency for all placements."""
    return {f"{p.name.replace('-', '_')}_latency_ms": latency_ms for p in SITE.placements}


def overruled(reason, answer=1, mask=ALL, **changes):
    policy = shielded(answer)
    placement = policy.decide(vector(SITE, **changes), mask)
    assert policy.reasons == {reason: 1}
    return placement, policy.policy.seen[0].tolist()


def test_what_is_stale_is_masked_before_the_policy_is_asked():
    only_local = [True] + [False] * (COUNT - 1)
    assert overruled("stale-probe", uplink_probe_age_s=3.0) == (0, only_local)
    assert overruled("stale-feed", feed_age_h=30.0) == (0, only_local)
    assert overruled("stale-load", edge_load_age_s=10.0) == (0, [True, False, False, True, True])
    assert overruled("policy", answer=3, edge_load_age_s=10.0)[0] == 3
    mask = np.array([True, False, True, True, True])
    assert overruled("masked", mask=mask) == (0, mask.tolist())


def test_a_limit_that_the_site_itself_is_beyond_is_wider():
    """A site whose loads are always reported late, or whose probes are rare, is not stale all the time."""
    telemetry = SITE.telemetry.model_copy(update={"load_delay_high_s": 14.0, "probe_interval_s": 5.0})
    slow = SITE.model_copy(update={"telemetry": telemetry})
    assert (
        shielded(scenario=slow).decide(vector(SITE, edge_load_age_s=14.0, uplink_probe_age_s=14.0), ALL) == 1
    )
    assert shielded(scenario=slow).decide(vector(SITE, uplink_probe_age_s=15.0), ALL) == 0


def test_misses_ahead_of_plan_leave_only_what_is_predicted_in_time():
    late = {"edge_b0_latency_ms": 140.0, "north_b0_latency_ms": 60.0, "north_b0_carbon_mg": 0.2}
    ahead = {"slo_budget_spent": 0.45, "progress": 0.3}
    assert overruled("policy", **late)[0] == 1
    assert overruled("policy", **late, slo_budget_spent=0.35, progress=0.3)[0] == 1  # within the head start
    assert overruled("predicted-late", **late, **ahead)[0] == 3  # the least carbon of those in time
    all_late = everywhere(300.0)
    assert overruled("policy", **all_late, **ahead)[0] == 1  # nothing is in time: the policy knows best


def test_with_few_misses_left_only_what_is_well_in_time_is_chosen_unless_the_end_is_near():
    few = {"slo_budget_spent": 0.9, "progress": 0.5}  # 5 of 50 are left
    near = {"edge_b0_latency_ms": 110.0}  # 137.5 at its upper end: in time, but not by far
    assert overruled("policy", edge_b0_latency_ms=100.0, north_b0_latency_ms=40.0, **few)[0] == 1
    clean = {"north_b0_latency_ms": 100.0, "north_b0_carbon_mg": 0.2, "south_b0_latency_ms": 40.0}
    assert overruled("budget", **near, **clean, **few)[0] == 3  # the cleanest that is, not the fastest
    assert (
        overruled("policy", **near, **clean, slo_budget_spent=0.9, progress=0.997)[0] == 1
    )  # 3 requests are left
    assert overruled("policy", answer=3, **near, **clean, **few)[0] == 3
    all_near = everywhere(115.0)
    assert overruled("policy", **all_near, **few)[0] == 1  # nothing is: the policy knows best


def test_a_budget_that_is_overdrawn_saves_nothing_at_any_price():
    """Only what is predicted late is overruled then, as wherever misses are ahead of plan."""
    late = everywhere(140.0)
    fast = {**late, "north_b0_latency_ms": 40.0, "progress": 0.5}
    near = {**fast, "edge_b0_latency_ms": 110.0}
    assert overruled("budget", **near, slo_budget_spent=1.0)[0] == 3  # the last miss is not made yet
    assert overruled("policy", **near, slo_budget_spent=1.02)[0] == 1
    assert overruled("predicted-late", **fast, slo_budget_spent=1.02)[0] == 3


def test_a_broken_row_goes_local_and_harms_no_other():
    rows = np.stack([vector(SITE)] * 3)
    rows[1, 4] = np.nan
    policy = ShieldedPolicy(Wants(1), SITE)
    policy.reset(3)
    assert policy.decide(rows, np.ones((3, COUNT), bool)).tolist() == [1, 0, 1]
    assert policy.reasons == {"policy": 2, "bad-observation": 1}


def test_a_batch_is_that_many_single_streams():
    scenario = site("metro", requests=150)
    together = ShieldedPolicy(resolve("always-edge-b0", scenario), scenario)
    record = run_policy(together, scenario, [3, 4])
    for column, seed in enumerate((3, 4)):
        alone = ShieldedPolicy(resolve("always-edge-b0", scenario), scenario)
        alone.reset(1)
        simulator = Simulator(scenario, 1, part="evaluation")
        seen = simulator.reset([seed])[0]
        for n in range(150):
            placement = alone.decide(seen, simulator.masks()[0])
            assert placement == record.placement[n, column]
            seen = simulator.step([placement]).observation[0]
    assert together.reasons["policy"] < 300


# Links that fail in every way, in front of a device that can keep the objective alone.

GOOD = {"rtt_ms": 20, "jitter_ms": 2, "loss_pct": 0.1, "rate_mbps": 50}


def phases(*parts):
    return [{**GOOD, **changes} | ({"until": until} if until else {}) for until, changes in parts]


FLAPPING = [part for i in range(12) for part in ((8 + 4 * i, {}), (10 + 4 * i, {"rate_mbps": 0.5}))]
ADVERSARIES = {
    "cut": phases((15, {}), (18, {"rate_mbps": 0.3}), (23, {}), (29, {"rate_mbps": 0.2}), (None, {})),
    "loss": phases((15, {}), (25, {"loss_pct": 20}), (None, {})),
    "rtt": phases(
        (15, {}), (20, {"rtt_ms": 300, "jitter_ms": 50}), (25, {}), (27, {"rtt_ms": 500}), (None, {})
    ),
    "flapping": phases(*FLAPPING, (None, {})),
    "bursts": phases((None, {})),
}


def adversary(name):
    changes = {
        "episode": {"requests": 400},
        "links": {"uplink": {"source": {"kind": "phases", "phases": ADVERSARIES[name]}}},
    }
    if name == "bursts":
        bursts = {"per_minute": 12, "low_load": 0.3, "high_load": 0.8, "low_s": 3, "high_s": 9}
        changes["nodes"] = {"edge": {"background": {"bursts": bursts}}}
    placements = copy.deepcopy(TINY["placements"])
    placements[0]["service"] = {"distribution": "lognormal", "p50_ms": 70, "p95_ms": 90}
    return validated(Scenario, merge(copy.deepcopy(TINY), {**changes, "placements": placements}), name)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_no_policy_that_keeps_the_budget_breaks_it_under_the_shield(name):
    scenario, seeds, allowed = adversary(name), range(20), 0.05 * 400
    mended = broken = 0
    for policy in ("always-local", "always-edge-b0", "slo-predictive", "slo-predictive-budget", "random"):
        plain = run_policy(resolve(policy, scenario), scenario, seeds).missed.sum(axis=0)
        under = run_policy(resolve(f"{policy}+shield", scenario), scenario, seeds).missed.sum(axis=0)
        broken += ((plain <= allowed) & (under > allowed)).sum()
        mended += ((plain > allowed) & (under <= allowed)).sum()
    assert broken == 0
    assert mended > 20


def test_the_guards_learn_the_upper_latency_of_answers():
    """Without overruling and forgetting, one answer in twenty is above the tracked latency."""
    steady = {"mean_low_load": 0.4, "mean_high_load": 0.4}
    changes = {"episode": {"requests": 2000}, "nodes": {"edge": {"background": steady}}}
    scenario = validated(Scenario, merge(copy.deepcopy(TINY), changes), "steady")
    free = ShieldSettings(reserve_misses=0, head_start=1e3, forget_s=1e9)
    policy = ShieldedPolicy(resolve("always-edge-b0", scenario), scenario, free)
    run_policy(policy, scenario, range(6))
    trackers = [stream.guards.trackers[1] for stream in policy._streams]
    shares = [t.above / t.count for t in trackers]
    assert min(t.count for t in trackers) > 1800
    error = np.std(shares, ddof=1) / np.sqrt(6)
    assert abs(np.mean(shares) - 0.05) < 0.003 + 4 * error < 0.01
    assert policy.reasons == {"policy": 12_000}


# By name.


def test_any_name_may_have_the_shield():
    found = contestants(["random", "random+shield", "slo-predictive-budget+shield"], SITE)
    assert [c.name for c in found] == ["random", "random-shielded", "slo-predictive-budget-shielded"]
    assert found[2].kind == "rule"
    assert found[2].policy.tuned  # as the policy itself
    assert isinstance(found[2].policy, Policy)
    assert "overruled" not in found[2].policy.note
    with pytest.raises(InputError, match="Unknown policy 'randm'"):
        contestant("randm+shield", SITE)
    with pytest.raises(InputError, match=r"knows the outcomes.*leave \+shield out"):
        contestant("oracle-per-request+shield", SITE)


def test_the_note_says_how_often_it_overruled():
    policy = shielded(1)
    policy.decide(vector(SITE), ALL)
    policy.decide(vector(SITE, uplink_probe_age_s=9.0), ALL)
    assert policy.note == "shield overruled 50.0 % of decisions"
    policy.policy.note = "as published"
    assert policy.note.startswith("as published. shield")


@pytest.mark.parametrize(
    ("name", "value"), [("reserve_misses", -1), ("miss_level", 0), ("miss_level", 1), ("forget_s", 0)]
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        ShieldSettings(**{name: value})


def test_reasons_are_those_of_the_list():
    guards = Guards(ShieldSight(SITE), ShieldSettings())
    assert set(guards.why) == {""}
    assert {"policy", "masked", "budget", "predicted-late", "bad-observation"} < set(GUARDS)
