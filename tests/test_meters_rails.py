"""Jetson rails: found by label in a fake tree, in mV and mA, and loud where a channel fails; tegrastats' lines."""

from __future__ import annotations

import errno
from datetime import datetime, timezone
from pathlib import Path

import pytest

from carbonpilot.real.clock import ManualClock
from carbonpilot.real.meters import JetsonRails, MeterError, Scope, Tegrastats
from carbonpilot.real.meters.fake_sysfs import AGX_ORIN, DEVICES, DRIVERS, ORIN_NX, FakeSysfs
from carbonpilot.real.meters.tegrastats import parse_line

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


@pytest.fixture
def orin(tmp_path: Path) -> FakeSysfs:
    return FakeSysfs(tmp_path).jetson()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# -- rails --------------------------------------------------------------------------------------------


def test_power_is_voltage_times_current(orin):
    """19120 mV x 270 mA = 5.1624 W, and the module is three rails; VDDQ is kept but not added."""
    sample = JetsonRails(orin.root).sample()
    gpu, cpu, system = 19.120 * 0.270, 19.120 * 0.162, 4.968 * 0.880
    assert sample.power_w == pytest.approx(gpu + cpu + system)
    assert sample.parts == pytest.approx(
        {"VDD_GPU_SOC": gpu, "VDD_CPU_CV": cpu, "VIN_SYS_5V0": system, "VDDQ_VDD2_1V8AO": 4.968 * 0.240}
    )


def test_the_sum_is_the_callers_choice(orin):
    compute = JetsonRails(orin.root, "compute")
    assert compute.sample().power_w == pytest.approx(19.120 * 0.432)
    assert compute.scope == Scope.SOC_PART
    named = JetsonRails(orin.root, ["VDDQ_VDD2_1V8AO", "VIN_SYS_5V0"])
    assert named.sample().power_w == pytest.approx(4.968 * 1.120)
    assert JetsonRails(orin.root).scope == Scope.DEVICE_MODULE


@pytest.mark.parametrize("layouts", [(DRIVERS,), (DEVICES,), (DRIVERS, DEVICES)])
@pytest.mark.parametrize("first_hwmon", [0, 3, 4])
def test_both_paths_and_any_number(tmp_path, layouts, first_hwmon):
    """Each chip counts once, whichever paths lead to it and whatever number the boot gave it."""
    fake = FakeSysfs(tmp_path).jetson(layouts=layouts, first_hwmon=first_hwmon)
    rails = JetsonRails(fake.root)
    assert rails.labels == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
    assert rails.sample().power_w == pytest.approx(19.120 * 0.432 + 4.968 * 0.880)


def test_labels_count_and_channels_do_not(tmp_path):
    """The same rails on other channels and chips give the same power."""
    shuffled = {"1-0041": AGX_ORIN["1-0040"][::-1], "2-0040": AGX_ORIN["1-0041"]}
    assert JetsonRails(FakeSysfs(tmp_path).jetson(shuffled).root).sample().power_w == pytest.approx(
        19.120 * 0.432 + 4.968 * 0.880
    )


def test_orin_nx_has_a_module_rail(tmp_path):
    """VDD_IN is the module, of which the other rails are parts."""
    rails = JetsonRails(FakeSysfs(tmp_path).jetson(ORIN_NX).root)
    assert rails.summed == ("VDD_IN",)
    assert rails.sample().power_w == pytest.approx(5.048 * 1.096)


def test_channels_that_are_not_connected_are_skipped_with_the_reason(orin):
    skipped = dict(JetsonRails(orin.root).skipped)
    assert list(skipped) == ["hwmon4/in1", "hwmon4/in3"]
    assert all("label 'NC'" in reason for reason in skipped.values())


