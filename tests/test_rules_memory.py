"""What the predictive rules remember: residuals of answers, the hidden backlog, the hidden heat."""

import numpy as np
import pytest

from carbonpilot.agents.predictive_device import Heat, HiddenBacklog
from carbonpilot.agents.predictive_memory import AnswerMemory
from carbonpilot.agents.predictive_view import PlacementView
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario

METRO = load_scenario("metro")
TABLE = build_table(METRO)


def with_values(**raw):
    """One observation of metro, zero but for some features, in their units."""
    observation = np.zeros((1, len(TABLE)), dtype=np.float32)
    believed = {f"{p.name}_latency_ms": 70 for p in METRO.placements}
    for name, value in (believed | raw).items():
        observation[:, TABLE.index[name]] = value / TABLE.features[TABLE.index[name]].scale
    return observation


def test_residuals_are_those_of_the_last_request_at_each_node():
    view = PlacementView(METRO)
    memory = AnswerMemory(view, 150.0)
    memory.start(1)
    weight = np.float32(0.5)
    sent = view.of(with_values(**{"north-b0_latency_ms": 70}))
    memory.learn(sent, weight)
    memory.note(np.array([3]), sent.latency_ms)
    memory.learn(view.of(with_values(north_outstanding_ms=100)), weight)
    assert memory.overdue_ms.tolist() == [[30]]  # one link
    assert not memory.node_residual_ms.any()
    memory.learn(view.of(with_values(north_last_latency_ms=110, north_last_answer_age_s=0.02)), weight)
    assert memory.node_residual_ms[:, 0].tolist() == [0, 0, 0, 40, 0]
    assert memory.link_residual_ms.tolist() == [[20]]
    assert not memory.overdue_ms.any()
    memory.learn(view.of(with_values(north_last_latency_ms=110, north_last_answer_age_s=0.12)), weight)
    assert memory.link_residual_ms[0, 0] == 20  # an answer counts once


def test_a_stall_is_cut_so_that_it_does_not_drown_what_follows():
    view = PlacementView(METRO)
    memory = AnswerMemory(view, 150.0)
    memory.start(1)
    sent = view.of(with_values())
    memory.learn(sent, np.float32(1))
    memory.note(np.array([1]), sent.latency_ms)
    memory.learn(view.of(with_values(edge_last_latency_ms=600)), np.float32(1))
    assert memory.node_residual_ms[1, 0] == 150


def test_the_hidden_backlog_follows_lindleys_recursion_and_forgets_when_the_device_is_idle():
    view, device = PlacementView(METRO), HiddenBacklog()
    device.start(1)
    local = np.array([True])
    pessimistic = believed = 0.0
    busy = {"gap_ms": 60, "device_backlog_ms": 0.0}
    for _ in range(5):
        pessimistic, believed = max(pessimistic - 60, 0), max(believed - 60, 0)
        shown = believed if believed else 0.0
        seen = view.of(with_values(**busy | {"device_backlog_ms": shown, "local-b0_latency_ms": 79 + shown}))
        device.advance(seen)
        assert device.hidden_ms[0] == pytest.approx(pessimistic - shown, abs=1e-3)
        device.note(local, seen, np.float32(5))
        pessimistic, believed = pessimistic + 84, believed + 79
    device.advance(
        view.of(with_values(gap_ms=60, device_backlog_ms=0))
    )  # by belief it is busy, but it is not
    assert device.hidden_ms[0] == 0


def test_the_hidden_offset_of_the_heat_is_narrowed_down_by_throttling():
    view, heat = PlacementView(METRO), Heat(METRO)
    heat.start(1)
    heat.learn(view.of(with_values(device_heat=0.74)), np.float32(0))  # not throttled at 0.74: offset < -0.04
    assert heat._most[0] == pytest.approx(-0.04, abs=1e-6)
    heat.learn(view.of(with_values(device_heat=0.66, device_throttled=1)), np.float32(0))
    assert heat._least[0] == pytest.approx(-0.06, abs=1e-6)
    assert heat.throttled[0]
