"""Lemmas 3.1 to 3.3 against their printed inequalities and against brute force over the closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from carbonpilot.agents.ng_lemmas import (
    Case,
    Tenant,
    eq_10_wait_ms,
    lemma_3_1,
    lemma_3_2,
    lemma_3_3,
    tenants_to_tip,
    tipping_points,
)
from carbonpilot.envs import queueing as q

CASES = st.builds(
    Case,
    device_service_ms=st.floats(1, 100),
    edge_service_ms=st.floats(0.5, 60),
    request_kb=st.floats(0.1, 200),
    bandwidth_mbps=st.floats(1, 200),
    rate_per_s=st.floats(0.1, 40),
    reply_kb=st.floats(0.01, 20),
    device_parallelism=st.floats(0.5, 4),
    edge_parallelism=st.floats(0.5, 8),
)


def stable(case: Case, extra_per_s: float = 0.0) -> bool:
    """Every queue of both sides below 95 %."""
    reply_ms = 8 * case.reply_kb / case.bandwidth_mbps
    everybody = case.rate_per_s + extra_per_s
    loads = (
        case.rate_per_s * case.device_service_ms / case.device_parallelism,
        everybody * case.edge_service_ms / case.edge_parallelism,
        case.rate_per_s * 8 * case.request_kb / case.bandwidth_mbps,
        everybody * reply_ms,
    )
    return max(loads) < 950


def network_terms(case: Case, replies_per_ms: float) -> float:
    """The first three terms on the right of (3), (10) and (12), as printed; rates in 1/ms."""
    lam, send, reply = case.rate_per_s / 1000, case.request_kb, case.reply_kb
    per_ms = case.bandwidth_mbps / 8  # kB a ms
    mu_dev, mu_edge = per_ms / send, per_ms / reply
    return (
        lam / (mu_dev * (mu_dev - lam))
        + replies_per_ms / (mu_edge * (mu_edge - replies_per_ms))
        + (send + reply) / per_ms
    )


@settings(deadline=None, max_examples=50)
@given(CASES)
def test_lemma_3_1_is_inequality_3(case):
    assume(stable(case))
    lam = case.rate_per_s / 1000
    edge, device = (
        case.edge_parallelism / case.edge_service_ms,
        case.device_parallelism / case.device_service_ms,
    )
    printed = (
        network_terms(case, lam)
        + 0.5 * (1 / (edge - lam) - 1 / edge)
        - 0.5 * (1 / (device - lam) - 1 / device)
    )
    found = lemma_3_1(case)
    assert found.bound_ms == pytest.approx(printed, rel=1e-9, abs=1e-9)
    assert found.gap_ms == case.device_service_ms - case.edge_service_ms
    assert (found.winner == "device") == (found.gap_ms < found.bound_ms)
    assert found.difference_ms == pytest.approx(found.edge_ms - found.device_ms)


@settings(deadline=None, max_examples=50)
@given(CASES)
def test_lemma_3_3_is_inequality_12(case):
    assume(stable(case))
    lam = case.rate_per_s / 1000
    edge, device = (
        case.edge_parallelism / case.edge_service_ms,
        case.device_parallelism / case.device_service_ms,
    )
    printed = network_terms(case, lam) + 1 / (edge - lam) - 1 / edge - 1 / (device - lam) + 1 / device
    assert lemma_3_3(case).bound_ms == pytest.approx(printed, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(CASES, st.lists(st.tuples(st.floats(0, 10), st.floats(0.5, 60)), max_size=4))
def test_lemma_3_2_is_inequality_10_with_one_server(case, others):
    case = replace(case, edge_parallelism=1.0, tenants=tuple(Tenant(r, s) for r, s in others))
    rates = np.array([case.rate_per_s, *(t.rate_per_s for t in case.tenants)]) / 1000
    services = np.array([case.edge_service_ms, *(t.service_ms for t in case.tenants)])
    assume(stable(case, 1000 * rates[1:].sum()) and (rates * services).sum() < 0.95)
    lam = rates.sum()
    mean = (rates * services).sum() / lam
    variance = (rates * (services - mean) ** 2).sum() / lam
    mu, device = 1 / mean, case.device_parallelism / case.device_service_ms
    wait = (lam / mu + lam * mu * variance) / (2 * (mu - lam))
    printed = network_terms(case, lam) + wait - 0.5 * (1 / (device - case.rate_per_s / 1000) - 1 / device)
    assert lemma_3_2(case).bound_ms == pytest.approx(printed, rel=1e-7, abs=1e-7)


def test_eq_10_as_printed_differs_from_eq_11_for_several_servers():
    assert eq_10_wait_ms(50, 10, 0.5, 1) == pytest.approx(q.mg1_wait_ms(10, 50, 0.5))
    for k in (2.0, 4.0):  # deterministic: k times eq (6), from which Lemma 3.1 is derived
        assert eq_10_wait_ms(50, 10, 0.0, k) == pytest.approx(k * q.md1_wait_ms(10, 50, k))
    assert eq_10_wait_ms(100, 10, 0.0, 1) == math.inf


def test_without_tenants_lemma_3_2_is_lemma_3_1():
    case = Case(18.82, 13.0, 5.92, 2.0, 10.0)
    assert lemma_3_2(case) == lemma_3_1(case)
    crowded = replace(case, tenants=(Tenant(40.0, 13.0),))
    assert lemma_3_1(crowded) == lemma_3_1(case)
    assert lemma_3_2(crowded).edge_ms > lemma_3_2(case).edge_ms


def test_nobody_wins_where_both_queues_grow():
    found = lemma_3_1(Case(200.0, 150.0, 1.0, 100.0, 10.0))
    assert found.winner == "neither"
    assert math.isnan(found.difference_ms)
    assert lemma_3_1(Case(200.0, 10.0, 1.0, 100.0, 10.0)).difference_ms == -math.inf


# -- thresholds ------------------------------------------------------------------------------------------


def winner_by_brute_force(case: Case, scv: float) -> str:
    device = q.device_latency_ms(case.device_service_ms, case.rate_per_s, scv, case.device_parallelism)
    edge = q.offload_latency_ms(
        q.transmission_ms(case.request_kb, case.bandwidth_mbps),
        q.transmission_ms(case.reply_kb, case.bandwidth_mbps),
        case.rate_per_s, case.edge_service_ms, None, scv, case.edge_parallelism,
    )  # fmt: skip
    return "device" if edge > device else "edge" if edge < device else "neither"


@settings(deadline=None, max_examples=50)
@given(CASES, st.sampled_from([0.0, 1.0]))
def test_thresholds_against_brute_force(case, scv):
    """Between two tips one side wins throughout, and on either side of a tip another does."""
    assume(stable(case))
    found = (lemma_3_3 if scv else lemma_3_1)(case)
    assert found.winner == winner_by_brute_force(case, scv)
    for tips, key in ((found.tips_at_mbps, "bandwidth_mbps"), (found.tips_at_per_s, "rate_per_s")):
        for tip in tips:
            sides = {
                winner_by_brute_force(replace(case, **{key: tip * factor}), scv)
                for factor in (1 - 1e-6, 1 + 1e-6)
            }
            assert sides == {"device", "edge"}
    grid = np.geomspace(0.01, 10_000, 60)
    winners = [winner_by_brute_force(replace(case, bandwidth_mbps=b), scv) for b in grid]
    for b, won in zip(grid, winners, strict=True):
        above = sum(tip < b for tip in found.tips_at_mbps)
        assert won == "neither" or won == ("edge" if above % 2 else winners[0]), (b, found)


@settings(deadline=None, max_examples=50)
@given(CASES)
def test_bandwidth_threshold_in_closed_form(case):
    """Without a reply the edge wins from B = D (1 / c + lambda) on, c what the servers' difference leaves."""
    case = replace(case, reply_kb=0.0)
    assume(stable(case))
    free = q.offload_latency_ms(
        0.0, 0.0, case.rate_per_s, case.edge_service_ms, None, 0.0, case.edge_parallelism
    )
    left = lemma_3_1(case).device_ms - free
    tips = lemma_3_1(case).tips_at_mbps
    if left <= 0:
        assert tips == ()
    else:
        threshold = 8 * case.request_kb * (1 / left + case.rate_per_s / 1000)
        assume(1e-2 < threshold < 1e4)
        assert tips == pytest.approx((threshold,), rel=1e-6)


def test_more_bandwidth_never_hurts_the_edge():
    case = Case(18.82, 13.0, 5.92, 2.0, 10.0)
    differences = [lemma_3_1(replace(case, bandwidth_mbps=b)).difference_ms for b in (1, 2, 5, 10, 50)]
    assert differences == sorted(differences, reverse=True)


def test_tenants_to_tip():
    case = Case(80.0, 22.0, 10.0, 20.0, 2.0)
    tenant = Tenant(2.0, 22.0)
    count = tenants_to_tip(case, tenant)
    assert count is not None
    assert lemma_3_2(replace(case, tenants=(tenant,) * count)).winner == "device"
    assert lemma_3_2(replace(case, tenants=(tenant,) * (count - 1))).winner == "edge"
    assert tenants_to_tip(replace(case, device_service_ms=1.0), tenant) == 0
    assert tenants_to_tip(case, Tenant(0.0, 22.0), most=50) is None


def test_tipping_points_finds_every_change():
    found = tipping_points(lambda x: np.sin(np.log(x)), 0.5, 1000)
    assert found == pytest.approx((1.0, math.exp(math.pi), math.exp(2 * math.pi)), rel=1e-9)
    assert tipping_points(lambda x: np.ones_like(x), 1, 10) == ()