def test_a_labelled_channel_that_gives_eio_is_skipped_with_the_reason(tmp_path):
    """Upstream kernels keep the device tree's label on disabled channels."""
    board = {**AGX_ORIN, "1-0041": (*AGX_ORIN["1-0041"][:2], ("CVB_ATX_12V", None, None))}
    rails = JetsonRails(FakeSysfs(tmp_path).jetson(board).root)
    assert ("hwmon4/in3", "'CVB_ATX_12V' cannot be read (disabled: EIO)") in rails.skipped
    with pytest.raises(MeterError, match=r"no rail 'CVB_ATX_12V' here.*disabled: EIO"):
        JetsonRails(tmp_path, ["CVB_ATX_12V"])


def test_one_failed_transfer_is_tried_again(orin):
    rails = JetsonRails(orin.root, read=orin.read)
    orin.fail(orin.attribute("VDD_GPU_SOC"), times=2)
    assert rails.sample().parts["VDD_GPU_SOC"] == pytest.approx(19.120 * 0.270)


def test_a_rail_that_stays_broken_is_an_error_and_not_zero(orin):
    rails = JetsonRails(orin.root, read=orin.read)
    orin.fail(orin.attribute("VDD_GPU_SOC"))
    with pytest.raises(MeterError, match=r"jetson-rails.*curr1_input cannot be read.*tried 3 times"):
        rails.sample()


def test_a_broken_chip_is_not_taken_for_no_rail(orin):
    orin.fail(orin.attribute("VDD_GPU_SOC"))
    with pytest.raises(MeterError, match=r"no rails that make up 'module'.*'VDD_GPU_SOC' cannot be read"):
        JetsonRails(orin.root, read=orin.read)


@pytest.mark.parametrize("kind", ["current", "voltage", "label"])
def test_permission(orin, kind):
    orin.fail(orin.attribute("VDD_CPU_CV", kind), errno.EACCES)
    with pytest.raises(MeterError, match=r"no permission to read .*(chmod a\+r|mount /sys)"):
        JetsonRails(orin.root, read=orin.read)


def test_permission_taken_away_later(orin):
    rails = JetsonRails(orin.root, read=orin.read)
    orin.fail(orin.attribute("VDD_CPU_CV"), errno.EACCES)
    with pytest.raises(MeterError, match="no permission to read"):
        rails.sample()


def test_a_missing_label(orin):
    orin.attribute("VDD_CPU_CV", "label").unlink()
    with pytest.raises(MeterError, match=r"module.*hwmon3/in2 no label"):
        JetsonRails(orin.root)


def test_a_label_twice(tmp_path):
    board = {"1-0040": AGX_ORIN["1-0040"], "2-0040": AGX_ORIN["1-0040"]}
    with pytest.raises(MeterError, match=r"both measure 'VDD_GPU_SOC'"):
        JetsonRails(FakeSysfs(tmp_path).jetson(board).root)


def test_no_jetson(tmp_path):
    with pytest.raises(MeterError, match=r"no INA3221 monitor below .*choose another meter"):
        JetsonRails(tmp_path)


@pytest.mark.parametrize(
    ("rails", "text"),
    [
        (["VDD_GPU"], "Did you mean 'VDD_GPU_SOC'"),
        ("total", "'module', 'compute' or a list"),
        ([], "at least one rail"),
        (["VDD_CPU_CV", "VDD_CPU_CV"], "each once"),
    ],
)
def test_rails_that_cannot_be_added(orin, rails, text):
    with pytest.raises(MeterError, match=text):
        JetsonRails(orin.root, rails)


def test_currents_below_zero(orin):
    """Two steps of the shunt's converter are noise and stay as measured; more is a wrong wiring."""
    rails = JetsonRails(orin.root)
    orin.set_rail("VDD_GPU_SOC", 19120, -40)
    assert rails.sample().parts["VDD_GPU_SOC"] == pytest.approx(-19.120 * 0.040)
    orin.set_rail("VDD_GPU_SOC", 19120, -41)
    with pytest.raises(MeterError, match="VDD_GPU_SOC reads 19120 mV and -41 mA"):
        rails.sample()


def test_text_that_is_no_number(orin):
    rails = JetsonRails(orin.root)
    orin.attribute("VDD_GPU_SOC").write_text("off\n")
    with pytest.raises(MeterError, match="must hold a whole number, got 'off'"):
        rails.sample()


