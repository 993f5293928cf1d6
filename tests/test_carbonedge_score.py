"""CarbonEdge's scores: by hand on small cases, the forms of S_C, and what must hold for any nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents.carbonedge_score import (
    AMP4EC_WEIGHTS,
    CARBON_FORMS,
    NOBODY,
    TABLE_I,
    Limits,
    NodeRecords,
    Weights,
    best_node,
    carbon_score,
    eligible_nodes,
    estimated_energy_wh,
    node_scores,
    total_score,
    with_carbon_weight,
)
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.units import J_PER_KWH

CARBON_ONLY = Weights(0, 0, 0, 0, 1)


def records(**changes) -> NodeRecords:
    """Two idle nodes, changed by field."""
    values = {
        "load": [0.0, 0.5],
        "latency_ms": [100.0, 200.0],
        "free": [1.0, 0.5],
        "average_time_ms": [250.0, 1000.0],
        "task_count": [0.0, 2.0],
        "carbon_g_per_kwh": [620.0, 380.0],
        "power_w": [36.0, 36.0],
        "execution_ms": [1000.0, 1000.0],
        **changes,
    }
    return NodeRecords(**{k: np.asarray(v, dtype=float) for k, v in values.items()})


def many(draw, nodes):
    """Random records of some nodes."""
    number = lambda low, high: st.lists(st.floats(low, high), min_size=nodes, max_size=nodes)  # noqa: E731
    return records(
        load=draw(number(0, 1.5)),
        latency_ms=draw(number(1, 500)),
        free=draw(number(0, 4)),
        average_time_ms=draw(number(1, 2000)),
        task_count=draw(st.lists(st.integers(0, 9), min_size=nodes, max_size=nodes)),
        carbon_g_per_kwh=draw(number(1, 1000)),
        power_w=draw(number(0.1, 300)),
        execution_ms=draw(number(1, 2000)),
    )


@st.composite
def some_nodes(draw):
    return many(draw, draw(st.integers(1, 6)))


def test_table_i():
    """Typed from the paper: R, L, P, B, C."""
    assert TABLE_I["performance"] == (0.25, 0.25, 0.30, 0.15, 0.05)
    assert TABLE_I["green"] == (0.15, 0.15, 0.10, 0.10, 0.50)
    assert TABLE_I["balanced"] == (0.20, 0.20, 0.15, 0.15, 0.30)
    for weights in (*TABLE_I.values(), AMP4EC_WEIGHTS):
        assert sum(weights) == pytest.approx(1.0)
    assert AMP4EC_WEIGHTS.carbon == 0


def test_components_by_hand():
    scores = node_scores(records())
    assert scores.resource.tolist() == [1.0, 0.5]
    assert scores.load.tolist() == [1.0, 0.5]
    assert scores.performance == pytest.approx([1 / 1.25, 1 / 2.0])  # 0.25 s and 1 s
    assert scores.balance == pytest.approx([1.0, 1 / 5])  # 0 and 2 tasks
    # 36 W x 1 s = 36 J = 0.01 Wh; x 620 = 6.2, x 380 = 3.8
    assert scores.carbon == pytest.approx([1 / 7.2, 1 / 4.8])
    total = total_score(scores, TABLE_I["green"])
    by_hand = 0.15 * 0.5 + 0.15 * 0.5 + 0.10 * 0.5 + 0.10 * 0.2 + 0.50 / 4.8
    assert total[1] == pytest.approx(by_hand)


def test_the_unit_slip():
    """P x T / 3 600 000 is Wh: 1 kW for an hour gives 1000 and not 1."""
    assert estimated_energy_wh(np.array(1000.0), np.array(3_600_000.0)) == pytest.approx(1000.0)
    assert estimated_energy_wh(np.array(36.0), np.array(1000.0)) == pytest.approx(36.0 / J_PER_KWH * 1000)
    kwh = carbon_score(records(), "kwh")
    assert kwh == pytest.approx([1 / 1.0062, 1 / 1.0038])
    # section IV-F: 36 J over 380 to 620 g/kWh spans about 0.07 in Wh and about 0.002 in kWh, printed 0.054
    assert np.ptp(carbon_score(records())) == pytest.approx(0.069, abs=0.001)
    assert np.ptp(kwh) == pytest.approx(0.0024, abs=0.0001)


def test_min_max_by_hand():
    three = records(
        load=[0] * 3, latency_ms=[1] * 3, free=[1] * 3, average_time_ms=[1] * 3, task_count=[0] * 3,
        carbon_g_per_kwh=[620, 530, 380], power_w=[1, 1, 1], execution_ms=[1, 1, 1],
    )  # fmt: skip
    assert carbon_score(three, "minmax") == pytest.approx([0, 90 / 240, 1])
    among = np.array([False, True, True])
    assert carbon_score(three, "minmax", among).tolist() == [0, 0, 1]
    alone = np.array([False, True, False])
    assert carbon_score(three, "minmax", alone).tolist() == [1, 1, 1]
    nobody = np.zeros(3, dtype=bool)
    assert carbon_score(three, "minmax", nobody).tolist() == [1, 1, 1]


def test_unknown_form():
    with pytest.raises(InputError, match="'as_published'"):
        carbon_score(records(), "as-published")


def test_who_is_eligible():
    """Line 3 passes over what is above a threshold, line 6 what has nothing left."""
    node = records(load=[0.8, 0.81], latency_ms=[100, 100], free=[1, 1])
    assert eligible_nodes(node, Limits(0.8, 100)).tolist() == [True, False]
    assert eligible_nodes(node, Limits(1.0, 99)).tolist() == [False, False]
    assert eligible_nodes(records(free=[0, 0.01]), Limits()).tolist() == [False, True]


def test_best_node():
    total = np.array([[0.2, 0.9, 0.9], [0.5, 0.1, 0.2], [0.0, 0.0, 0.0]])
    every = np.ones((3, 3), dtype=bool)
    assert best_node(total, every).tolist() == [1, 0, NOBODY]  # the first of equals; a score must beat 0
    every[0, 1] = every[1, 0] = False
    assert best_node(total, every).tolist() == [2, 2, NOBODY]
    assert best_node(total, np.zeros((3, 3), dtype=bool)).tolist() == [NOBODY] * 3


def test_carbon_weight_keeps_proportions():
    swept = with_carbon_weight(TABLE_I["performance"], 0.43)
    assert sum(swept) == pytest.approx(1.0)
    assert swept.carbon == 0.43
    assert swept.performance / swept.balance == pytest.approx(2.0)
    assert with_carbon_weight(TABLE_I["green"], 0.5) == pytest.approx(TABLE_I["green"])
    assert with_carbon_weight(TABLE_I["green"], 1.0) == pytest.approx(CARBON_ONLY)


@given(some_nodes(), st.sampled_from(CARBON_FORMS))
@settings(max_examples=200, deadline=None)
def test_scores_lie_in_zero_to_one(nodes, form):
    """Section III-C: "Each component is normalized to the [0,1] range"."""
    for score in node_scores(nodes, form):
        assert (score >= 0).all()
        assert (score <= 1).all()


@given(some_nodes(), st.sampled_from(CARBON_FORMS))
@settings(max_examples=200, deadline=None)
def test_carbon_alone_picks_the_lowest_p_t_i(nodes, form):
    every = np.ones(len(nodes.load), dtype=bool)
    chosen = best_node(total_score(node_scores(nodes, form), CARBON_ONLY), every)
    carbon = nodes.power_w * nodes.execution_ms * nodes.carbon_g_per_kwh
    # eq (4) in kWh is so flat that rounding can tie what differs by a few parts in 10^12
    assert carbon[chosen] <= carbon.min() * (1 + 1e-9) + 1e-3


@given(some_nodes(), st.sampled_from(CARBON_FORMS), st.sampled_from(sorted(TABLE_I)), st.randoms())
@settings(max_examples=200, deadline=None)
def test_scores_do_not_depend_on_the_order_of_nodes(nodes, form, mode, random):
    order = list(range(len(nodes.load)))
    random.shuffle(order)
    shuffled = NodeRecords(*(field[order] for field in nodes))
    straight = total_score(node_scores(nodes, form), TABLE_I[mode])
    assert total_score(node_scores(shuffled, form), TABLE_I[mode]).tolist() == straight[order].tolist()


@given(some_nodes(), st.sampled_from(CARBON_FORMS), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_more_carbon_weight_never_chooses_more_carbon(nodes, form, one, other):
    """The S_C of the chosen node rises with w_C: the share of green nodes is monotone."""
    scores, every = node_scores(nodes, form), np.ones(len(nodes.load), dtype=bool)
    low, high = sorted((one, other))
    chosen = [
        scores.carbon[best_node(total_score(scores, with_carbon_weight(TABLE_I["performance"], w)), every)]
        for w in (low, high)
    ]
    assert chosen[1] >= chosen[0] - 1e-12


@given(some_nodes())
@settings(max_examples=100, deadline=None)
def test_batches_are_rows(nodes):
    """Scoring several tasks together is scoring each alone."""
    tasks = NodeRecords(*(np.stack([field, field * 0.5, field[::-1]]) for field in nodes))
    together = total_score(node_scores(tasks, "minmax"), TABLE_I["balanced"])
    for row in range(3):
        alone = NodeRecords(*(field[row] for field in tasks))
        assert (
            total_score(node_scores(alone, "minmax"), TABLE_I["balanced"]).tolist() == together[row].tolist()
        )
