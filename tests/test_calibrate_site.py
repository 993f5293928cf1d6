"""A whole calibration: a stand-in device, a real Triton server on loopback, a real echo server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from carbonpilot.cli import app
from carbonpilot.envs.errors import InputError, ScenarioError
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.service import mean_ms
from carbonpilot.real.calibrate.calibration import calibrate
from carbonpilot.real.calibrate.deployment import read_deployment, template
from carbonpilot.real.calibrate.drafts import draft_site
from carbonpilot.real.calibrate.effort import Effort
from carbonpilot.real.calibrate.job import Wanted
from carbonpilot.real.calibrate.site_writer import report, write_site
from carbonpilot.real.executors.make import make_executors
from carbonpilot.real.executors.standin import StandInExecutor
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.probes.echo import EchoServer
from carbonpilot.real.site_file import FrameSize, load_site

BASE = Path(__file__).resolve().parent.parent / "configs" / "testbed" / "base.yaml"
TINY = Effort(
    probes=8, paired=5, fresh=3, upload_bytes=300_000, upload_s=2.0, losses=10, segments=600, calls=12, alone=3,
    bursts=2, heat_s=0.0, idle_s=0.5, active_s=0.5, images=5, runtime=0,
)  # fmt: skip


def deployment_text(grpc: str = "127.0.0.1:1", echo: int = 1, **changes) -> str:
    content = {
        "frame": {"height": 256, "width": 512},
        "local": {"file": "model.onnx", "providers": ["cpu"], "intra_op_threads": 1},
        "remote": {
            "edge-b0": {"model": "segformer-b0-jpeg", "encoding": "jpeg", "jpeg_quality": 80},
            "edge-b4": {"model": "segformer-b4-jpeg", "encoding": "jpeg", "jpeg_quality": 80},
        },
        "servers": {"edge": {"grpc": grpc}},
        "probes": {"uplink": {"host": "127.0.0.1", "port": echo, "method": "echo"}},
        "feeds": {"source": "country-default", "interval_s": 60, "zones": {"home": "POL", "city": "FRA"}},
        "meters": [],
    } | changes
    return yaml.safe_dump(content)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"not really a model")
    return tmp_path


@pytest.fixture
def frames():
    return list(open_frames("synthetic:6", FrameSize(height=256, width=512), jpeg_quality=80))


def wanted_for(
    folder: Path, base: Scenario, text: str, assumptions=None, condition=None, keep=False
) -> Wanted:
    (folder / "deploy.yaml").write_text(text)
    deployment = read_deployment(folder / "deploy.yaml", folder)
    return Wanted(base, "testbed", deployment, folder, assumptions or {}, condition, keep, "synthetic:6")


def measure(wanted: Wanted, frames, service_ms: float = 20.0, effort: Effort = TINY):
    """Calibrate with a stand-in for the device, which takes a known time."""
    executors = make_executors(draft_site(wanted.base, wanted.deployment, "test"), wanted.folder)
    local = wanted.base.placements[0]
    service = {"distribution": "deterministic", "mean_ms": service_ms, "p50_ms": None, "p95_ms": None}
    known = local.model_copy(update={"service": local.service.model_copy(update=service)})
    executors[local.name] = StandInExecutor(known, seed=0, mask_size=(64, 128))
    return asyncio.run(calibrate(wanted, executors, frames, effort, lambda what: None))


@pytest.fixture
def fast_camera() -> Scenario:
    base = load_scenario(BASE)
    return base.model_copy(
        update={"arrivals": base.arrivals.model_copy(update={"low_per_s": 20.0, "high_per_s": 20.0})}
    )


def test_a_site_is_measured(triton_loopback, folder, frames, fast_camera):
    with EchoServer() as echo:
        wanted = wanted_for(folder, fast_camera, deployment_text(triton_loopback.grpc, echo.port))
        found = measure(wanted, frames)
    out = folder / "site.yaml"
    write_site(out, found.site)
    site = load_site(out)
    numbers, scenario = site.provenance.numbers, site.scenario
    local, b0, b4 = (mean_ms(p.service) for p in scenario.placements)
    # The stand-ins take 20, 4 and 12 ms; a loaded machine adds to that, and nothing makes them quicker.
    assert 19.9 < local < 120
    assert 4 < b0 < 60
    assert b0 < b4 < 120
    for key in (
        "placements.0.service.p50_ms",
        "placements.1.service.p95_ms",
        "links.uplink.source.phases.0.rtt_ms",
        "links.uplink.source.phases.0.loss_pct",
        "links.uplink.source.phases.0.rate_mbps",
        "payload.low_kb",
        "nodes.edge.batching.marginal_service_share",
    ):
        number = numbers[key]
        assert number.kind == "measured"
        assert number.low <= number.value <= number.high
        assert number.count >= 1
        assert number.method
    assert numbers["nodes.edge.batching.queue_delay_ms"].kind == "derived"
    served = triton_loopback.repository.models.model("segformer-b0-jpeg")
    assert scenario.nodes["edge"].batching.queue_delay_ms == served.queue_delay_ms
    assert scenario.nodes["edge"].batching.max_batch == served.max_batch
    link = scenario.links["uplink"]
    assert numbers["links.uplink.transfer.jitter_share"].kind == "derived"
    assert link.transfer.jitter_share == link.source.phases[0].jitter_ms / link.source.phases[0].rtt_ms
    assert numbers["nodes.edge.pue"].kind == "assumed"
    assert scenario.links["uplink"].source.kind == "phases"
    assert site.provenance.node_levels["edge"].load == [0.0]
    sizes = [len(f.jpeg) / 1000 for f in frames]
    assert min(sizes) <= scenario.payload.low_kb <= scenario.payload.high_kb <= max(sizes)
    assert any("at the server" in line for line in report(found))


def test_without_an_echo_server_the_link_is_missing_or_assumed(triton_loopback, folder, frames, fast_camera):
    text = deployment_text(triton_loopback.grpc, echo=1)
    with pytest.raises(InputError) as error:
        measure(wanted_for(folder, fast_camera, text), frames)
    told = str(error.value)
    for number in ("rtt_ms", "jitter_ms", "loss_pct", "rate_mbps"):
        assert f"--assume links.uplink.source.phases.0.{number}=VALUE" in told
    assert "python -m carbonpilot.real.probes.echo" in told


def test_everything_may_be_assumed_but_what_the_device_does(folder, frames):
    """A base without nodes needs no server at all."""
    base = load_scenario(BASE)
    alone = base.model_copy(update={"nodes": {}, "placements": base.placements[:1], "links": {}})
    text = deployment_text(remote={}, servers={}, probes={}, feeds={
        "source": "country-default", "interval_s": 60, "zones": {"home": "POL"},
    })  # fmt: skip
    found = measure(wanted_for(folder, alone, text), frames)
    assert set(found.site.provenance.node_levels) == set()
    assert found.site.scenario.placements[0].service.distribution == "lognormal"


def test_a_condition_of_a_switching_link_is_measured_alone(triton_loopback, folder, frames, fast_camera):
    with EchoServer() as echo:
        text = deployment_text(triton_loopback.grpc, echo.port)
        found = measure(wanted_for(folder, fast_camera, text, condition="lan"), frames)
    conditions = found.site.scenario.links["uplink"].source.conditions
    assert found.site.provenance.numbers["links.uplink.source.conditions.lan.rtt_ms"].kind == "measured"
    assert conditions["lan"].rtt_ms < 2 + 30
    assert conditions["emu-b"].rtt_ms == 60
    slowest = max((c for c in conditions.values() if not c.outage), key=lambda c: c.rtt_ms)
    assert found.site.scenario.links["uplink"].transfer.jitter_share == slowest.jitter_ms / slowest.rtt_ms
    with pytest.raises(InputError, match=r"Unknown condition of links.uplink 'emu'"):
        measure(wanted_for(folder, fast_camera, text, condition="emu"), frames)


def test_a_server_that_is_not_there_is_told_before_anything_is_measured(folder, frames, fast_camera):
    with pytest.raises(InputError, match="No Triton server answers"):
        measure(wanted_for(folder, fast_camera, deployment_text()), frames)


def test_a_request_clock_is_refused(folder, frames, fast_camera):
    base = fast_camera.model_copy(update={"world_clock": "request"})
    with pytest.raises(InputError, match="world_clock: time"):
        measure(wanted_for(folder, base, deployment_text()), frames)


def test_the_deployment_names_what_is_missing(folder):
    (folder / "deploy.yaml").write_text(deployment_text(servers={"egde": {"grpc": "h:1"}}))
    where = read_deployment(folder / "deploy.yaml", folder)
    with pytest.raises(ScenarioError, match=r"'egde' is not in the scenario. Did you mean 'edge'"):
        draft_site(load_scenario(BASE), where, "deploy.yaml")


def test_a_missing_model_is_named(folder):
    (folder / "model.onnx").unlink()
    (folder / "deploy.yaml").write_text(deployment_text())
    with pytest.raises(InputError, match=r"there is no file .*model\.onnx.*models export"):
        read_deployment(folder / "deploy.yaml", folder)


def test_paths_move_with_the_site_file(folder):
    (folder / "deploy.yaml").write_text(deployment_text())
    elsewhere = folder / "sites" / "a"
    where = read_deployment(folder / "deploy.yaml", elsewhere)
    assert (elsewhere / where.local.file).resolve() == (folder / "model.onnx").resolve()


@pytest.mark.parametrize("name", ["metro", "clean-device"])
def test_a_template_is_a_deployment(folder, name):
    scenario = load_scenario(name)
    (folder / "models").mkdir()
    (folder / "models/segformer-b0.onnx").write_bytes(b"")
    (folder / "deploy.yaml").write_text(template(scenario))
    draft_site(scenario, read_deployment(folder / "deploy.yaml", folder), "deploy.yaml")


def test_the_command_says_what_it_needs():
    done = CliRunner().invoke(app, ["calibrate", "--base", "metro"])
    assert isinstance(done.exception, InputError)
    assert "--deployment, --images, --out" in str(done.exception)
    assert "--template" in str(done.exception)
    printed = CliRunner().invoke(app, ["calibrate", "--base", "metro", "--template"])
    assert printed.exit_code == 0
    assert "servers:" in printed.output


def test_frames_that_are_none_are_refused(folder, fast_camera):
    with pytest.raises(InputError, match="nothing to measure with"):
        measure(wanted_for(folder, fast_camera, deployment_text()), [])
