"""The doctor: what it finds on fake trees and real servers, that it never falls ill, and what the command prints."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml
from site_builder import site_content, site_of
from typer.testing import CliRunner

from carbonpilot.cli import app
from carbonpilot.real.calibrate.machine import this_machine
from carbonpilot.real.doctor import hardware, network, software
from carbonpilot.real.doctor.examination import examine, healthy
from carbonpilot.real.doctor.finding import Finding, looked_at
from carbonpilot.real.doctor.site_checks import site_findings
from carbonpilot.real.probes.echo import EchoServer
from carbonpilot.real.site_file import file_sha256


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {f.name: f for f in findings}


@pytest.fixture
def tree(tmp_path) -> Path:
    """A machine with a hot zone, a governor and BBR available."""
    root = tmp_path / "root"
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("51500\n")
    broken = root / "sys/class/thermal/thermal_zone1"
    broken.mkdir()
    (broken / "type").write_text("cv0-thermal\n")  # without a temperature, as a switched-off part
    governor = root / "sys/devices/system/cpu/cpu0/cpufreq"
    governor.mkdir(parents=True)
    (governor / "scaling_governor").write_text("schedutil\n")
    ipv4 = root / "proc/sys/net/ipv4"
    ipv4.mkdir(parents=True)
    (ipv4 / "tcp_congestion_control").write_text("cubic\n")
    (ipv4 / "tcp_available_congestion_control").write_text("reno cubic\n")
    (ipv4 / "tcp_slow_start_after_idle").write_text("1\n")
    return root


def test_temperature(tree):
    found = hardware.temperature(tree)
    assert (found.state, found.detail) == ("ok", "52 C at cpu-thermal, the hottest of 1 zones")
    (tree / "sys/class/thermal/thermal_zone0/temp").write_text("91000")
    assert hardware.temperature(tree).state == "failed"
    assert "Cool it" in hardware.temperature(tree).mend


def test_clock_governor(tree):
    found = hardware.clocks(tree)
    assert "schedutil" in found.detail
    assert "performance" in found.mend


def test_congestion_control(tree):
    found = network.congestion(tree)
    assert found.state == "ok"
    assert "modprobe tcp_bbr" in found.mend
    (tree / "proc/sys/net/ipv4/tcp_congestion_control").write_text("dctcp")
    assert network.congestion(tree).state == "failed"
    (tree / "proc/sys/net/ipv4/tcp_congestion_control").write_text("bbr")
    assert network.congestion(tree).mend == ""
    assert "tcp_slow_start_after_idle=0" in network.idle_restart(tree).mend


def test_a_bare_tree_is_no_error(tmp_path):
    for found in (
        hardware.temperature(tmp_path),
        hardware.clocks(tmp_path),
        network.idle_restart(tmp_path),
    ):
        assert found.state == "missing"


def test_a_meter_that_the_site_names_is_needed(tree):
    free = by_name(hardware.meters(tree, None))["meter rapl"]
    needed = by_name(hardware.meters(tree, ["rapl"]))["meter rapl"]
    assert (free.state, needed.state) == ("missing", "failed")
    assert needed.mend


def test_the_clock_says_something():
    assert hardware.clock_synchronised().state in ("ok", "missing")


def test_extras_name_their_command(monkeypatch):
    monkeypatch.setitem(software.EXTRAS, "device", {"no_such_module_x": "no-such-package"})
    found = by_name(software.software(needs_device=True))["extra device"]
    assert found.state == "failed"
    assert found.mend == "pip install 'carbonpilot[device]'"
    assert by_name(software.software(needs_device=False))["extra device"].state == "missing"


def test_nothing_heavy_is_imported():
    import subprocess
    import sys

    code = (
        "import sys; from carbonpilot.real.doctor.software import software; software(False); "
        "print([m for m in ('torch', 'gymnasium', 'stable_baselines3', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_doctor_does_not_fall_ill():
    def broken() -> Finding:
        raise RuntimeError("the sky fell\non two lines")

    found = looked_at("group", "name", broken)
    assert found.state == "failed"
    assert "the sky fell on two lines" in found.detail


def test_every_finding_that_fails_has_a_mend(tree):
    for found in examine(root=tree):
        assert found.detail
        assert found.state != "failed" or found.mend, found


@pytest.fixture
def site_path(tmp_path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    return tmp_path / "site.yaml"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def test_a_site_that_fits(site_path, tiny_scenario, tmp_path):
    with EchoServer() as echo:
        site = site_of(
            tiny_scenario(),
            local={
                "file": "model.onnx",
                "sha256": file_sha256(site_path.parent / "model.onnx"),
                "providers": ["cpu"],
                "intra_op_threads": 1,
            },
            probes={"uplink": {"host": "127.0.0.1", "port": echo.port, "method": "echo"}},
        )
        found = by_name(site_findings(site, site_path, tmp_path / "logs"))
    for name in ("machine", "calibration", "local model", "probe of uplink", "feed for home", "log disk"):
        assert found[name].state == "ok", found[name]
    assert "answers in" in found["probe of uplink"].detail
    assert found["placement edge-b0"].state == "failed"
    assert "No Triton server answers at 127.0.0.1:1" in found["placement edge-b0"].detail
    assert found["metrics of edge"].state == "missing"
    assert "other tenants" in found["metrics of edge"].mend


def test_a_site_that_does_not(site_path, tiny_scenario, tmp_path):
    machine = this_machine().model_copy(update={"model": "Jetson AGX Orin", "cpu_count": 99})
    site = site_of(tiny_scenario(), machine=machine.model_dump(), servers={
        "edge": {"grpc": "127.0.0.1:1", "metrics": f"http://127.0.0.1:{free_port()}/metrics"}
    })  # fmt: skip
    found = by_name(site_findings(site, site_path, tmp_path / "logs"))
    for name in ("machine", "local model", "probe of uplink", "placement edge-b0", "metrics of edge"):
        assert found[name].state == "failed", found[name]
        assert found[name].mend
    assert "'Jetson AGX Orin' in the site file" in found["machine"].detail
    assert "another file than the calibrated one" in found["local model"].detail
    assert "carbonpilot.real.probes.echo" in found["probe of uplink"].mend


def test_a_secret_that_is_missing_is_named_and_none_is_shown(site_path, tiny_scenario, tmp_path, monkeypatch):
    feeds = {"source": "electricity-maps", "interval_s": 60, "zones": {"home": "GB", "away": "FR"}}
    site = site_of(tiny_scenario(), feeds=feeds)
    monkeypatch.delenv("CARBONPILOT_ELECTRICITYMAPS_TOKEN", raising=False)
    found = by_name(site_findings(site, site_path, tmp_path))["feed for home"]
    assert found.state == "failed"
    assert "CARBONPILOT_ELECTRICITYMAPS_TOKEN" in found.detail + found.mend


def test_a_full_disk_is_told(site_path, tiny_scenario, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    found = by_name(site_findings(site_of(tiny_scenario()), site_path, tmp_path))["log disk"]
    assert (found.state, bool(found.mend)) == ("failed", True)


def test_an_old_calibration_is_told(site_path, tiny_scenario, tmp_path):
    site = site_of(tiny_scenario())
    old = site.provenance.model_copy(update={"measured_utc": "2020-01-01T00:00:00+00:00"})
    found = by_name(site_findings(site.model_copy(update={"provenance": old}), site_path, tmp_path))
    assert "Verify a recent log" in found["calibration"].mend
    future = site.provenance.model_copy(update={"measured_utc": "2999-01-01T00:00:00+00:00"})
    found = by_name(site_findings(site.model_copy(update={"provenance": future}), site_path, tmp_path))
    assert found["calibration"].state == "failed"


def test_the_models_of_a_real_server(triton_loopback, site_path, tiny_scenario, tmp_path):
    site = site_of(
        tiny_scenario(),
        frame={"height": 256, "width": 512},
        servers={"edge": {"grpc": triton_loopback.grpc, "metrics": triton_loopback.metrics}},
        remote={"edge-b0": {"model": "segformer-b0-uint8", "encoding": "uint8"}},
    )
    found = by_name(site_findings(site, site_path, tmp_path))
    assert found["placement edge-b0"].state == "ok", found["placement edge-b0"]
    assert "triton" in found["placement edge-b0"].detail
    assert found["metrics of edge"].state == "ok", found["metrics of edge"]
    wrong = site_of(
        tiny_scenario(),
        frame={"height": 256, "width": 512},
        servers={"edge": {"grpc": triton_loopback.grpc}},
        remote={"edge-b0": {"model": "segformer-b9", "encoding": "uint8"}},
    )
    found = by_name(site_findings(wrong, site_path, tmp_path))["placement edge-b0"]
    assert found.state == "failed"
    assert "segformer-b9" in found.detail + found.mend


def test_the_command(tmp_path, tiny_scenario):
    done = CliRunner().invoke(app, ["doctor", "--json"])
    content = json.loads(done.output)
    assert content["schema"] == "carbonpilot/doctor/1"
    assert content["healthy"] is (done.exit_code == 0)
    assert {"group", "name", "state", "detail", "mend"} == set(content["findings"][0])
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(site_content(tiny_scenario())))
    done = CliRunner().invoke(app, ["doctor", "--site", str(path)])
    assert done.exit_code == 1
    assert "FAILED" in done.output
    assert "-> " in done.output


def test_a_broken_site_file_is_a_finding(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("schema: carbonpilot/site/1\nscenarios: {}\n")
    done = CliRunner().invoke(app, ["doctor", "--site", str(path)])
    assert done.exit_code == 1
    assert "site file" in done.output
    assert "software" in done.output


def test_healthy():
    assert healthy([Finding("g", "n", "missing", "d")])
    assert not healthy([Finding("g", "n", "failed", "d", "m")])


def test_a_kernel_that_tells_too_little_of_connections_is_told(monkeypatch):
    assert network.acknowledgements().state == "ok"
    monkeypatch.setattr(network.OwnConnection, "progress", lambda self: None)
    found = network.acknowledgements()
    assert (found.state, "4.19" in found.mend) == ("missing", True)
