"""Measuring a part of a site again: what changes, what stays, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_calibrate_site import BASE, deployment_text, measure, wanted_for
from typer.testing import CliRunner

from carbonpilot.cli import app
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.envs.service import mean_ms
from carbonpilot.real.calibrate.calibration import Calibration
from carbonpilot.real.calibrate.renewal import parse_parts, parts_of, renewed
from carbonpilot.real.calibrate.site_writer import report, write_site
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.probes.echo import EchoServer
from carbonpilot.real.site_file import FrameSize, load_site

GIVEN = {"links.uplink.source": {"kind": "phases", "phases": [
    {"rtt_ms": 12.0, "jitter_ms": 1.0, "loss_pct": 0.1, "rate_mbps": 80.0},
]}, "placements.1.service.p50_ms": 9.0, "placements.1.service.p95_ms": 11.0}  # fmt: skip


@pytest.fixture
def frames():
    return list(open_frames("synthetic:6", FrameSize(height=256, width=512), jpeg_quality=80))


@pytest.fixture
def edge():
    """The test bed's base at 20 frames a second."""
    base = load_scenario(BASE)
    return base.model_copy(
        update={"arrivals": base.arrivals.model_copy(update={"low_per_s": 20.0, "high_per_s": 20.0})}
    )


@pytest.fixture
def site(triton_loopback, tmp_path, frames, edge) -> Iterator[Path]:
    """A site whose link and one service time were given; the device took 20 ms."""
    (tmp_path / "model.onnx").write_bytes(b"not really a model")
    with EchoServer() as echo:
        text = deployment_text(triton_loopback.grpc, echo.port)
        found = measure(wanted_for(tmp_path, edge, text, GIVEN), frames, service_ms=20.0)
        path = tmp_path / "site.yaml"
        write_site(path, found.site)
        yield path


def again(site: Path, frames, *parts, assume=None, **changes) -> Calibration:
    wanted = renewed(site, site, parts, assume or {}, "synthetic:6")
    return measure(wanted, frames, **changes)


def without_local(content: dict) -> dict:
    return {**content, "placements": content["placements"][1:]}


def test_the_device_is_measured_again_and_nothing_else(site, frames):
    old = load_site(site)
    found = again(site, frames, "device", service_ms=60.0)
    write_site(site, found.site)
    new = load_site(site)
    local = mean_ms(new.scenario.placements[0].service)
    assert 59.9 < local < 160
    assert local > mean_ms(old.scenario.placements[0].service) + 20
    assert without_local(scenario_dict(new.scenario)) == without_local(scenario_dict(old.scenario))
    assert new.provenance.node_levels == old.provenance.node_levels
    assert set(new.provenance.numbers) == set(old.provenance.numbers)
    for key, number in new.provenance.numbers.items():
        before = old.provenance.numbers[key]
        if key.startswith("placements.0.service"):
            assert (number.kind, number.measured_utc) == ("measured", None)
            continue
        assert number == before.model_copy(update={"measured_utc": old.provenance.measured_utc})
    told = "\n".join(report(found))
    assert "measured placements.0.service.p50_ms" in told
    assert "nodes.edge.batching" not in told
    assert f"{len(new.provenance.numbers) - 2} other numbers are kept from earlier" in told


def test_a_second_time_keeps_the_first_dates(site, frames):
    date = load_site(site).provenance.measured_utc
    for _ in range(2):
        write_site(site, again(site, frames, "device").site)
    assert load_site(site).provenance.numbers["nodes.edge.pue"].measured_utc == date


def test_what_was_given_stays_given(site, frames):
    """The link is not measured over what the user said of it, as in the first calibration; nor the service time."""
    old = load_site(site)
    new = again(site, frames, "links", "nodes").site
    assert scenario_dict(new.scenario)["links"] == scenario_dict(old.scenario)["links"]
    assert new.scenario.placements[1].service == old.scenario.placements[1].service
    assert new.scenario.placements[0] == old.scenario.placements[0]
    assert new.provenance.numbers["placements.2.service.p50_ms"].measured_utc is None
    assert new.provenance.numbers["placements.0.service.p50_ms"].measured_utc is not None


def test_a_new_assumption_replaces_an_old_number(site, frames):
    new = again(site, frames, "device", assume={"nodes.edge.pue": 1.9}).site
    assert new.scenario.nodes["edge"].pue == 1.9
    assert new.provenance.numbers["nodes.edge.pue"].method == "given with --assume"
    assert new.provenance.numbers["nodes.edge.pue"].measured_utc is None


def test_another_device_model_or_folder_is_refused(site, frames, tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match="relative to its folder"):
        renewed(site, tmp_path / "sub" / "site.yaml", ["device"], {}, "synthetic:6")
    (tmp_path / "model.onnx").write_bytes(b"another one")
    with pytest.raises(
        InputError, match=r"another file than the model that .*site\.yaml was calibrated with"
    ):
        again(site, frames, "device")
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(InputError, match="missing, and it is the model"):
        again(site, frames, "device")
    text = site.read_text()
    host = load_site(site).deployment.machine.hostname
    site.write_text(
        text.replace(f"architecture: {load_site(site).deployment.machine.architecture}", "architecture: vax")
    )
    with pytest.raises(InputError, match=rf"measured on another device \({host}\)"):
        again(site, frames, "device")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "either --base SCENARIO"),
        (["--base", "metro", "--renew", "site.yaml"], "got both"),
        (["--renew", "site.yaml"], "needs --images, --out"),
        (["--renew", "site.yaml", "--images", "synthetic:9", "--out", "x.yaml"], "--renew needs --part"),
        (
            ["--renew", "site.yaml", "--images", "synthetic:9", "--out", "x.yaml", "--part", "link"],
            "Unknown --part 'link'. Did you mean 'links'",
        ),
        (
            ["--renew", "s.yaml", "--part", "device", "--images", "x", "--out", "x.yaml", "--deployment", "d.yaml"],
            "--deployment belongs to --base",
        ),
        (
            ["--base", "metro", "--deployment", "d.yaml", "--images", "x", "--out", "x.yaml", "--part", "links"],
            "--part belongs to --renew",
        ),
    ],
)  # fmt: skip
def test_calls_that_make_no_sense_are_refused(argv, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["calibrate", *argv])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_verify_names_the_parts_that_measure_a_number():
    assert parts_of(["placements.0.service", "placements.3.split.service", "device.idle_power_w"]) == [
        "device"
    ]
    assert parts_of(["payload", "placements.1.service", "links.uplink.source.phases.0.rtt_ms"]) == [
        "links",
        "nodes",
    ]
    assert parse_parts(["nodes", "device", "nodes"]) == ["device", "nodes"]
