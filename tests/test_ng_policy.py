"""Algorithm 1 as a policy: it switches as the paper prints, from the observation alone, on every scenario."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents import ng_policy
from carbonpilot.agents.baselines import ObservationReader
from carbonpilot.agents.ng_policy import NAMES, TUNABLES, make
from carbonpilot.agents.ng_prediction import Predictor, believed, believed_rate_per_s, queue_wait
from carbonpilot.envs import queueing as q
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario, scenario_dict, shipped_scenarios
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator

NAME = "ng-resource-manager"
WITHOUT_TRACES = [n for n in shipped_scenarios() if load_scenario(n).split == "seeds"]


def play(scenario: Scenario, parameters=None, episodes: int = 4, requests: int | None = None):
    """Issue times (s), placements and latencies (N, B)."""
    simulator = Simulator(scenario, episodes, "evaluation")
    observation = simulator.reset(np.arange(episodes))
    policy = make(NAME, scenario, parameters)
    policy.reset(episodes)
    kept = []
    for _ in range(requests or scenario.episode.requests):
        action = np.asarray(policy.decide(observation, simulator.masks()))
        step = simulator.step(action)
        observation = step.observation
        kept.append((step.outcome.issued_ms / 1000, action, step.outcome.latency_ms))
    return tuple(np.array(column) for column in zip(*kept, strict=True))


def observation_of(scenario: Scenario, **values: float) -> np.ndarray:
    """An observation (1, F) with some features set, in their units, and zeros elsewhere."""
    table = ObservationReader(scenario).table
    return table.encode({name: values.get(name, 0.0) for name in table.names})[None, :]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ng-network", [(0, 20, "e1"), (20, 40, "e1"), (40, 60, "local"), (60, 80, "e1")]),
        ("ng-tenants", [(0, 80, "e1"), (80, 160, "e2"), (160, 240, "local")]),
    ],
)
@pytest.mark.parametrize("tail_weight", [0.0, 1.0])
def test_switches_as_the_paper_prints(name, expected, tail_weight):
    """Within 3.5 s of each change, telemetry's delay included, and not elsewhere."""
    scenario = load_scenario(name)
    names = [p.name for p in scenario.placements]
    issued, placement, _ = play(scenario, {"tail_weight": tail_weight}, episodes=8)
    for start, end, wanted in expected:
        settled = (issued > start + (3.5 if start else 0)) & (issued < end)
        assert (placement[settled] == names.index(wanted)).mean() > 0.98
    if tail_weight == 0:
        changes = (placement[1:] != placement[:-1]).sum(axis=0)
        assert (changes == 2).all()


@pytest.mark.parametrize("name", WITHOUT_TRACES)
@pytest.mark.parametrize("tail_weight", [0.0, 0.5])
def test_works_on_every_scenario(name, tail_weight):
    scenario = load_scenario(name)
    requests = min(scenario.episode.requests, 60)
    _, placement, _ = play(scenario, {"tail_weight": tail_weight}, episodes=3, requests=requests)
    assert ((placement >= 0) & (placement < len(scenario.placements))).all()


def test_works_on_trace_scenarios_by_their_observation():
    for name in set(shipped_scenarios()) - set(WITHOUT_TRACES):
        scenario = load_scenario(name)
        policy = make(NAME, scenario)
        policy.reset(5)
        rng = np.random.default_rng(0)
        table = ObservationReader(scenario).table
        for _ in range(20):
            observation = rng.uniform(table.low, table.high, (5, len(table))).astype(np.float32)
            mask = rng.uniform(size=(5, len(scenario.placements))) < 0.5
            mask[:, 0] = True
            choice = np.asarray(policy.decide(observation, mask))
            assert mask[np.arange(5), choice].all()


def test_a_site_with_nothing_but_the_device():
    content = scenario_dict(load_scenario("ng-network"))
    content |= {"links": {}, "nodes": {}, "placements": content["placements"][:1]}
    _, placement, _ = play(Scenario.model_validate(content), {"tail_weight": 0.5}, requests=20)
    assert (placement == 0).all()


