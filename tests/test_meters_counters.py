"""RAPL and NVML: counters that wrap, libraries that refuse; and what find_meters says about them."""

from __future__ import annotations

import errno
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.envs.errors import MissingExtraError
from carbonpilot.real.clock import ManualClock
from carbonpilot.real.meters import MeterError, Nvml, Rapl, Scope, find_meters
from carbonpilot.real.meters.fake_sysfs import FakeSysfs

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


# -- RAPL ---------------------------------------------------------------------------------------------


def test_energy_is_counted_from_the_start_in_joules(tmp_path, clock):
    fake = FakeSysfs(tmp_path).rapl(energy_uj=8_000_000)
    rapl = Rapl(tmp_path, clock=clock)
    assert rapl.sample().energy_j == 0
    fake.set_counter(8_000_000 + 5_000_000)
    fake.set_counter(2_000_000 + 700_000, "intel-rapl:0:1")
    sample = rapl.sample()
    assert sample.energy_j == pytest.approx(5.7)
    assert sample.parts == pytest.approx({"package-0": 5.0, "package-0/dram": 0.7})


def test_zones_that_overlap_are_not_added(tmp_path, clock):
    """Core is inside the package, psys around all of it, and mmio is the package again."""
    fake = FakeSysfs(tmp_path).rapl()
    rapl = Rapl(tmp_path, clock=clock)
    for zone in ("intel-rapl:0:0", "intel-rapl:1", "intel-rapl-mmio:0"):
        fake.set_counter(900_000_000, zone)
    assert rapl.sample().energy_j == 0


def test_two_packages_and_memory_by_choice(tmp_path, clock):
    fake = FakeSysfs(tmp_path).rapl(packages=2)
    rapl = Rapl(tmp_path, memory=False, clock=clock)
    fake.set_counter(3_000_000, "intel-rapl:0")
    fake.set_counter(5_000_000, "intel-rapl:1")
    fake.set_counter(9_000_000, "intel-rapl:1:1")
    assert rapl.sample().energy_j == pytest.approx(2 + 4)


@settings(deadline=None, max_examples=30)
@given(steps=st.lists(st.integers(0, 999_999), min_size=1, max_size=40), start=st.integers(0, 1_000_000))
def test_a_counter_that_starts_again_loses_nothing(tmp_path_factory, steps, start):
    """Any steps shorter than the range add up, however often the counter passes it."""
    root = tmp_path_factory.mktemp("rapl")
    fake = FakeSysfs(root)
    fake.add_zone("intel-rapl:0", "package-0", start, 1_000_000)
    rapl = Rapl(root, clock=ManualClock(NOW))
    counter = start
    for step in steps:
        counter = (counter + step) % 1_000_000
        fake.set_counter(counter)
        sample = rapl.sample()
    assert sample.energy_j == pytest.approx(sum(steps) * 1e-6)


def test_too_long_between_samples_is_an_error(tmp_path, clock):
    """In 262 s at 1000 W the counter goes round once, so nobody knows how often it did in 300 s."""
    fake = FakeSysfs(tmp_path).rapl()
    rapl = Rapl(tmp_path, clock=clock)
    clock.advance(300)
    with pytest.raises(MeterError, match=r"300 s since the last sample.*at least every 262 s"):
        rapl.sample()
    fake.set_counter(2_000_000)
    clock.advance(1)
    assert rapl.sample().energy_j == pytest.approx(1)


def test_rapl_permission(tmp_path):
    fake = FakeSysfs(tmp_path).rapl()
    fake.fail(fake.counter(), errno.EACCES)
    with pytest.raises(MeterError, match=r"no permission to read .*energy_uj.*chmod a\+r"):
        Rapl(tmp_path, read=fake.read)


def test_no_rapl(tmp_path):
    with pytest.raises(MeterError, match="has no RAPL"):
        Rapl(tmp_path)


def test_a_counter_beyond_its_range(tmp_path):
    FakeSysfs(tmp_path).add_zone("intel-rapl:0", "package-0", 11, 10)
    with pytest.raises(MeterError, match="is 11, outside 0 to 10"):
        Rapl(tmp_path)


