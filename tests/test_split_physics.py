"""Split placements: terms, queues, the link's gap, beliefs, against sums by hand and an event simulation."""

import heapq

import numpy as np
import pytest
import yaml
from split_site import (
    ACTIVATION_KB,
    EDGE,
    HEAD_MS,
    KB,
    LOCAL,
    LOCAL_MS,
    RTT_MS,
    SEND_CUT_MS,
    SPLIT,
    TAIL_MS,
    WHOLE_MS,
    even,
    poisson,
    tandem_site,
)

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.outcome import LATENCY_TERMS
from carbonpilot.envs.queueing import split_latency_ms
from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator


def play(scenario, actions, batch=1, seed=0):
    """Outcomes of a fixed plan (N,) or (N, B)."""
    sim = Simulator(scenario, batch)
    sim.reset(np.arange(seed, seed + batch))
    return sim, [sim.step(np.broadcast_to(a, (batch,))).outcome for a in actions]


def one(outcome, name):
    return float(getattr(outcome, name)[0])


def test_a_split_request_alone_is_the_sum_of_its_parts():
    _, (o,) = play(tandem_site(even(2), requests=1), [SPLIT])
    assert one(o, "head_ms") == HEAD_MS
    assert one(o, "service_ms") == TAIL_MS
    assert one(o, "upload_ms") == pytest.approx(SEND_CUT_MS)
    assert one(o, "device_wait_ms") == one(o, "link_wait_ms") == one(o, "node_wait_ms") == 0
    assert one(o, "latency_ms") == pytest.approx(HEAD_MS + SEND_CUT_MS + RTT_MS + TAIL_MS)
    assert one(o, "compute_energy_j") == 2.0
    assert one(o, "server_energy_j") == pytest.approx(0.6)
    assert one(o, "network_energy_j") == pytest.approx(ACTIVATION_KB * 8000 * 100e-9)
    total_j = 2.0 + 0.6 + ACTIVATION_KB * 8000 * 100e-9
    assert one(o, "carbon_mg") == pytest.approx(total_j * 360 / 3600, rel=1e-6)  # J x g/kWh / 3.6e6 x 1000


def test_whole_and_first_parts_share_the_devices_queue():
    _, outcomes = play(tandem_site(even(25), requests=3), [LOCAL, SPLIT, LOCAL])  # 40 ms apart
    first, second, third = outcomes
    assert one(first, "latency_ms") == pytest.approx(LOCAL_MS)
    assert one(second, "device_wait_ms") == pytest.approx(LOCAL_MS - 40, abs=1e-3)
    assert one(third, "node_wait_ms") == pytest.approx(LOCAL_MS + HEAD_MS - 80, abs=1e-3)


def test_a_later_frame_that_fits_goes_before_an_activation_that_is_still_computed():
    """The frame takes 60 ms; it fits while the device is busy with others and the first part, else it waits behind."""
    scenario = tandem_site(even(100), requests=3)  # 10 ms apart
    _, (_, split, frame) = play(scenario, [LOCAL, SPLIT, EDGE])
    # The activation is ready at 100 + 40 = 140 ms; the frame of 20 ms is sent by 80 ms.
    assert one(split, "device_wait_ms") == pytest.approx(90, abs=1e-3)
    assert one(split, "link_wait_ms") == 0
    assert one(frame, "link_wait_ms") == pytest.approx(0, abs=1e-3)
    _, (split, frame) = play(tandem_site(even(100), requests=2), [SPLIT, EDGE])
    # The activation takes the link from 40 to 50 ms; the frame of 10 ms cannot be through by 40.
    assert one(frame, "link_wait_ms") == pytest.approx(HEAD_MS + SEND_CUT_MS - 10, abs=1e-3)


def test_a_gap_is_given_once():
    scenario = tandem_site(even(100), requests=4)
    _, outcomes = play(scenario, [LOCAL, SPLIT, EDGE, EDGE])
    # The second frame, of 30 ms, finds the link taken until 80 and cannot be through by 140: it goes behind 150.
    assert one(outcomes[2], "link_wait_ms") == pytest.approx(0, abs=1e-3)
    assert one(outcomes[3], "link_wait_ms") == pytest.approx(140 + SEND_CUT_MS - 30, abs=1e-3)


def tandem_by_events(arrivals_ms, stages_ms):
    """Latencies of a FIFO tandem, an event at a time: every stage serves one after the other."""
    free = [0.0] * len(stages_ms)
    waiting = [(t, n, 0) for n, t in enumerate(arrivals_ms)]
    heapq.heapify(waiting)
    done = {}
    while waiting:
        t, n, k = heapq.heappop(waiting)
        start = max(t, free[k])
        free[k] = start + stages_ms[k]
        if k + 1 < len(stages_ms):
            heapq.heappush(waiting, (free[k], n, k + 1))
        else:
            done[n] = free[k] - arrivals_ms[n]
    return np.array([done[n] for n in range(len(arrivals_ms))])


def test_always_splitting_is_an_exact_tandem():
    scenario = tandem_site(poisson(15), requests=600)
    sim, outcomes = play(scenario, [SPLIT] * 600)
    arrivals = sim.tape.arrivals_ms[:600, 0]
    by_events = tandem_by_events(arrivals, [HEAD_MS, SEND_CUT_MS, TAIL_MS]) + RTT_MS
    np.testing.assert_allclose([one(o, "latency_ms") for o in outcomes], by_events, atol=1e-6)


