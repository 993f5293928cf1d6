"""Energy of windows: known integrals, parts that add up, gaps that show, and meters that fail loudly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.real.meters import MeterError, Sample, WindowIntegrator


def of_power(times, power, max_gap_s=1.0, **options) -> WindowIntegrator:
    integrator = WindowIntegrator("rails", max_gap_s, **options)
    for time_s, power_w in zip(times, power, strict=True):
        integrator.add(Sample(float(time_s), power_w=float(power_w)))
    return integrator


def of_counter(times, energy, max_gap_s=1.0) -> WindowIntegrator:
    integrator = WindowIntegrator("gpu", max_gap_s)
    for time_s, energy_j in zip(times, energy, strict=True):
        integrator.add(Sample(float(time_s), energy_j=float(energy_j)))
    return integrator


# -- integrals ----------------------------------------------------------------------------------------


def test_a_ramp_is_exact_between_samples():
    """The integral of 3 t from a to b is 1.5 (b^2 - a^2), wherever samples and ends lie."""
    times = np.array([0.0, 0.1, 0.7, 0.8, 1.6, 2.0])
    window = of_power(times, 3 * times).energy(0.05, 1.77)
    assert window.gross_j == pytest.approx(1.5 * (1.77**2 - 0.05**2))
    assert window.samples == 4
    assert window.mean_w == pytest.approx(window.gross_j / 1.72)


def test_a_sine_converges_with_the_square_of_the_step():
    errors = []
    for steps in (20, 40):
        times = np.linspace(0, 1, steps + 1)
        errors.append(
            200 / math.pi - of_power(times, 100 * np.abs(np.sin(np.pi * times))).energy(0, 1).gross_j
        )
    assert errors[0] == pytest.approx(4 * errors[1], rel=0.01)


def test_a_counter_is_its_difference():
    counter = of_counter([0, 0.5, 1, 1.5], [100, 107, 110, 150])
    assert counter.energy(0, 1).gross_j == pytest.approx(10)
    assert counter.energy(0.25, 1.25).gross_j == pytest.approx(130 - 103.5)


@given(
    st.lists(st.tuples(st.floats(0.01, 0.9), st.floats(0.1, 500)), min_size=2, max_size=40),
    st.lists(st.integers(1, 999).map(lambda n: n / 1000), min_size=0, max_size=5),  # no window of an instant
    st.booleans(),
)
def test_windows_that_follow_each_other_add_up(steps, cuts, counts):
    times = np.cumsum([step for step, _ in steps])
    values = np.array([value for _, value in steps])
    integrator = of_counter(times, np.cumsum(values)) if counts else of_power(times, values)
    start, end = float(times[0]), float(times[-1])
    bounds = sorted({start, end, *(start + c * (end - start) for c in cuts)})
    whole = integrator.energy(start, end)
    pieces = [integrator.energy(a, b).gross_j for a, b in itertools.pairwise(bounds)]
    assert sum(pieces) == pytest.approx(whole.gross_j, rel=1e-9)
    if counts:
        assert whole.gross_j == pytest.approx(values[1:].sum())


# -- idle ---------------------------------------------------------------------------------------------


def test_the_idle_baseline_is_subtracted_and_kept():
    """Five seconds at 4 W, then five at 10 W."""
    times = np.arange(0, 10.01, 0.1)
    integrator = of_power(times, np.where(times <= 5.0, 4.0, 10.0))
    baseline = integrator.measure_idle(0, 5)
    assert (baseline.power_w, baseline.start_s, baseline.end_s) == (pytest.approx(4), 0, 5)
    assert baseline.low_w == pytest.approx(4)
    assert baseline.high_w == pytest.approx(4)
    window = integrator.account(6, 8)
    assert window.gross_j == pytest.approx(20)
    assert window.idle_j == pytest.approx(8)
    assert window.net_j == pytest.approx(12)


def test_an_idle_window_with_work_in_it_shows_in_its_spread():
    times = np.arange(0, 10.01, 0.05)
    baseline = of_power(times, np.where((times > 4) & (times < 5), 14.0, 4.0)).measure_idle(0, 10)
    assert baseline.power_w == pytest.approx(5, abs=0.1)
    assert baseline.low_w == pytest.approx(4)
    assert baseline.high_w > 13


def test_an_idle_window_needs_samples():
    with pytest.raises(MeterError, match="needs at least 20 samples, 9 lie in 0 to 1 s"):
        of_power(np.linspace(0, 1, 11), np.ones(11)).measure_idle(0, 1)


def test_without_a_baseline_nothing_is_net():
    window = of_power([0, 1], [5, 5]).account(0, 1)
    assert window.idle_j is None
    with pytest.raises(MeterError, match="needs an idle baseline"):
        _ = window.net_j


# -- gaps and silence ---------------------------------------------------------------------------------


def test_a_gap_shows_and_cannot_be_charged():
    integrator = of_power([0, 1, 2, 5, 6], [10, 10, 10, 20, 20])
    window = integrator.energy(0, 6)
    assert window.gaps_s == ((2.0, 5.0),)
    assert window.bridged_j == pytest.approx(45)
    assert window.gross_j == pytest.approx(20 + 45 + 20)
    assert integrator.energy(3, 6).gaps_s == ((3, 5.0),)
    with pytest.raises(MeterError, match=r"rails was silent 1 times.*from 2 to 5 s.*45 J would be assumed"):
        integrator.account(0, 6)
    assert integrator.account(0, 2).gross_j == pytest.approx(20)


def test_a_counter_that_stands_still_is_a_gap_though_samples_come():
    """As after a crash of the driver: the counter answers and never moves."""
    times = np.arange(0, 10.1, 0.5)
    integrator = of_counter(times, np.minimum(times, 4.0))
    assert integrator.energy(0, 10).gaps_s == ((4.0, 10.0),)
    with pytest.raises(MeterError, match="was silent"):
        integrator.account(0, 10)
    with pytest.raises(MeterError, match="counter stood still from 5 to 9"):
        integrator.energy(5, 9)


def test_a_counter_slower_than_its_samples_is_no_gap():
    times = np.arange(0, 10.05, 0.1)
    assert of_counter(times, np.floor(times / 0.5)).account(0, 9).gross_j == pytest.approx(18)


def test_power_of_zero_is_silence():
    integrator = of_power(np.arange(6), [0, 0, 0, 0, 0, 0])
    with pytest.raises(MeterError, match="power was 0 from 0 to 5"):
        integrator.energy(0, 5)
    part = of_power(np.arange(0, 6, 0.5), [9, 9, 9, 0, 0, 0, 0, 0, 9, 9, 9, 9])
    assert part.energy(0, 5).gaps_s == ((1.0, 4.0),)


def test_a_meter_that_fell_silent():
    integrator = of_power([0, 1], [5, 5])
    integrator.check_alive(1.9)
    with pytest.raises(MeterError, match=r"rails is silent: it gave its last sample 1.1 s ago.*is not zero"):
        integrator.check_alive(2.1)
    with pytest.raises(MeterError, match="never gave a sample"):
        WindowIntegrator("rails", 1).check_alive(0)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 6), (3, 3), (4, 2)])
def test_a_window_must_be_covered(start, end):
    with pytest.raises(MeterError, match=r"Meter rails: .*needs samples over all of it"):
        of_power(np.arange(6), np.ones(6)).energy(start, end)


def test_a_meter_without_samples():
    with pytest.raises(MeterError, match=r"Meter rails: .*at least 2 power samples, got 0"):
        WindowIntegrator("rails", 1).energy(0, 1)


def test_old_samples_are_forgotten_and_asking_for_them_is_an_error():
    integrator = of_power(np.arange(100), np.ones(100), keep=10)
    assert integrator.account(91, 99).gross_j == pytest.approx(8)
    with pytest.raises(MeterError, match="they cover 90 to 99 s"):
        integrator.account(80, 99)


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (Sample(2, power_w=-1), "read -1 W at 2 s"),
        (Sample(2, power_w=float("nan")), "read nan W"),
        (Sample(2, power_w=float("inf")), "read inf W"),
        (Sample(float("nan"), power_w=1), "at nan s"),
        (Sample(1, power_w=1), "a sample at 1 s after one at 1 s"),
        (Sample(0.5, power_w=1), "clock was set back"),
        (Sample(2, energy_j=1), "power and energy in turn"),
        (Sample(2), "either power_w or energy_j"),
        (Sample(2, power_w=1, energy_j=1), "either power_w or energy_j"),
    ],
)
def test_samples_that_cannot_be_name_the_meter_and_are_left_out(sample, text):
    integrator = of_power([0, 1], [5, 5])
    with pytest.raises(MeterError, match=rf"Meter rails.*{text}"):
        integrator.add(sample)
    assert integrator.energy(0, 1).gross_j == pytest.approx(5)


def test_a_counter_that_fell():
    with pytest.raises(MeterError, match=r"gpu: its counter fell from 8 to 2 J"):
        of_counter([0, 1, 2], [5, 8, 2])


@pytest.mark.parametrize(("gap", "keep"), [(0, 10), (float("nan"), 10), (1, 1)])
def test_settings_that_cannot_be(gap, keep):
    with pytest.raises(MeterError, match="max_gap_s must be above 0"):
        WindowIntegrator("rails", gap, keep)
