"""Conservation, monotonicity, causality, reproducibility, batch = single: flagship and random scenarios."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbonpilot.envs.outcome import IDLE_ENERGY_TERMS, LATENCY_TERMS, MARGINAL_ENERGY_TERMS
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator, site_for
from carbonpilot.envs.tape import draw_tape


def short(name, requests=200, **changes):
    data = load_scenario(name).model_dump(by_alias=True)
    data["episode"] = {"requests": requests}
    return Scenario.model_validate(data | changes)


@pytest.fixture(scope="module")
def metro():
    return short("metro")


def actions_for(scenario, batch, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, len(scenario.placements), (scenario.episode.requests, batch))


def run(scenario, seeds, actions):
    sim = Simulator(scenario, len(seeds))
    observations, outcomes = [sim.reset(seeds)], []
    for row in actions:
        result = sim.step(row)
        observations.append(result.observation)
        outcomes.append(result.outcome)
    return sim, np.array(observations), outcomes, result


def digest(tape):
    h = hashlib.sha256()
    for name in ("rows", "payload_kb", "words", "phase_ms", "ambient"):
        h.update(np.ascontiguousarray(getattr(tape, name)).tobytes())
    if tape.arrivals_ms is not None:
        h.update(np.ascontiguousarray(tape.arrivals_ms).tobytes())
    return h.hexdigest()


def assert_single_equals_batch(scenario, batch=3):
    seeds = np.arange(40, 40 + batch)
    actions = actions_for(scenario, batch)
    sim = Simulator(scenario, batch)
    singles = [Simulator(scenario, 1) for _ in range(batch)]
    first = sim.reset(seeds)
    for i, one in enumerate(singles):
        np.testing.assert_array_equal(one.reset(seeds[i : i + 1])[0], first[i])
    for row in actions:
        both = sim.step(row)
        for i, one in enumerate(singles):
            alone = one.step(row[i : i + 1])
            np.testing.assert_array_equal(alone.observation[0], both.observation[i])
            assert alone.reward[0] == both.reward[i]
            assert alone.truncated[0] == both.truncated[i]
            for name in (*LATENCY_TERMS, "carbon_mg_attributional", "energy_j_marginal"):
                both_value = np.broadcast_to(getattr(both.outcome, name), (batch,))[i]
                assert getattr(alone.outcome, name) == both_value, name


def assert_conserved(outcomes, scenario):
    weights = scenario.reward
    for o in outcomes:
        latency = sum(getattr(o, t) for t in LATENCY_TERMS)
        np.testing.assert_allclose(latency, o.latency_ms, rtol=1e-9, atol=1e-9)
        for term in (*LATENCY_TERMS, *MARGINAL_ENERGY_TERMS, *IDLE_ENERGY_TERMS):
            assert np.all(np.asarray(getattr(o, term)) >= 0), term
        marginal = sum(getattr(o, t) for t in MARGINAL_ENERGY_TERMS)
        np.testing.assert_allclose(marginal, o.energy_j_marginal, rtol=1e-12)
        idle = sum(getattr(o, t) for t in IDLE_ENERGY_TERMS)
        np.testing.assert_allclose(marginal + idle, o.energy_j_attributional, rtol=1e-12)
        np.testing.assert_allclose(sum(o.reward_terms.values()), o.reward, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(-o.reward_terms["carbon"], weights.carbon_per_mg * o.carbon_mg, rtol=1e-12)
        np.testing.assert_array_equal(o.missed, o.latency_ms > scenario.slo.latency_ms)


def test_single_equals_batch(metro):
    assert_single_equals_batch(metro)


def test_every_request_has_one_outcome_and_terms_add_up(metro):
    _, _, outcomes, last = run(metro, np.arange(5), actions_for(metro, 5))
    assert len(outcomes) == metro.episode.requests
    assert last.truncated.all()
    assert_conserved(outcomes, metro)
    issued = np.array([o.issued_ms for o in outcomes])
    assert np.all(np.diff(issued, axis=0) > 0)


def test_same_seed_same_tape_whatever_the_actions(metro):
    seeds = np.arange(4)
    sims = [run(metro, seeds, actions_for(metro, 4, seed))[0] for seed in (1, 2)]
    assert digest(sims[0].tape) == digest(sims[1].tape)


def test_different_seeds_and_parts_give_different_tapes(metro):
    site = site_for(metro)
    tapes = [draw_tape(site, [s], part) for s in (1, 2) for part in ("training", "evaluation")]
    assert len({digest(t) for t in tapes}) == 4


def test_an_episode_depends_on_its_own_seed_only(metro):
    site = site_for(metro)
    together, alone = draw_tape(site, [7, 8, 9], "training"), draw_tape(site, [8], "training")
    np.testing.assert_array_equal(together.rows[..., 1:2], alone.rows)
    np.testing.assert_array_equal(together.arrivals_ms[:, 1:2], alone.arrivals_ms)
    np.testing.assert_array_equal(together.words[..., 1:2], alone.words)


@pytest.mark.parametrize("n", [1, 57, 140])
def test_observations_do_not_depend_on_what_comes_later(metro, n):
    """Change everything on the tape after request n was issued: observations up to then stay the same."""
    site, seeds = site_for(metro), np.arange(6)
    actions = actions_for(metro, 6)
    tape, changed = draw_tape(site, seeds, "training"), draw_tape(site, seeds, "training")
    other = draw_tape(site, seeds + 1000, "training")
    for b in range(6):
        row = int(tape.arrivals_ms[n, b] // 1000) + tape.warmup
        changed.rows[:, row + 1 :, b] = other.rows[:, row + 1 :, b]
        # A stall that is under way would end at another time in another future.
        stalled = changed.rows[site.rows["uplink:blocked_until_ms"], : row + 1, b]
        stalled[stalled > tape.arrivals_ms[n, b]] += 700
    for name in ("payload_kb", "words"):
        getattr(changed, name)[n + 1 :] = getattr(other, name)[n + 1 :]
    gap = np.diff(other.arrivals_ms, axis=0)[n:]
    changed.arrivals_ms[n + 1 :] = tape.arrivals_ms[n] + np.cumsum(gap, axis=0)
    first, second = Simulator(metro, 6), Simulator(metro, 6)
    a, b = first.reset_tape(tape), second.reset_tape(changed)
    for step in range(n + 1):
        np.testing.assert_array_equal(a, b)
        if step < n:
            a, b = first.step(actions[step]).observation, second.step(actions[step]).observation
    for step in range(n, metro.episode.requests):
        a, b = first.step(actions[step]).observation, second.step(actions[step]).observation
    assert not np.array_equal(a, b)  # and the change did matter in the end


def mean_latency(scenario, placement, batch=48):
    actions = np.full((scenario.episode.requests, batch), placement)
    _, _, outcomes, _ = run(scenario, np.arange(batch), actions)
    return float(np.mean([o.latency_ms for o in outcomes]))


def with_link(tiny, **phase):
    tiny["episode"]["requests"] = 150
    tiny["links"]["uplink"]["source"]["phases"][0].update(phase)
    return Scenario.model_validate(tiny)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("rtt_ms", [5, 20, 60, 120]),
        ("loss_pct", [0, 0.5, 2, 5]),
        ("rate_mbps", [60, 20, 8]),
    ],
)
def test_worse_links_are_never_faster(tiny, key, values):
    latencies = [mean_latency(with_link(tiny, **{key: v}), 1) for v in values]
    assert all(b >= a for a, b in pairwise(latencies)), latencies
    assert latencies[-1] > latencies[0] + 5


def test_more_load_or_distance_is_never_faster(tiny):
    def at(**changes):
        data = Scenario.model_validate(tiny).model_dump(by_alias=True)
        data["episode"]["requests"] = 150
        node = data["nodes"]["edge"]
        if "load" in changes:
            node["background"] = {
                "service_ms": 18,
                "service_distribution": "deterministic",
                "phases": [{"load": changes["load"]}],
            }
        node["extra_rtt_ms"] = changes.get("extra_rtt_ms", 0)
        return mean_latency(Scenario.model_validate(data), 1)

    for key, values in (("load", [0.0, 0.3, 0.6, 0.9]), ("extra_rtt_ms", [0, 12, 25, 50])):
        latencies = [at(**{key: v}) for v in values]
        assert all(b >= a for a, b in pairwise(latencies)), (key, latencies)
        assert latencies[-1] > latencies[0]


@pytest.mark.parametrize("after", [0, 25])
def test_a_larger_payload_is_never_faster(metro, after):
    """From the same state: what the waiting request would take at growing sizes, on average over episodes.

    (Over a whole episode larger uploads can teach BBR a higher bandwidth, as they do in the recorded
    transfers.)
    """
    sim = Simulator(metro, 256)
    sim.reset(np.arange(256))
    for row in actions_for(metro, 256)[:after]:
        sim.step(row)
    latencies = []
    for kb in (25, 32, 40, 50, 62, 79):
        sim.tape.payload_kb[...] = kb
        latencies.append([float(np.mean(o.latency_ms)) for o in sim.preview()])
    latencies = np.array(latencies)
    assert np.all(np.diff(latencies[:, 0]) == 0)  # the device sends nothing
    assert np.all(np.diff(latencies[:, 1:], axis=0) >= 0), latencies
    assert np.all(latencies[-1, 1:] > latencies[0, 1:] + 3)


def test_throttling_and_radio_are_switchable(metro):
    """Always-local heats the device and slows it; without the part it does not."""
    data = metro.model_dump(by_alias=True)
    data["episode"] = {"requests": 700}  # long enough to heat up
    hot = Scenario.model_validate(data)
    data["device"]["throttling"] = None
    data["device"]["radio"] = None
    cool = Scenario.model_validate(data)
    assert mean_latency(hot, 0) > mean_latency(cool, 0) + 3
    _, _, outcomes, _ = run(cool, np.arange(3), np.ones((metro.episode.requests, 3), dtype=int))
    assert max(np.max(o.radio_energy_j) for o in outcomes) == 0
    _, _, outcomes, _ = run(metro, np.arange(3), np.ones((metro.episode.requests, 3), dtype=int))
    radio = np.array([o.radio_energy_j for o in outcomes])
    sent_s = np.array([o.upload_ms + o.recovery_ms for o in outcomes]) / 1000
    tail = metro.device.radio
    # Transmit energy for the time sent, and never more tail than one full tail per request.
    assert np.all(radio >= tail.transmit_power_w * sent_s - 1e-9)
    assert np.all(radio <= tail.transmit_power_w * sent_s + tail.tail_power_w * tail.tail_s + 1e-9)


def test_preview_is_what_placing_gives_and_changes_nothing(metro):
    sim, twin = Simulator(metro, 4), Simulator(metro, 4)
    sim.reset(np.arange(4))
    twin.reset(np.arange(4))
    for row in actions_for(metro, 4)[:60]:
        seen = sim.preview()
        result, other = sim.step(row), twin.step(row)
        np.testing.assert_array_equal(result.observation, other.observation)
        for b in range(4):
            assert seen[row[b]].latency_ms[b] == result.outcome.latency_ms[b]
            assert seen[row[b]].carbon_mg[b] == result.outcome.carbon_mg[b]


@st.composite
def scenarios(draw):
    """Random valid sites: one to three servers, with and without every switchable part and split placements."""
    number = lambda low, high: draw(st.floats(low, high, allow_nan=False))  # noqa: E731
    tcp = draw(st.booleans())
    transfer = (
        {"model": "tcp", "congestion_control": draw(st.sampled_from(["bbr", "cubic"])), "jitter": "normal"}
        if tcp
        else {"model": "empirical", "jitter": "normal"}
    )
    batcher = {"max_batch": 4, "queue_delay_ms": 2, "marginal_service_share": 0.3}
    throttling = {
        "slowdown": 1.3, "time_constant_s": 5, "hot_utilisation": 0.5, "cool_utilisation": 0.4,
        "ambient_spread": 0.1,
    }  # fmt: skip
    nodes, placements = {}, [
        {
            "name": "local", "node": "local", "model": "m", "accuracy_miou": 70,
            "service": {"distribution": "lognormal", "p50_ms": 50, "p95_ms": 50 + number(0, 60)},
            "active_energy_j": number(0, 10),
        }
    ]  # fmt: skip
    for i in range(draw(st.integers(1, 3))):
        batching = draw(st.sampled_from([None, batcher]))
        background = draw(
            st.sampled_from(
                [None, {"service_ms": 15, "service_distribution": "exponential", "phases": [{"load": 0.5}]}]
            )
        )
        nodes[f"n{i}"] = {
            "link": "up", "extra_rtt_ms": number(0, 40), "zone": "b", "pue": 1 + number(0, 1),
            "parallelism": draw(st.integers(1, 3)), "idle_power_w": number(0, 100), "batching": batching,
            "background": background,
        }  # fmt: skip
        placement = {
            "name": f"p{i}", "node": f"n{i}", "model": "m", "accuracy_miou": 80,
            "service": {
                "distribution": draw(st.sampled_from(["deterministic", "exponential"])), "mean_ms": 20,
            },
            "active_energy_j": 9,
        }  # fmt: skip
        placements.append(placement | ({"batched_energy_j": 2} if batching else {}))
        if draw(st.booleans()):
            split = {
                "cut": "c", "service": {"distribution": "exponential", "mean_ms": 1 + number(0, 60)},
                "active_energy_j": number(0, 5), "activation_kb": 1 + number(0, 300),
            }  # fmt: skip
            placements.append({**placements[-1], "name": f"p{i}-c", "split": split})
    arrivals = draw(
        st.sampled_from(
            [
                {"kind": "closed_loop"},
                {"kind": "poisson", "low_per_s": 5, "high_per_s": 15},
                {"kind": "periodic", "low_per_s": 9, "high_per_s": 11, "jitter_fraction": 0.2},
            ]
        )
    )
    return {
        "schema": "carbonpilot/scenario/1", "name": "random", "family": "random", "description": "random",
        "world_clock": draw(st.sampled_from(["time", "request"])), "split": "seeds",
        "slo": {"latency_ms": 150, "quantile": 0.95}, "episode": {"requests": 25},
        "account": draw(st.sampled_from(["marginal", "attributional"])),
        "reward": {"carbon_per_mg": 1, "slo_miss": 1, "latency_excess_per_s": 1, "accuracy_per_miou": 0.1},
        "wishes": {"carbon": 1, "latency": 0, "accuracy": 0}, "arrivals": arrivals,
        "payload": {"low_kb": 5, "high_kb": 5 + number(0, 200)},
        "device": {
            "zone": "a", "idle_power_w": 5,
            "throttling": draw(st.sampled_from([None, throttling])),
            "radio": draw(st.sampled_from([None, {"transmit_power_w": 2, "tail_power_w": 1, "tail_s": 2}])),
        },
        "links": {
            "up": {
                "source": {"kind": "phases", "phases": [
                    {"until": 10, "rtt_ms": number(0, 80), "jitter_ms": number(0, 20),
                     "loss_pct": number(0, 10), "rate_mbps": 1 + number(0, 100)},
                    {"rtt_ms": 10, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": 50}]},
                "transfer": transfer, "network_energy_nj_per_bit": 10, "network_zone": "a",
            }
        },
        "nodes": nodes, "placements": placements,
        "zones": {
            "a": {"kind": "constant", "carbon_g_per_kwh": 300},
            "b": {"kind": "constant", "carbon_g_per_kwh": 50},
        },
        "telemetry": {"probe_interval_s": 1, "rtt_noise_fraction": 0.1, "uplink_noise_fraction": 0.1,
                      "load_delay_low_s": 1, "load_delay_high_s": 3, "load_noise": 0.05, "feed_delay_h": 1},
    }  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=scenarios())
def test_random_scenarios_are_conserved_and_agree(data):
    scenario = Scenario.model_validate(data)
    assert_single_equals_batch(scenario, batch=2)
    sim, observations, outcomes, _ = run(scenario, [1, 2], actions_for(scenario, 2))
    assert_conserved(outcomes, scenario)
    assert np.all(observations >= sim.table.low)
    assert np.all(observations <= sim.table.high)
