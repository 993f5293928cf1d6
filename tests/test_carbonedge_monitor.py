"""The Carbon Monitor: integrals that are known, shares that add up, and meters that fail loudly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.agents.carbonedge_monitor import (
    RAM_W_PER_GB,
    PowerLog,
    Quota,
    apportion_j,
    carbon_g,
    host_energy,
)
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.units import J_PER_KWH

# The paper's containers (section IV-A1).
QUOTAS = {"high": Quota(1.0, 1.0), "medium": Quota(0.6, 0.512), "green": Quota(0.4, 0.512)}


def log(**changes) -> PowerLog:
    """Five seconds at 100 W CPU, 20 W GPU and 8 GB, changed by field."""
    times = np.arange(6.0)
    values = {"time_s": times, "cpu_w": np.full(6, 100.0), "ram_gb": 8.0, "gpu_w": np.full(6, 20.0)}
    return PowerLog.of(**{**values, **changes})


# -- eq (1) -------------------------------------------------------------------------------------------


def test_constant_power():
    energy = host_energy(log())
    assert energy.cpu_j == pytest.approx(500)
    assert energy.gpu_j == pytest.approx(100)
    assert energy.ram_j == pytest.approx(5 * 8 * 0.375)  # 0.375 W for each GB
    assert energy.total_j == pytest.approx(615)
    assert energy.seconds == 5
    assert energy.gaps_s == ()
    assert energy.bridged_j == 0


def test_a_ramp_is_exact_however_the_samples_lie():
    """Trapezoids are exact for what is linear: 0.5 x slope x T^2."""
    times = np.array([0.0, 0.1, 0.7, 0.8, 1.9, 2.0])
    energy = host_energy(log(time_s=times, cpu_w=50 * times, gpu_w=None))
    assert energy.cpu_j == pytest.approx(0.5 * 50 * 2**2)
    assert energy.gpu_j == 0


def test_a_sine_converges_with_the_square_of_the_step():
    """Over a half wave of 1 s the integral of 100 sin(pi t) is 200 / pi."""
    errors = []
    for steps in (20, 40):
        times = np.linspace(0, 1, steps + 1)
        energy = host_energy(log(time_s=times, cpu_w=100 * np.abs(np.sin(np.pi * times)), gpu_w=None))
        errors.append(200 / math.pi - energy.cpu_j)
    assert errors[0] == pytest.approx(4 * errors[1], rel=0.01)
    assert 0 < errors[1] < 0.05


@given(st.floats(0.1, 4.9), st.floats(0.0, 4.8))
def test_parts_add_up(cut, start):
    """The energy of two parts is that of the whole, also where the cut is between samples."""
    cpu = np.array([10.0, 80, 30, 60, 5, 90])
    whole = log(cpu_w=cpu)
    if start < cut:
        pieces = [host_energy(whole.part(a, b)).total_j for a, b in ((start, cut), (cut, 5.0))]
        assert sum(pieces) == pytest.approx(host_energy(whole.part(start, 5.0)).total_j)


def test_a_part_must_be_covered():
    with pytest.raises(InputError, match=r"cover 0 to 5 s.*stop it later"):
        log().part(1, 5.1)
    with pytest.raises(InputError, match="needs samples over all of it"):
        log().part(2, 2)


def test_gaps_are_visible():
    """A stretch without samples is bridged, listed, and its energy told apart."""
    energy = host_energy(log(time_s=np.array([0.0, 1, 2, 8, 9, 10])))
    assert energy.gaps_s == ((2.0, 8.0),)
    assert energy.bridged_j == pytest.approx(6 * (100 + 20 + 3))
    assert energy.total_j == pytest.approx(10 * (100 + 20 + 3))
    assert host_energy(log(), max_gap_s=0.5).bridged_j == pytest.approx(615)


def test_ram_that_changes():
    assert host_energy(log(ram_gb=np.linspace(0, 10, 6))).ram_j == pytest.approx(5 * 5 * RAM_W_PER_GB)


# -- shares -------------------------------------------------------------------------------------------


def test_shares_by_quota():
    shares = apportion_j(host_energy(log()), QUOTAS)
    assert shares["high"] == pytest.approx(600 * 1.0 / 2.0 + 15 * 1.0 / 2.024)
    assert shares["green"] == pytest.approx(600 * 0.4 / 2.0 + 15 * 0.512 / 2.024)
    assert sum(shares.values()) == pytest.approx(615)


@given(
    st.lists(st.tuples(st.floats(0.01, 64), st.floats(0.01, 256)), min_size=1, max_size=8),
    st.lists(st.floats(0.1, 1000), min_size=6, max_size=6),
)
def test_shares_add_up_to_the_host(quotas, cpu):
    energy = host_energy(log(cpu_w=np.array(cpu)))
    shares = apportion_j(energy, {str(i): Quota(*q) for i, q in enumerate(quotas)})
    assert sum(shares.values()) == pytest.approx(energy.total_j, rel=1e-12)
    assert min(shares.values()) >= 0


@pytest.mark.parametrize(
    ("quotas", "text"),
    [
        ({"a": Quota(-1, 1)}, "Quota cpus of a .*got -1"),
        ({"a": Quota(1, float("nan"))}, "Quota memory_gb of a .*got nan"),
        ({"a": Quota(0, 1)}, "Nobody has a quota of cpus"),
        ({}, "Nobody has a quota of cpus"),
    ],
)
def test_quotas_that_cannot_be(quotas, text):
    with pytest.raises(InputError, match=text):
        apportion_j(host_energy(log()), quotas)


# -- eq (2) -------------------------------------------------------------------------------------------


def test_carbon():
    assert carbon_g(J_PER_KWH, 530) == pytest.approx(530)
    assert carbon_g(J_PER_KWH, 530, pue=1.5) == pytest.approx(795)
    # Table II: 141.3 W of host for 254.85 ms in a grid of 530 g/kWh is the monolithic row.
    times = np.array([0.0, 0.25485])
    energy = host_energy(log(time_s=times, cpu_w=[141.3, 141.3], gpu_w=None, ram_gb=0.0))
    assert carbon_g(energy.total_j, 530) == pytest.approx(0.0053, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((-1, 500), "energy_j"), ((1, float("nan")), "carbon_g_per_kwh"), ((1, 500, 0.9), "pue .*at least 1")],
)
def test_carbon_that_cannot_be(arguments, text):
    with pytest.raises(InputError, match=text):
        carbon_g(*arguments)


# -- meters that fail ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cpu_w": [1, 2, -3, 4, 5, 6]}, "cpu_w: sample 2 is -3, and a meter cannot read less"),
        ({"gpu_w": [1, 2, 3, float("nan"), 5, 6]}, "gpu_w: sample 3 is nan.*leave the sample out"),
        ({"cpu_w": [1, 2, 3, 4, 5, float("inf")]}, "cpu_w: sample 5 is inf"),
        ({"cpu_w": np.zeros(6)}, "cpu_w: the meter is silent, all 6 samples are 0 W"),
        ({"gpu_w": np.zeros(6)}, "gpu_w: the meter is silent.*None for a GPU"),
        ({"time_s": [0, 1, 2, 2, 3, 4]}, "time_s must rise: sample 3 is at 2 s after 2 s"),
        ({"time_s": [0, 1, 3, 2, 4, 5]}, "sample 3 is at 2 s after 3 s.*monotonic clock"),
        ({"time_s": [0, 1, 2, 3, 4, float("nan")]}, "time_s: sample 5 is nan"),
        ({"time_s": [0], "cpu_w": [1], "gpu_w": [1]}, "at least 2 power samples, got 1"),
        ({"time_s": [], "cpu_w": [], "gpu_w": None}, "at least 2 power samples, got 0"),
        ({"cpu_w": [1, 2]}, "cpu_w has 2 samples and time_s 6"),
        ({"cpu_w": [5.0]}, "cpu_w has 1 samples and time_s 6"),
        ({"ram_gb": [1, 2]}, "ram_gb must hold one number for each of the 6 samples"),
        ({"ram_gb": -1}, "ram_gb: sample 0 is -1"),
    ],
)
def test_a_broken_meter_is_an_error(changes, text):
    with pytest.raises(InputError, match=text):
        log(**changes)