def test_a_closed_rapl(tmp_path):
    FakeSysfs(tmp_path).rapl()
    rapl = Rapl(tmp_path)
    rapl.close()
    with pytest.raises(MeterError, match="was closed"):
        rapl.sample()


# -- NVML ---------------------------------------------------------------------------------------------


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - the library's own name
    pass


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818
    pass


class FakeNvml:
    """As much of pynvml as the meter uses; counts initialisations that were not shut down."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported

    def __init__(self, energy_mj=5_000, power_mw=70_000, start=None):
        self.energy_mj, self.power_mw, self.start, self.opened = energy_mj, power_mw, start, 0

    def nvmlInit(self):  # noqa: N802
        self._answer(self.start)
        self.opened += 1

    def nvmlShutdown(self):  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self._answer(self.energy_mj)

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return self._answer(self.power_mw)

    @staticmethod
    def _answer(value):
        if isinstance(value, Exception):
            raise value
        return value


def test_the_energy_counter_in_joules(clock):
    library = FakeNvml()
    meter = Nvml(module=library, clock=clock)
    assert meter.sample().energy_j == 5.0
    library.energy_mj = 12_500
    assert meter.sample().energy_j == 12.5
    assert meter.scope == Scope.GPU_BOARD
    meter.close()
    meter.close()
    assert library.opened == 0
    with pytest.raises(MeterError, match="was closed"):
        meter.sample()


def test_power_where_there_is_no_counter(clock):
    meter = Nvml(module=FakeNvml(energy_mj=NVMLError_NotSupported("Not Supported")), clock=clock)
    assert not meter.counts_energy
    assert meter.sample().power_w == 70.0


def test_a_jetson_through_nvml():
    """It initialises, counts one device, and measures nothing."""
    library = FakeNvml(NVMLError_NotSupported("Not Supported"), NVMLError_NotSupported("Not Supported"))
    with pytest.raises(MeterError, match=r"nvml\(0\): Not Supported.*use the Jetson rails"):
        Nvml(module=library)
    assert library.opened == 0


def test_no_driver():
    library = FakeNvml(start=NVMLError_LibraryNotFound("NVML Shared Library Not Found"))
    with pytest.raises(MeterError, match="install the NVIDIA driver"):
        Nvml(module=library)


def test_a_gpu_that_is_lost_later():
    library = FakeNvml()
    meter = Nvml(2, module=library)
    library.energy_mj = NVMLError("GPU is lost")
    with pytest.raises(MeterError, match=r"nvml\(2\): GPU is lost"):
        meter.sample()


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match="nvidia-ml-py"):
        Nvml()


# -- find_meters --------------------------------------------------------------------------------------


def test_everything_is_found_and_read(tmp_path):
    fake = FakeSysfs(tmp_path).jetson().rapl()
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/tegrastats").touch()
    library = FakeNvml()
    found = {f.kind: f for f in find_meters(tmp_path, library, fake.read)}
    assert list(found) == ["jetson-rails", "tegrastats", "rapl", "nvml"]
    assert all(f.present and f.permitted for f in found.values())
    assert "device module: 12.632 W (VDD_GPU_SOC 5.162" in found["jetson-rails"].detail
    assert library.opened == 0


def test_nothing_is_there(tmp_path):
    library = FakeNvml(start=NVMLError_LibraryNotFound("NVML Shared Library Not Found"))
    found = {f.kind: f for f in find_meters(tmp_path, library)}
    assert not any(f.permitted for f in found.values())
    assert [found[k].present for k in ("jetson-rails", "tegrastats", "rapl")] == [False] * 3
    assert found["nvml"].present is None
    assert "libnvidia-ml.so.1 is not here" in found["nvml"].detail


def test_there_but_forbidden(tmp_path):
    fake = FakeSysfs(tmp_path).jetson().rapl()
    fake.fail(fake.counter(), errno.EACCES)
    fake.fail(fake.attribute("VDD_GPU_SOC"), errno.EACCES)
    found = {f.kind: f for f in find_meters(tmp_path, FakeNvml(), fake.read)}
    for kind in ("rapl", "jetson-rails"):
        assert (found[kind].present, found[kind].permitted) == (True, False)
        assert "chmod a+r" in found[kind].detail
