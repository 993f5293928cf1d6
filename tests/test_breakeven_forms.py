"""The closed forms: papers' numbers, roots put back in, monotone in every argument, arrays as fast as promised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.envs.queueing import gg1_wait_ms, md1_wait_ms, mg1_wait_ms, mixture
from carbonpilot.oracle.breakeven_forms import (
    crossing,
    intensity_ratio,
    load_for_wait,
    radio_energy_j,
    sending_for_sojourn_ms,
    server_energy_j,
    server_idle_j,
    tipping_batch,
    tipping_payload_kb,
    tipping_rate_mbps,
)

joules = st.floats(0.05, 50)
ratios = st.floats(0.05, 10)


def test_khans_ratio_single_and_batched():
    """PAPERS.md, Khan et al. (6): 5.1 / 29.8 J alone, 10 to 5 J an image in a batch."""
    alone, dear, cheap = intensity_ratio(5.1, 0.0, np.array([29.8, 10.0, 5.0]))
    assert alone == pytest.approx(0.171, abs=5e-4)
    assert dear == pytest.approx(0.51, abs=5e-3)
    assert cheap == pytest.approx(1.02, abs=5e-3)


@given(joules, st.floats(0, 3), joules, joules, ratios)
def test_at_the_tipping_batch_both_emit_the_same(local, sending, shared, own, ratio):
    batch = float(tipping_batch(local, sending, shared, own, ratio))
    if np.isinf(batch):
        assert sending + ratio * own >= local - 1e-9  # not even the part that no batch shares fits
    else:
        remote = sending + ratio * server_energy_j(shared, own, batch)
        assert remote == pytest.approx(local, rel=1e-6)
        assert intensity_ratio(local, sending, server_energy_j(shared, own, batch)) == pytest.approx(
            ratio, rel=1e-6
        )


@given(joules, joules, ratios, st.floats(1e-5, 1e-2), st.floats(0.1, 3), st.floats(1, 100))
def test_at_the_tipping_payload_both_emit_the_same(local, server, ratio, per_kb, power, rate):
    payload = float(tipping_payload_kb(local, server, ratio, per_kb, power, rate))
    sending_j = payload * (per_kb + power * 8 / rate / 1000)
    assert sending_j + ratio * server == pytest.approx(local, rel=1e-9)


@given(joules, joules, ratios, st.floats(0, 1), st.floats(1, 1000), st.floats(0.1, 3))
def test_at_the_tipping_rate_both_emit_the_same(local, server, ratio, fixed, payload, power):
    rate = float(tipping_rate_mbps(local, server, ratio, fixed, payload, power))
    if np.isinf(rate):
        assert fixed + ratio * server >= local
    else:
        radio = radio_energy_j(payload * 8 / rate, 0.0, power, 0.0, 0.0)
        assert fixed + radio + ratio * server == pytest.approx(local, rel=1e-9)


def test_bytes_that_cost_nothing_never_tip():
    assert tipping_payload_kb(5.0, 4.0, 1.0, 0.0, 0.0, 10.0) == np.inf
    assert tipping_payload_kb(5.0, 6.0, 1.0, 0.0, 0.0, 10.0) == -np.inf


def test_dirtier_servers_and_longer_sending_need_larger_batches():
    batch = tipping_batch(5.1, np.array([0.0, 0.2, 0.4]), 8.0, 1.3, np.array([[0.5], [1.0], [2.0]]))
    assert (np.diff(batch, axis=0) > 0).all()
    assert (np.diff(batch, axis=1) > 0).all()


def test_the_radio_pays_for_the_awake_time_it_adds():
    asleep = radio_energy_j(10.0, 4000.0, 2.0, 1.2, 4000.0)
    awake = radio_energy_j(10.0, 90.0, 2.0, 1.2, 4000.0)
    assert asleep == pytest.approx(0.02 + 4.8)
    assert awake == pytest.approx(0.02 + 0.108)
    assert radio_energy_j(10.0, 1e9, 2.0, 1.2, 4000.0) == asleep  # never more than the tail


def test_idle_power_is_shared_by_number_of_requests():
    assert server_idle_j(100.0, 60.0, 0.0) == pytest.approx(6.0)
    assert server_idle_j(100.0, 60.0, 0.03) == pytest.approx(6.0 / 4)


def test_crossing_of_a_line():
    assert crossing(2.0, 1.0) == 2.0
    assert np.isnan(crossing(1.0, 2.0))  # at -1
    assert np.isnan(crossing(1.0, 1.0))


@given(st.floats(0.1, 50), st.floats(0, 15), st.floats(0, 4))
def test_the_sending_time_turns_the_wait_round(sending, rate, variability):
    if rate * sending / 1000 > 0.98:
        return
    wait = gg1_wait_ms(sending, rate, variability, variability)
    assert sending_for_sojourn_ms(sending + wait, rate, variability) == pytest.approx(sending, rel=1e-6)


def test_no_sending_time_meets_a_negative_rest():
    assert np.isnan(sending_for_sojourn_ms(-1.0, 10.0, 1.0))
    assert sending_for_sojourn_ms(20.0, 0.0, 1.0) == 20.0  # nobody waits for oneself in a closed loop


@given(st.floats(0.01, 0.95), st.floats(1, 60), st.sampled_from([0.0, 1.0]))
def test_the_load_turns_eq_11_round(load, service, scv):
    wait = mg1_wait_ms(service, 1000 * load / service, scv)
    assert load_for_wait(wait, service, scv) == pytest.approx(load, rel=1e-9)


def test_the_load_leaves_room_for_our_own_requests():
    tenants_per_s, ours_per_s = 12.0, 8.0
    both = mixture(np.array([tenants_per_s, ours_per_s]), np.array([20.0, 35.0]))
    wait = mg1_wait_ms(both.service_ms, both.rate_per_s, both.service_scv)
    found = load_for_wait(wait, 20.0, 0.0, own_load=ours_per_s * 35 / 1000, own_ms=35.0)
    assert found == pytest.approx(tenants_per_s * 20 / 1000, rel=1e-9)
    alone = md1_wait_ms(35.0, ours_per_s)
    assert load_for_wait(alone, 20.0, 0.0, ours_per_s * 35 / 1000, 35.0) == pytest.approx(0.0, abs=1e-12)
    assert load_for_wait(0.0, 20.0, 0.0, 0.3, 35.0) < 0  # our own queue is longer than that already


def test_arrays_broadcast():
    rows, columns = np.linspace(1, 8, 10_000)[:, None], np.array([0.2, 1.0])
    assert tipping_batch(5.1, 0.1, 8.0, 1.3, columns * rows).shape == (10_000, 2)
    assert sending_for_sojourn_ms(rows, 10.0, columns).shape == (10_000, 2)
    assert load_for_wait(rows, 18.0, columns).shape == (10_000, 2)
