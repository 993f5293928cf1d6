"""Links that switch between conditions: how long they stay, where they go, and what the physics makes of an outage."""

import numpy as np
import pytest

from carbonpilot.envs.errors import ScenarioError
from carbonpilot.envs.schema import Scenario, SwitchedLink
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.streams import Stream, episode_keys
from carbonpilot.envs.switched_links import draw_switched, long_run_shares, next_second
from carbonpilot.envs.validation import validated

GOOD = {"rtt_ms": 2.0, "jitter_ms": 0.5, "loss_pct": 0.0, "rate_mbps": 900.0}
CONDITIONS = {
    "lan": {"mean_stay_s": 20.0, "weight": 2.0, **GOOD},
    "emu-b": {
        "mean_stay_s": 10.0,
        "weight": 1.0,
        "rtt_ms": 60.0,
        "jitter_ms": 20.0,
        "loss_pct": 1.0,
        "rate_mbps": 50.0,
    },
    "outage": {"mean_stay_s": 3.0, "weight": 0.5, "outage": True, **GOOD},
}
LINK = SwitchedLink.model_validate({"kind": "switched", "conditions": CONDITIONS})


def stream(count):
    return Stream(episode_keys(np.arange(count)), "link:uplink")


def switched(tiny, conditions) -> Scenario:
    tiny["links"]["uplink"]["source"] = {"kind": "switched", "conditions": conditions}
    return validated(Scenario, tiny, "test")


def test_stays_and_shares_are_those_asked_for():
    world, rate = draw_switched(LINK, stream(400), 500)
    states = np.select([world.blocked, rate == 50.0], [2, 1], 0)
    # Shares: the embedded chain (weights, never itself) times the mean stays.
    to = np.array([[0, 1 / 1.5, 0.5 / 1.5], [2 / 2.5, 0, 0.5 / 2.5], [2 / 3, 1 / 3, 0]])
    visits = np.linalg.matrix_power(0.5 * (to + np.eye(3)), 200)[0]
    stay = 1.0 / (1.0 - np.exp(-1.0 / np.array([20.0, 10.0, 3.0])))  # mean of the geometric, s
    expected = visits * stay / (visits * stay).sum()
    seen = np.array([(states == i).mean(axis=0) for i in range(3)])
    error = seen.std(axis=1) / np.sqrt(400)
    assert np.all(np.abs(seen.mean(axis=1) - expected) < 4 * error)
    assert long_run_shares(next_second(LINK)) == pytest.approx(expected, abs=1e-9)
    # From the first second on: the start is drawn from the same shares.
    first = np.array([(states[0] == i).mean() for i in range(3)])
    assert np.all(np.abs(first - expected) < 4 * np.sqrt(expected * (1 - expected) / 400))


def test_a_stay_has_its_mean_length():
    world, _ = draw_switched(LINK, stream(400), 2000)
    starts = np.diff(world.blocked.astype(int), axis=0) == 1
    lengths = world.blocked[1:].sum() / starts.sum()
    assert lengths == pytest.approx(1.0 / (1.0 - np.exp(-1.0 / 3.0)), rel=0.03)


def test_an_episode_is_its_own():
    both, _ = draw_switched(LINK, stream(2), 50)
    alone, _ = draw_switched(LINK, Stream(episode_keys([1]), "link:uplink"), 50)
    assert np.array_equal(both.rtt_ms[:, 1], alone.rtt_ms[:, 0])


def test_nothing_comes_through_an_outage(tiny):
    conditions = {
        "up": {"mean_stay_s": 2.0, "weight": 1.0, **GOOD},
        "down": {"mean_stay_s": 2.0, "weight": 1.0, "outage": True, **GOOD},
    }
    simulator = Simulator(switched(tiny, conditions), 16)
    simulator.reset(np.arange(16))
    blocked = simulator.tape.rows[simulator.site.rows["uplink:blocked_until_ms"]]
    edge = simulator.placement_names.index("edge-b0")
    waits = []
    for _ in range(simulator.requests):
        second = (simulator.state.episodes.issued_ms / 1000.0).astype(int) + simulator.tape.warmup
        until = blocked[second, np.arange(16)]
        outcome = simulator.step(np.full(16, edge)).outcome
        # A request issued in an outage waits at least until it ends.
        assert np.all(outcome.link_wait_ms >= until - outcome.issued_ms - 1e-3)
        waits.append(outcome.link_wait_ms[until > outcome.issued_ms])
    assert np.concatenate(waits).size > 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lan": {**CONDITIONS["lan"], "outage": False}}, "outage"),
        ({"lan": {**CONDITIONS["lan"], "mean_stay_s": 0.0}}, "mean_stay_s"),
        ({"lan": {**CONDITIONS["lan"], "mean_stays_s": 1.0}}, "mean_stays_s"),
    ],
)
def test_broken_conditions_are_named(tiny, change, message):
    with pytest.raises(ScenarioError, match=message):
        switched(tiny, {**CONDITIONS, **change})


def test_one_condition_is_no_switching(tiny):
    with pytest.raises(ScenarioError, match="conditions"):
        switched(tiny, {"lan": CONDITIONS["lan"]})