def test_a_masked_placement_is_left_at_once_and_taken_up_again():
    scenario = load_scenario("ng-network")
    policy = make(NAME, scenario)
    policy.reset(1)
    fast = observation_of(scenario, wireless_uplink_mbps=20.0, gap_ms=100.0)
    both, local_only = np.array([[True, True]]), np.array([[True, False]])
    assert policy.decide(fast, both) == [1]
    assert policy.decide(fast, local_only) == [0]
    assert policy.decide(fast, both) == [1]  # still the same epoch


def test_one_by_one_as_in_a_batch():
    scenario = load_scenario("metro")
    rng = np.random.default_rng(3)
    table = ObservationReader(scenario).table
    observations = rng.uniform(table.low, table.high, (40, 6, len(table))).astype(np.float32)
    mask = np.ones((6, len(scenario.placements)), dtype=bool)
    batch = make(NAME, scenario, {"epoch_s": 0.3})
    batch.reset(6)
    together = [np.asarray(batch.decide(o, mask)) for o in observations]
    for b in range(6):
        alone = make(NAME, scenario, {"epoch_s": 0.3})
        alone.reset(1)
        assert [alone.decide(o[b], mask[b]) for o in observations] == [t[b] for t in together]


def test_decides_once_an_epoch():
    scenario = load_scenario("ng-network")
    policy = make(NAME, scenario, {"epoch_s": 1.0})
    policy.reset(1)
    mask = np.ones((1, 2), dtype=bool)
    fast, slow = (observation_of(scenario, wireless_uplink_mbps=mbps, gap_ms=100.0) for mbps in (20.0, 1.0))
    assert policy.decide(fast, mask) == [1]
    choices = [int(np.asarray(policy.decide(slow, mask))[0]) for _ in range(12)]
    assert choices == [1] * 9 + [0] * 3  # ten gaps of 100 ms later


def test_margin_holds_a_placement():
    scenario = load_scenario("ng-network")
    mask = np.ones((1, 2), dtype=bool)
    for margin_ms, expected in ((0.0, 0), (50.0, 1)):
        policy = make(NAME, scenario, {"epoch_s": 0.05, "margin_ms": margin_ms})
        policy.reset(1)
        policy.decide(observation_of(scenario, wireless_uplink_mbps=20.0, gap_ms=100.0), mask)
        slow = observation_of(scenario, wireless_uplink_mbps=4.0, gap_ms=100.0)
        assert policy.decide(slow, mask) == [expected]


# -- predictions -----------------------------------------------------------------------------------------


def predicted(scenario: Scenario, rate_per_s: float, **values: float) -> list[float]:
    delay = Predictor(scenario).predict(observation_of(scenario, **values), np.array([rate_per_s]), 1.0)
    return list(np.asarray(delay.floor_ms + delay.mean_ms)[0])


@pytest.mark.parametrize(("mbps", "expected"), [(20.0, 16.4), (10.0, 18.9), (2.0, 45.0)])
def test_predicts_the_papers_latencies(mbps, expected):
    """Section 5.2: 21 ms on the device, 45 ms for offloading at 2 Mbit/s; the closed forms at the others."""
    local, away = predicted(load_scenario("ng-network"), 10.0, wireless_uplink_mbps=mbps)
    assert local == pytest.approx(21.0, abs=0.05)
    assert away == pytest.approx(expected, abs=0.05)


def test_tenants_are_a_mixture():
    scenario = load_scenario("ng-tenants")
    values = {"wireless_uplink_mbps": 20.0, "e1_load": 0.175, "e2_load": 0.525}
    local, e1, e2 = predicted(scenario, 10.0, **values)
    upload = q.transmission_ms(43.5, 20.0)
    assert local == pytest.approx(q.device_latency_ms(55.0, 10.0), rel=1e-6)
    for found, tenants in ((e1, 10.0), (e2, 30.0)):
        server = q.mixture(np.array([10.0, tenants]), 17.5)
        assert found == pytest.approx(q.offload_latency_ms(upload, 0.0, 10.0, 17.5, server), rel=1e-5)


