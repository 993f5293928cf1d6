"""`carbonpilot run` as a process: its exit codes, what it says, signals, systemd, and going on after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from runtime_fixture import quick_site

from carbonpilot.agents.bundle_writer import write_bundle
from carbonpilot.envs.observation import build_table
from carbonpilot.real.log_records import EventRecord, FrameRecord, Header, read_log
from carbonpilot.real.site_file import load_site


@pytest.fixture
def site(tmp_path, tiny):
    return quick_site(tmp_path, tiny)


def command(site: Path, *more: str) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "carbonpilot.cli",
            "run",
            "--site",
            str(site),
            "--stand-in",
            "--listen",
            "none",
        ),
        *("--log", str(site.parent / "log"), *more),
    ]


ALWAYS = ("--policy", "always-edge-b0", "--mode", "active")


def call(site: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(site, *more),
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        check=False,
    )


def frames(site: Path) -> list[FrameRecord]:
    return [r for r in read_log(site.parent / "log") if isinstance(r, FrameRecord)]


@contextlib.contextmanager
def running(site: Path, *more: str, **environment: str):
    """A run without end; it is killed where the test leaves it running."""
    process = subprocess.Popen(
        command(site, "--images", "synthetic:50", "--repeat", *ALWAYS, *more),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(ValueError):  # the test has read it to its end
            process.communicate()


def wait_for(condition, process, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def written(site: Path) -> int:
    """Lines of the log so far; the last may be under way."""
    return sum(file.read_bytes().count(b"\n") for file in (site.parent / "log").glob("*.jsonl"))


def test_to_the_end_of_the_images(site):
    done = call(site, "--images", "synthetic:30", *ALWAYS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "30 frames, 30 results (30 with a mask, 0 turned away), 30 lines; 0 missed" in done.stdout
    assert sorted(r.frame for r in frames(site)) == list(range(30))
    again = call(site, "--images", "synthetic:30", *ALWAYS)
    assert again.returncode == 0
    assert "No frame was left: the log in" in again.stdout
    assert "--repeat" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_under_way_and_ends_well(site, number):
    with running(site) as process:
        wait_for(lambda: written(site) > 20, process)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    records = frames(site)
    assert f"asked to stop: {len(records)} frames, {len(records)} results" in said
    assert sorted(r.frame for r in records) == list(range(len(records)))
    assert all(r.executed for r in records)
    events = [r for r in read_log(site.parent / "log") if isinstance(r, EventRecord)]
    assert [e.event for e in events[-2:]] == ["stopping", "run-ended"]


def test_a_killed_run_goes_on_where_its_log_ends(site):
    with running(site) as process:
        wait_for(lambda: written(site) > 20, process)
        process.kill()
        process.communicate()
    (file,) = (site.parent / "log").glob("*.jsonl")
    content = file.read_bytes()
    file.write_bytes(
        content[: content.rindex(b'{"kind"') + 40]
    )  # as after a power cut in the middle of a line
    done = call(site, "--images", "synthetic:50", "--repeat", "--frames", "10", *ALWAYS)
    assert done.returncode == 0
    assert "moved to 000001.torn" in done.stderr
    assert "goes on with frame" in done.stdout
    numbers = [r.frame for r in frames(site)]
    assert len(set(numbers)) == len(numbers)
    first, second = [r for r in read_log(site.parent / "log") if isinstance(r, Header)]
    assert second.first_frame == max(n for n in numbers if n < second.first_frame) + 1
    assert max(numbers) == second.first_frame + 9
    assert first.run != second.run


def test_systemd_hears_that_it_is_ready_alive_and_stopping(site):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = str(site.parent / "notify.sock")
        listener.bind(path)
        listener.settimeout(60)
        with running(site, NOTIFY_SOCKET=path, WATCHDOG_USEC="400000") as process:
            heard = [listener.recv(4096).decode() for _ in range(4)]
            process.send_signal(signal.SIGTERM)
            while not heard[-1].startswith("STOPPING=1"):
                heard.append(listener.recv(4096).decode())
            process.communicate(timeout=30)
    assert any(line.startswith("READY=1\nSTATUS=active at tiny") for line in heard)
    assert heard.count("WATCHDOG=1") >= 2


def test_page_and_metrics_are_on_loopback_and_for_this_machine_only(site):
    with running(site, "--listen", "127.0.0.1:0") as process:
        lines = [process.stdout.readline() for _ in range(5)]
        address = next(line.split()[2] for line in lines if "status page" in line)
        assert address.startswith("http://127.0.0.1:")
        wait_for(lambda: written(site) > 20, process)
        with urllib.request.urlopen(address + "status.json", timeout=10) as answer:
            status = json.load(answer)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert (status["schema"], status["mode"]) == ("carbonpilot/status/1", "active")
        assert status["frames"]["answered"] > 10
        with urllib.request.urlopen(address + "metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'carbonpilot_frames_total{placement="edge-b0",reason="policy"}' in metrics
        assert 'carbonpilot_latency_seconds_bucket{le="0.15"}' in metrics
        strange = urllib.request.Request(address + "status.json", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(strange, timeout=10)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + "etc/passwd", timeout=10)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def write_policy(folder: Path, site: Path, **changes) -> Path:
    """A bundle for a site whose network always prefers the last placement."""
    scenario = load_site(site).scenario
    table = build_table(scenario)
    count, actions = len(table), [p.name for p in scenario.placements]
    bias = np.arange(len(actions), dtype=np.float32)
    arrays = {
        "mean": np.zeros(count, np.float32), "std": np.ones(count, np.float32),
        "weight_0": np.zeros((count, len(actions)), np.float32), "bias_0": bias,
    }  # fmt: skip
    card = {
        "algorithm": "dqn", "output": "q_values", "network": {"layers": [count, len(actions)], "activation": "relu"},
        "observation": {"sha256": table.sha256, "features": table.records()}, "actions": actions,
        "scenario": scenario.name, "scenario_family": scenario.family, "scenario_sha256": "0" * 64, "seed": 0,
        "training": {}, "scores": {}, "carbonpilot_version": "0", **changes,
    }  # fmt: skip
    return write_bundle(folder, card, arrays, b"graph")


def test_a_bundle_decides_without_torch(site, tmp_path):
    bundle = write_policy(tmp_path / "mine", site)
    done = call(site, "--images", "synthetic:5", "--bundle", str(bundle), "--mode", "active")
    assert done.returncode == 0, done.stderr
    (line,) = (
        done.stderr.splitlines()
    )  # made by hand for other numbers than this site's, and nothing else to say
    assert "the same placements, nodes and features, other numbers" in line
    assert {r.wanted for r in frames(site)} == {"edge-b0"}
    header = next(iter(read_log(site.parent / "log")))
    assert header.bundle == "mine"
    assert len(header.card_sha256) == 64


def test_what_is_wrong_is_told_in_one_line_before_the_first_frame(site, tmp_path, tiny):
    """In one test, since each is a process."""
    other = write_policy(tmp_path / "other", site, scenario_family="metro")
    (tmp_path / "photos").mkdir()
    (tmp_path / "not-a-video.mp4").write_text("hello")
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(site.read_text().replace("model: ", "model: another ", 1))
    for arguments, message in (
        (("--images", "synthetic:5", "--bundle", str(other)), "trained for scenario family 'metro'"),
        (("--images", "synthetic:5", "--policy", "always-egde-b0"), "Did you mean 'always-edge-b0'"),
        (("--images", str(tmp_path / "nowhere"), *ALWAYS), "no such file or folder"),
        (("--images", str(tmp_path / "photos"), *ALWAYS), "No files in"),
    ):
        done = call(site, *arguments)
        assert done.returncode == 2, done
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert message in lines[0]
        assert lines[0].startswith("carbonpilot: error: ")
    assert not list((site.parent / "log").glob("*.jsonl"))


def test_a_missing_model_and_an_unreachable_server(site):
    """Without stand-ins: the site names a model file that is not there, then a server that does not answer."""
    from test_chaos_testbed import write_model

    arguments = [a for a in command(site, "--images", "synthetic:5", *ALWAYS) if a != "--stand-in"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done
    assert "b0.onnx" in done.stderr
    assert "Traceback" not in done.stderr
    import yaml

    content = yaml.safe_load(site.read_text())
    content["deployment"]["local"] = write_model(site.parent)
    content["deployment"]["frame"] = {"height": 256, "width": 512}
    site.write_text(yaml.safe_dump(content))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    # It may be started before its servers, as at boot: frames are executed on the device until they answer.
    done = subprocess.run(
        [*arguments, "--start-without-servers"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done
    assert "Frames go elsewhere until it answers" in done.stderr
    assert {r.executed for r in frames(site)} == {"local"}
