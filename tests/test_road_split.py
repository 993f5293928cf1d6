"""The whole road of a split placement with a real server: calibrate, run a hundred frames, verify their log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import yaml
from split_model import CUT, SIZE, SplitServer, running, small_model

from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.validation import validated
from carbonpilot.real.calibrate.calibration import calibrate
from carbonpilot.real.calibrate.deployment import read_deployment
from carbonpilot.real.calibrate.drafts import draft_site
from carbonpilot.real.calibrate.effort import Effort
from carbonpilot.real.calibrate.job import Wanted
from carbonpilot.real.calibrate.site_writer import report, write_site
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.executors.local import LocalExecutor
from carbonpilot.real.executors.make import make_executors
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.log_records import FrameRecord, read_log
from carbonpilot.real.probes.echo import EchoServer
from carbonpilot.real.runtime.assemble import Run
from carbonpilot.real.runtime.checked import check
from carbonpilot.real.runtime.options import RunOptions
from carbonpilot.real.site_file import FrameSize, load_site
from carbonpilot.real.verify.verification import verify_log

BASE = Path(__file__).resolve().parent.parent / "configs" / "testbed" / "base.yaml"
EFFORT = Effort(
    probes=15, paired=6, fresh=3, upload_bytes=300_000, upload_s=2.0, losses=10, segments=600, calls=25, alone=5,
    bursts=3, heat_s=0.0, idle_s=0.5, active_s=0.5, images=5, runtime=10, at_work=15,
)  # fmt: skip
FRAMES, RATE = 100, 8.0
NAMES = ("local-b0", "edge-b0", "edge-cut")


def segformer(path: Path) -> Path:
    """SegFormer-B0 with random weights, as `carbonpilot models export` writes it."""
    from carbonpilot.agents.segformer.export import export_segformer

    return export_segformer("b0", path, height=LARGER.height, width=LARGER.width, random_seed=0).path


LARGER = FrameSize(height=128, width=256)


def base_of(cut: str) -> Scenario:
    """The test bed's base with a split placement instead of the larger model; its numbers are only assumed."""
    content = scenario_dict(load_scenario(BASE))
    local, whole, _ = content["placements"]
    split = {
        "cut": cut,
        "service": {"distribution": "lognormal", "p50_ms": 30, "p95_ms": 40},
        "active_energy_j": 1.7,
        "activation_kb": 1.0,
    }
    content["placements"] = [
        local,
        whole,
        {**whole, "name": "edge-cut", "active_energy_j": 6.0, "split": split},
    ]
    content["arrivals"] |= {"low_per_s": RATE, "high_per_s": RATE}
    content["slo"]["latency_ms"] = 2000  # a busy test machine does not decide about misses
    return validated(Scenario, content, "base")


def deployment_file(served: SplitServer, echo_port: int) -> Path:
    segment = served.manifests["float32"].segments[0]
    tail = {"model": f"{segment.triton_model}-float32", "encoding": "activation", "segments": "float32"}
    content = {
        "frame": served.size.model_dump(),
        "local": {"file": "model.onnx", "providers": ["cpu"], "intra_op_threads": 1},
        "remote": {
            "edge-b0": {"model": "whole-onnx-uint8", "encoding": "uint8"},
            "edge-cut": {**tail, "cut": segment.cut},
        },
        "servers": {"edge": {"grpc": served.server.grpc}},
        "probes": {"uplink": {"host": "127.0.0.1", "port": echo_port, "method": "echo"}},
        "feeds": {"source": "country-default", "interval_s": 60, "zones": {"home": "POL", "city": "FRA"}},
        "meters": [],
    }
    file = served.folder / "deploy.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


async def calibrated(served: SplitServer, deploy: Path, out: Path):
    """Measure everything and write the site file, which lies in another folder than the deployment."""
    base = base_of(served.manifests["float32"].segments[0].cut)
    place = read_deployment(deploy, out.parent)
    frames = list(open_frames("synthetic:8", served.size, jpeg_quality=None))
    executors = make_executors(draft_site(base, place, "road"), out.parent)
    wanted = Wanted(base, "testbed", place, out.parent, {}, None, False, "synthetic:8")
    found = await calibrate(wanted, executors, frames, EFFORT, lambda what: None)
    write_site(out, found.site)
    return found


async def run_frames(site: Path, log: Path, size: FrameSize):
    options = RunOptions(
        site=site, images="", policy="round-robin", mode="active", log=log, listen=None, queue=40
    )
    clock, results = SystemClock(), []
    run = Run(options, check(options, clock), clock, results.append)
    engine = await run.start()
    for frame in open_frames(f"synthetic:{FRAMES}", size, jpeg_quality=None):
        engine.offer(frame)
        await asyncio.sleep(1 / RATE)
    await engine.idle()
    await run.stop()
    return results