def test_a_sample_is_dated_in_the_middle_of_its_reading(orin):
    clock = ManualClock(NOW, 10.0)

    def slow(path: Path) -> str:
        clock.advance(0.001)
        return orin.read(path)

    rails = JetsonRails(orin.root, clock=clock, read=slow)
    before = clock.monotonic_s()
    assert rails.sample().time_s == pytest.approx(before + 0.004)  # 4 rails x 2 files of 1 ms


def test_no_descriptor_stays_open(orin):
    rails = JetsonRails(orin.root)
    before = open_descriptors()
    for _ in range(50):
        rails.sample()
    assert open_descriptors() == before
    rails.close()
    rails.close()
    with pytest.raises(MeterError, match="was closed"):
        rails.sample()


# -- tegrastats ---------------------------------------------------------------------------------------

JETPACK_6 = (
    "11-20-2026 10:00:01 RAM 6712/30697MB (lfb 1x4MB) SWAP 0/15348MB CPU [3%@729,off,off] EMC_FREQ 1%@2133 "
    "GR3D_FREQ 14%@[407,407] VIC_FREQ 115 APE 174 CV0@73.625C VDD_GPU_SOC 3150mW/2971mW "
    "VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW"
)
JETPACK_7 = (
    "GR3D_FREQ 12%@[1300,1300] cpu@52.968C/52.968C VDD_GPU_SOC 5139mW/5139mW/5139mW "
    "VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
ORIN_NX_LINE = "GR3D_FREQ 0% VDD_IN 5040mW/5035mW VDD_CPU_GPU_CV 481mW/479mW VDD_SOC 1442mW/1442mW\n"


def test_lines_with_two_values():
    """The first is now; the second is a mean since the start and must not be integrated."""
    assert parse_line(JETPACK_6) == {
        "VDD_GPU_SOC": 3.150,
        "VDD_CPU_CV": 14.312,
        "VIN_SYS_5V0": 4.968,
        "VDDQ_VDD2_1V8AO": 1.091,
    }


def test_lines_with_three_values():
    assert parse_line(JETPACK_7) == {"VDD_GPU_SOC": 5.139, "VDD_CPU_CV": 3.268, "VIN_SYS_5V0": 5.5}


def test_it_sums_the_same_rails_as_sysfs():
    clock = ManualClock(NOW, 3.0)
    meter = Tegrastats(iter([JETPACK_6, JETPACK_7, ORIN_NX_LINE]), clock=clock)
    assert meter.sample().power_w == pytest.approx(3.150 + 14.312 + 4.968)
    clock.advance(0.5)
    sample = meter.sample()
    assert (sample.time_s, sample.power_w) == (3.5, pytest.approx(5.139 + 3.268 + 5.5))
    assert meter.sample().power_w == pytest.approx(5.040)
    with pytest.raises(MeterError, match="tegrastats ended"):
        meter.sample()


@pytest.mark.parametrize(
    "line", ["", "RAM 1/2MB CPU [3%@729]", "VDD_IN 50", "VDD_IN 5040mW/50", "xVDD_IN 1mW/1mW"]
)
def test_a_line_without_power_is_an_error(line):
    with pytest.raises(MeterError, match="no rail with mW"):
        parse_line(line)


def test_a_line_without_the_rails_to_add():
    with pytest.raises(MeterError, match=r"rails to add up \(module\) are not in the line"):
        Tegrastats(iter(["VDD_CPU_CV 1mW/1mW"])).sample()


def test_the_program_is_ended_and_its_pipe_closed(tmp_path, monkeypatch):
    program = tmp_path / "tegrastats"
    program.write_text(f"#!/bin/sh\nwhile :; do echo '{JETPACK_6}'; sleep 0.01; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    before = open_descriptors()
    meter = Tegrastats.start(interval_ms=10)
    assert meter.sample().power_w == pytest.approx(22.43)
    meter.close()
    meter.close()
    assert open_descriptors() == before


def test_no_tegrastats(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MeterError, match="It comes with JetPack"):
        Tegrastats.start()
