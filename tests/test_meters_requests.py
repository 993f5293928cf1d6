"""Energy per request: joules are conserved, and the correction finds the truth with an honest error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.real.meters import MeterError, RequestEnergyModel, TimedRequest, WindowEnergy

JOULES = {("local", "cool"): 1.0, ("local", "hot"): 1.4, ("edge", "cool"): 0.2}


def window(gross_j, idle_j: float | None = 0.0, start_s=0.0, end_s=10.0, gaps=()) -> WindowEnergy:
    return WindowEnergy("rails", start_s, end_s, gross_j, idle_j, gaps, 0.0, 100)


def local(start_s=1.0, end_s=2.0, placement="local", state="cool") -> TimedRequest:
    return TimedRequest(placement, state, start_s, end_s)


kinds = st.sampled_from(sorted(JOULES))
requests = st.builds(
    lambda kind, start, length: TimedRequest(*kind, start, start + length),
    kinds,
    st.floats(-5, 25),
    st.floats(0.01, 15),
)


@given(st.lists(requests, max_size=30), st.floats(0, 1000), st.floats(0, 300))
def test_requests_and_idle_add_up_to_the_window(batch, gross_j, idle_j):
    result = RequestEnergyModel(JOULES).attribute(window(gross_j, idle_j), batch)
    assert result.total_j == pytest.approx(gross_j, rel=1e-12, abs=1e-9)
    assert result.request_j.shape == (len(batch),)
    assert (result.request_j >= 0).all()
    if result.factor is not None and not result.clamped:
        assert result.unexplained_j == 0.0


@given(st.lists(requests, min_size=1, max_size=20), st.lists(st.floats(20, 60), min_size=4, max_size=4))
def test_requests_across_windows_keep_their_whole_energy(batch, gross):
    """Four windows in a row: what all requests got, idle and unexplained are all that was measured."""
    model = RequestEnergyModel(JOULES)
    results = [model.attribute(window(g, 5.0, 10.0 * i - 10, 10.0 * i), batch) for i, g in enumerate(gross)]
    charged = sum(r.request_j.sum() + r.idle_j + r.unexplained_j for r in results)
    assert charged == pytest.approx(sum(gross), rel=1e-12)


def test_requests_share_by_their_calibration():
    """Net 5.2 J over calibrated 2.6 J is a factor of 2."""
    batch = [local(), local(state="hot"), local(placement="edge")]
    result = RequestEnergyModel(JOULES).attribute(window(9.2, 4.0), batch)
    assert result.factor == pytest.approx(2.0)
    assert result.request_j == pytest.approx([2.0, 2.8, 0.4])
    assert not result.clamped


def test_a_request_counts_as_far_as_it_lies_in_the_window():
    result = RequestEnergyModel(JOULES).attribute(window(1.0), [local(9, 11), local(12, 13), local(3, 3.5)])
    assert result.request_j == pytest.approx([1 / 3, 0, 2 / 3])


def test_energy_beyond_the_bounds_is_shown_and_not_charged():
    """Another program at work: 20 J where requests claim 1 J."""
    model = RequestEnergyModel(JOULES, high=2.0)
    result = model.attribute(window(24.0, 4.0), [local()])
    assert (result.factor, result.clamped) == (2.0, True)
    assert result.request_j.tolist() == [2.0]
    assert result.unexplained_j == pytest.approx(18)
    assert model.correction.clamped
    assert model.correction.factor == 2.0


def test_less_than_idle_is_not_a_negative_request():
    result = RequestEnergyModel(JOULES, low=0.5).attribute(window(3.0, 4.0), [local()])
    assert result.request_j.tolist() == [0.5]
    assert result.unexplained_j == pytest.approx(-1.5)


def test_a_window_without_requests_teaches_nothing():
    model = RequestEnergyModel(JOULES)
    result = model.attribute(window(7.0, 4.0), [])
    assert (result.factor, result.unexplained_j, result.idle_j) == (None, 3.0, 4.0)
    assert model.correction.windows == 0


def test_the_correction_before_and_after_windows():
    model = RequestEnergyModel(JOULES)
    assert model.correction.factor == 1
    assert math.isinf(model.correction.standard_error)
    assert model.estimate_j("local", "hot") == pytest.approx(1.4)
    model.attribute(window(1.3), [local()])
    assert math.isinf(model.correction.standard_error)
    model.attribute(window(1.1), [local()])
    assert model.correction.factor == pytest.approx(1.2)
    assert model.correction.standard_error == pytest.approx(0.1)
    assert model.estimate_j("local", "hot") == pytest.approx(1.2 * 1.4)


def test_the_error_of_the_correction_is_honest():
    """True factor 1.25, noisy windows: the truth lies within two errors some 95 times in 100."""
    rng = np.random.default_rng(3)
    inside, spread, stated = 0, [], []
    for _ in range(200):
        model = RequestEnergyModel(JOULES)
        for count in rng.integers(5, 50, size=60):
            measured = 1.25 * count * (1 + 0.2 * rng.standard_normal())
            model.attribute(window(measured), [local()] * int(count))
        c = model.correction
        inside += abs(c.factor - 1.25) < 2 * c.standard_error
        spread.append(c.factor)
        stated.append(c.standard_error)
    assert 180 <= inside <= 200
    assert np.mean(stated) == pytest.approx(np.std(spread), rel=0.15)


def test_memory_is_bounded_and_follows_drift():
    model = RequestEnergyModel(JOULES)
    for net in [1.0] * 700 + [1.5] * 600:
        model.attribute(window(net), [local()])
    assert model.correction.windows == 600
    assert model.correction.factor == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("of_window", "batch", "text"),
    [
        (window(5.0, gaps=((1.0, 4.0),)), [local()], "has gaps; leave it out"),
        (window(5.0, None), [local()], "needs an idle baseline"),
        (
            window(5.0),
            [local(placement="cloud")],
            "'cloud' in state 'cool' was not calibrated.*nothing is guessed",
        ),
        (window(5.0), [local(2, 2)], "must end after it began"),
        (window(5.0), [local(2, float("nan"))], "must end after it began"),
    ],
)
def test_what_cannot_be_attributed(of_window, batch, text):
    with pytest.raises(MeterError, match=text):
        RequestEnergyModel(JOULES).attribute(of_window, batch)


@pytest.mark.parametrize(
    "arguments", [({},), ({("a", "b"): 0.0},), ({("a", "b"): math.nan},), (JOULES, 1.1, 2), (JOULES, 0, 2)]
)
def test_models_that_cannot_be(arguments):
    with pytest.raises(MeterError):
        RequestEnergyModel(*arguments)