def test_mean_latency_is_the_tandem_model_of_ng_et_al_behind_exponential_stages():
    """Section 3.3: exact behind M/M/1 stages. Here the first is one; the link and the server are nearly empty."""
    scenario = tandem_site(poisson(10), requests=2000)
    data = scenario_dict(scenario)
    data["placements"][2]["split"]["service"] = {"distribution": "exponential", "mean_ms": HEAD_MS}
    _, outcomes = play(Scenario.model_validate(data), [SPLIT] * 2000, batch=24)
    means = np.mean([o.latency_ms for o in outcomes], axis=0)
    predicted = split_latency_ms(HEAD_MS, 0.0, 0.0, 10, 0.0, service_scv=1.0) + SEND_CUT_MS + RTT_MS + TAIL_MS
    error = means.std(ddof=1) / np.sqrt(means.size)
    # The later stages, of 10 ms at 10 a second, add waits of at most rho s / 2 (1 - rho) each.
    assert predicted - 3 * error < means.mean() < predicted + 2 * 0.6 + 3 * error


def test_first_parts_heat_the_device_and_a_hot_device_slows_them():
    hot = {
        "slowdown": 1.5,
        "time_constant_s": 1,
        "hot_utilisation": 0.5,
        "cool_utilisation": 0.1,
        "ambient_spread": 0,
    }
    device = {"zone": "z", "idle_power_w": 0, "throttling": hot}
    _, outcomes = play(tandem_site(even(20), requests=200, device=device), [SPLIT] * 200)  # 80 % busy
    heads = [one(o, "head_ms") for o in outcomes]
    assert heads[0] == HEAD_MS
    assert heads[-1] == pytest.approx(1.5 * HEAD_MS)


def test_the_luck_of_the_two_parts_is_not_the_same_and_each_has_its_distribution():
    scenario = tandem_site(even(1), requests=1500)
    data = scenario_dict(scenario)
    varied = {"distribution": "lognormal", "p50_ms": 40.0, "p95_ms": 60.0}
    data["placements"][2]["split"]["service"] = varied
    data["placements"][2]["service"] = varied
    _, outcomes = play(Scenario.model_validate(data), [SPLIT] * 1500, batch=4)
    heads = np.array([o.head_ms for o in outcomes]).ravel()
    tails = np.array([o.service_ms for o in outcomes]).ravel()
    for found in (heads, tails):
        assert np.median(found) == pytest.approx(40, rel=0.02)
        assert np.quantile(found, 0.95) == pytest.approx(60, rel=0.03)
    assert abs(np.corrcoef(heads, tails)[0, 1]) < 4 / np.sqrt(heads.size)


@pytest.mark.parametrize("plan", [[SPLIT], [LOCAL, SPLIT], [SPLIT, EDGE, LOCAL]])
def test_believed_latency_is_what_happens_where_nothing_is_hidden(plan):
    """Deterministic times, an exact rate, no loss: the feature of the placement that is taken is its latency."""
    scenario = tandem_site(even(6), requests=60)
    sim = Simulator(scenario, 1)
    observation = sim.reset([3])
    names = [f"{p.name}_latency_ms" for p in scenario.placements]
    table = sim.table
    for n in range(60):
        a = plan[n % len(plan)]
        believed = observation[0, table.index[names[a]]] * table.features[table.index[names[a]]].scale
        result = sim.step([a])
        if n > 20:  # the uplink's estimate has settled
            assert believed == pytest.approx(one(result.outcome, "latency_ms"), rel=0.02), (n, a)
        observation = result.observation


def test_terms_add_up_and_batch_equals_single_on_the_shipped_site():
    scenario = load_scenario("split")
    rng = np.random.default_rng(1)
    actions = rng.integers(0, len(scenario.placements), (120, 3))
    _, outcomes = play(scenario, actions, batch=3, seed=5)
    for o in outcomes:
        assert np.allclose(sum(getattr(o, t) for t in LATENCY_TERMS), o.latency_ms)
    alone = Simulator(scenario, 1)
    alone.reset([6])
    for n in range(120):
        found = alone.step(actions[n, 1:2]).outcome
        assert found.latency_ms[0] == outcomes[n].latency_ms[1]
        assert found.carbon_mg[0] == outcomes[n].carbon_mg[1]


def test_a_split_that_is_as_good_as_whole_equals_the_whole():
    """A first part of nothing and an activation of the payload's size: the same as the whole model on the node."""
    scenario = tandem_site(poisson(8), requests=300, head=1e-9, tail=WHOLE_MS)
    data = scenario_dict(scenario)
    data["placements"][2]["split"] |= {"activation_kb": KB, "active_energy_j": 0.0}
    data["placements"][2]["active_energy_j"] = 1.0
    scenario = Scenario.model_validate(data)
    _, whole = play(scenario, [EDGE] * 300)
    _, split = play(scenario, [SPLIT] * 300)
    for a, b in zip(whole, split, strict=True):
        assert one(a, "latency_ms") == pytest.approx(one(b, "latency_ms"), abs=1e-6)
        assert one(a, "carbon_mg") == pytest.approx(one(b, "carbon_mg"), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation_kb": 0}, "activation_kb"),
        ({"active_energy_j": -1}, "active_energy_j"),
        ({"cutt": "x"}, "cutt"),
    ],
)
def test_a_broken_split_is_refused_by_its_path(tmp_path, change, said):
    data = scenario_dict(load_scenario("split"))
    data["placements"][2]["split"] |= change
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=rf"placements\.2.*{said}"):
        load_scenario(str(file))


def test_a_local_placement_cannot_be_split(tmp_path):
    data = scenario_dict(load_scenario("split"))
    data["placements"][0]["split"] = data["placements"][2]["split"]
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=r"placements\.0\.split.*server"):
        load_scenario(str(file))