def test_more_load_rate_or_distance_is_never_predicted_faster():
    scenario = load_scenario("ng-tenants")
    base = {"wireless_uplink_mbps": 20.0, "e1_load": 0.2, "e2_load": 0.2, "wireless_rtt_ms": 5.0}
    before = predicted(scenario, 10.0, **base)
    for change in (
        {"e1_load": 0.5},
        {"wireless_rtt_ms": 30.0},
        {"wireless_uplink_mbps": 5.0},
        {"e1_load": 1.5},
    ):
        after = predicted(scenario, 10.0, **{**base, **change})
        assert after[0] == before[0]
        assert after[1] > before[1]
        assert np.isfinite(after).all()
    assert all(np.array(predicted(scenario, 17.0, **base)) > before)


def test_overloaded_queues_keep_their_order():
    waits = [float(queue_wait(s, 1000.0, 0.0, 1.0).mean_ms) for s in (5.0, 10.0, 20.0)]
    assert waits == sorted(waits)
    assert np.isfinite(waits).all()


def test_a_closed_loop_does_not_wait_for_itself():
    scenario = load_scenario("khan-lan")
    assert believed_rate_per_s(scenario) == 0
    policy = make(NAME, scenario)
    policy.reset(1)
    link = next(iter(scenario.links))
    values = {f"{link}_uplink_mbps": 1000.0, f"{link}_rtt_ms": 3.0}
    found = policy.predict_ms(observation_of(scenario, **values))
    service = [believed(scenario, p).service_ms for p in scenario.placements]
    assert found[0, 0] == pytest.approx(service[0])
    assert found[0, 1] >= service[1] + 3.0


def test_poisson_is_the_wrong_belief_for_camera_frames():
    """On metro's steady frames the paper's assumption alone costs: a device that never queues looks busy."""
    scenario = load_scenario("metro")
    published = play(scenario, episodes=24, requests=600)[2]
    steady = play(scenario, {"arrival_scv": 0.0}, episodes=24, requests=600)[2]
    assert (steady > scenario.slo.latency_ms).mean() < (published > scenario.slo.latency_ms).mean()


# -- parameters ------------------------------------------------------------------------------------------


def test_contract():
    assert NAMES == ("ng-resource-manager",)
    assert set(TUNABLES) == set(NAMES)
    for tunable in TUNABLES[NAME]:
        assert tunable.low <= tunable.default <= tunable.high
        assert not tunable.log or tunable.low > 0
        for value in (tunable.low, tunable.high):
            make(NAME, load_scenario("ng-tenants"), {tunable.name: value})


def test_refuses_wrong_parameters():
    scenario = load_scenario("ng-network")
    with pytest.raises(InputError, match="epoch_s"):
        make(NAME, scenario, {"epoch": 1.0})
    with pytest.raises(InputError, match=r"between 0\.05 and 20"):
        make(NAME, scenario, {"epoch_s": 0.0})
    with pytest.raises(InputError, match="got nan"):
        make(NAME, scenario, {"margin_ms": float("nan")})
    with pytest.raises(InputError, match="ng-resource-manager"):
        make("ng-manager", scenario)
    assert ng_policy.checked_parameters(NAME, {"epoch_s": 20 + 1e-9})["epoch_s"] == 20.0


def test_parameters_per_episode():
    """A search plays candidates side by side: each episode has its own parameters."""
    scenario = load_scenario("metro")
    wanted = [{"epoch_s": 0.2, "arrival_scv": 0.0}, {"epoch_s": 5.0, "arrival_scv": 1.0, "tail_weight": 1.0}]
    table = ObservationReader(scenario).table
    observations = (
        np.random.default_rng(4).uniform(table.low, table.high, (60, 2, len(table))).astype(np.float32)
    )
    mask = np.ones((2, len(scenario.placements)), dtype=bool)
    both = {
        "epoch_s": np.array([0.2, 5.0]),
        "arrival_scv": np.array([0.0, 1.0]),
        "tail_weight": np.array([0.0, 1.0]),
    }
    policy = make(NAME, scenario, both)
    policy.reset(2)
    together = np.array([policy.decide(o, mask) for o in observations])
    for b, parameters in enumerate(wanted):
        alone = make(NAME, scenario, parameters)
        alone.reset(1)
        assert [alone.decide(o[b], mask[b]) for o in observations] == together[:, b].tolist()