async def whole_masks(served: SplitServer) -> list[np.ndarray]:
    executor = LocalExecutor("local", served.local, served.size, served.folder)
    await executor.start()
    frames = open_frames(f"synthetic:{FRAMES}", served.size, jpeg_quality=None)
    masks = [(await executor.execute(frame, 30.0)).mask for frame in frames]
    await executor.close()
    return masks


def middle_cut(path: Path) -> str:
    """Of the cuts in the middle half of a model, the one that sends least."""
    from carbonpilot.agents.partition.cuts import need_cuts
    from carbonpilot.agents.partition.graph import read_graph

    cuts = need_cuts(read_graph(path))
    quarter = len(cuts) // 4
    return min(cuts[quarter : 3 * quarter] or cuts, key=lambda cut: cut.wire_bytes("float32")).name


@pytest.fixture(scope="module", params=["small", pytest.param("segformer-b0", marks=pytest.mark.slow)])
def served(request, triton_environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    if request.param == "small":
        with running(triton_environment, folder, small_model, SIZE, CUT, ("float32",)) as made:
            yield made
        return
    pytest.importorskip("torch", reason="needs the extra [models]")
    pytest.importorskip("transformers", reason="needs the extra [models]")
    first = segformer(folder / "first.onnx")
    with running(triton_environment, folder, first.rename, LARGER, middle_cut(first), ("float32",)) as made:
        yield made


def test_a_split_placement_is_calibrated_run_and_verified(served, tmp_path):
    (tmp_path / "site").mkdir()
    site_file, log = tmp_path / "site" / "site.yaml", tmp_path / "log"
    with EchoServer() as echo:
        found = asyncio.run(calibrated(served, deployment_file(served, echo.port), site_file))
        results = asyncio.run(run_frames(site_file, log, served.size))
    site, segment = load_site(site_file), served.manifests["float32"].segments[0]
    split, numbers = site.scenario.placements[2].split, site.provenance.numbers
    assert split is not None

    # Calibrated: the device's part and the server's, each on its own.
    assert split.activation_kb == segment.wire_bytes / 1000
    for key in ("placements.2.split.service.p50_ms", "placements.2.service.p95_ms"):
        assert numbers[key].kind == "measured"
        assert numbers[key].low <= numbers[key].value <= numbers[key].high
    assert numbers["placements.2.split.activation_kb"].kind == "derived"
    assert numbers["placements.2.split.active_energy_j"].kind == "assumed"  # no meter here
    pixels_kb = served.size.height * served.size.width * 3 / 1000
    assert site.scenario.payload.low_kb == pytest.approx(pixels_kb)  # of whole frames only

    # Run: one result and one line each, the same masks wherever a frame went, terms that add up.
    records = sorted((r for r in read_log(log) if isinstance(r, FrameRecord)), key=lambda r: r.frame)
    assert sorted(r.number for r in results) == [r.frame for r in records] == list(range(FRAMES))
    assert {r.executed for r in records} == set(NAMES)
    expected = asyncio.run(whole_masks(served))
    for result in results:
        np.testing.assert_array_equal(result.answer.mask, expected[result.number])
    went = [r for r in records if r.executed == "edge-cut"]
    assert len(went) > 20
    for record in went:
        (call,) = [a for a in record.attempts if a.used]
        terms = (
            call.head_queued_ms,
            call.head_ms,
            call.queued_ms,
            call.prepare_ms,
            call.execute_ms,
            call.finish_ms,
        )
        assert sum(terms) <= call.ended_ms - call.started_ms + 1e-6
        assert call.head_ms > 0
        assert call.sent_bytes == segment.wire_bytes
    assert all(a.head_ms == 0 for r in records for a in r.attempts if a.placement != "edge-cut")

    # Verified: every placement is compared, a split one's parts each on its own; energies are the simulator's own.
    verified = verify_log(log, site)
    totals = {t.placement: t for t in verified.totals}
    assert set(totals) == set(NAMES)
    for name, total in totals.items():
        assert (total.head_ms is not None) == (total.rest_ms is not None) == (name == "edge-cut")
        assert abs(total.energy_j.relative_error) < 0.01, name
        print(f"{name}: {total.count} frames, {total.mean_ms}, head {total.head_ms}, rest {total.rest_ms}")
    print("\n".join(report(found)))
    parts = {c.part for c in verified.checks}
    assert {"placements.2.split.service", "placements.2.service"} <= parts
