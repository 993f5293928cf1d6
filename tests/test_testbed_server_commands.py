"""`carbonpilot testbed`: what a user types, what is answered, and what is left behind: nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from testbed_fixture import free_ports, need
from typer.testing import CliRunner

from carbonpilot.envs.errors import CarbonPilotError
from carbonpilot.real.testbed import bed, namespaces, server_environment
from carbonpilot.real.testbed import commands as testbed_commands
from carbonpilot.real.testbed.server_leftovers import PREFIX, server_processes
from carbonpilot.real.testbed.state import alive, locked, read_state

ONE = "models: [{name: one, forms: [jpeg], service_ms: 3}]\n"


class Commands:
    """Runs commands on a state folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.models = folder / "one.yaml"
        self.models.write_text(ONE)

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code, and what is printed or the error's message."""
        done = CliRunner().invoke(
            testbed_commands.testbed_app, [words[0], "--state", str(self.state), *words[1:]]
        )
        if isinstance(done.exception, CarbonPilotError):  # `cli.main` prints it
            return done.exception.exit_code, str(done.exception)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    def up(self, *words: str) -> tuple[int, str]:
        return self("up", "--model-set", str(self.models), *words)

    def status(self) -> dict:
        return json.loads(self("status", "--json")[1])

    def owner(self) -> str:
        state = read_state(self.state)
        assert state is not None
        return state.owner

    def left(self, owner: str) -> list[str]:
        """What is left of the supervisor's things, and in the folder besides the lock."""
        names = [name for name in namespaces.existing() if f"-{owner}-" in name]
        names += [name for name in server_processes().values() if name.startswith(f"{PREFIX}{owner}-")]
        names += [file.name for file in Path("/dev/shm").glob(f"{PREFIX}{owner}-*")]
        return names + [file.name for file in self.state.iterdir() if file.name != "lock"]


@pytest.fixture
def run(tmp_path):
    commands = Commands(tmp_path)
    yield commands
    with contextlib.suppress(CarbonPilotError):
        commands("down")


def kill(who: str) -> None:
    os.kill(int(who.partition("-")[0]), signal.SIGKILL)
    until_s = time.monotonic() + 5.0
    while alive(who) and time.monotonic() < until_s:
        time.sleep(0.01)


def test_a_test_bed_from_up_to_down(run):
    need(bed.unavailable())
    assert run("status")[0] == 1
    code, said = run.up("--profile", "emu-a", "--seed", "1")
    assert (code, said.splitlines()[0]) == (0, "The test bed is up.")
    assert "grpc 10.77.0.2:8001" in said
    owner = run.owner()

    code, said = run.up("--profile", "emu-a", "--seed", "1")
    assert (code, said.splitlines()[0]) == (0, "The test bed runs already.")
    assert run.owner() == owner
    code, said = run.up("--profile", "lan")
    assert code == 2
    assert "of other settings" in said
    assert "testbed shape" in said

    status = run.status()
    assert status["running"] is status["healthy"] is True
    edge = status["servers"]["edge"]
    assert (edge["ready"], edge["echo_answers"], edge["grpc"]) == (True, True, "10.77.0.2:8001")
    assert set(edge["models"]) == {"one-jpeg"}
    assert status["link"]["profile"]["name"] == "emu-a"
    assert status["tenants"] is None

    _check_shape(run)
    _check_tenants(run)
    _check_exec(run)

    code, said = run("down")
    assert (code, said) == (0, "The test bed is down.\n")
    assert run.left(owner) == []
    assert run("down") == (0, "No test bed was running.\n")
    for words in (("shape", "lan"), ("tenants", "--load", "0.5"), ("exec", "true")):
        code, said = run(*words)
        assert code == 2
        assert "No test bed is running" in said


def _check_shape(run: Commands) -> None:
    assert run("shape", "emu-b") == (0, "The link is emu-b: RTT 60 ms, jitter 20 ms, loss 1 %, 50 Mbit/s.\n")
    assert run("shape", "--loss-pct", "20")[1] == (
        "The link is emu-b (changed): RTT 60 ms, jitter 20 ms, loss 20 %, 50 Mbit/s.\n"
    )
    assert "outage, nothing passes" in run("shape", "--outage")[1]
    assert run.status()["healthy"] is True  # the servers are well, and reached without the link
    assert run.status()["link"]["profile"]["outage"] is True
    assert "loss 20 %" in run("shape", "--no-outage")[1]
    trace = run.models.with_name("drive.csv")
    trace.write_text("time_s,rtt_ms,loss_pct,down_mbps,up_mbps\n0,40,0,9,10\n1,50,1,9,12\n2,45,0,9,9\n")
    assert "The link plays drive: 3 s" in run("shape", str(trace))[1]
    assert run.status()["link"]["schedule"]["steps"] == 3
    for words, says in (
        ((), "Say what the link shall be"),
        (("emu-c",), "Did you mean 'emu-b'"),
        (("--rtt-ms", "-5"), "rtt_ms must be 0 or more"),
        ((str(trace), "--rtt-ms", "5"), "has its own numbers"),
        (("lan", "--loop"), "--loop is for a recorded link"),
    ):
        code, said = run("shape", *words)
        assert code == 2
        assert says in said
    assert run("shape", "lan")[0] == 0


def _check_tenants(run: Commands) -> None:
    code, said = run("tenants", "--rate", "50", "--model", "one-jpeg")
    assert (code, said) == (0, "Tenants of edge ask for 50.0 images a second of one-jpeg.\n")
    first = (run.state / "tenants").read_text()
    assert run("tenants", "--load", "0.2", "--model", "one-jpeg", "--bursts")[0] == 0  # in their place
    assert not alive(first)
    assert run.status()["tenants"]["running"] is True
    assert "tenants ask for" in run("status")[1]
    code, said = run("tenants", "--stop")
    assert said.startswith("Tenants ended: ")
    assert run.status()["tenants"]["running"] is False
    assert run("tenants", "--stop") == (0, "No tenants were running.\n")
    for words, says in (
        ((), "Give one of --load"),
        (("--load", "0.5", "--rate", "5"), "Give one of --load"),
        (("--load", "0.5", "--model", "one-jpg"), "Did you mean 'one-jpeg'"),
        (("--load", "0.5", "--model", "one-jpeg", "--node", "edg"), "Did you mean 'edge'"),
        (("--load", "-1", "--model", "one-jpeg"), "load must be above 0"),
        (("--rate", "0", "--model", "one-jpeg"), "rate must be above 0"),
    ):
        code, said = run("tenants", *words)
        assert code == 2
        assert says in said


def _check_exec(run: Commands) -> None:
    def execute(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "carbonpilot.cli", "testbed", "exec", "--state", str(run.state), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")

    done = execute("ip", "-br", "addr")
    assert "10.77.0.1/30" in done.stdout
    assert execute("--node", "edge", "sh", "-c", "ip -br addr; exit 7").returncode == 7
    code, said = run("exec", "no-such-command")
    assert code == 2
    assert "There is no command no-such-command" in said


def test_after_a_kill_everything_is_taken_down_and_built_again(run):
    need(bed.unavailable())
    assert run.up()[0] == 0
    killed = run.owner()
    assert run("tenants", "--rate", "20", "--model", "one-jpeg")[0] == 0
    kill(killed)
    assert run.status() == {"schema": "carbonpilot/testbed-status/1", "running": False, "healthy": False}
    assert run.left(killed) != []
    code, said = run.up()
    assert (code, said.splitlines()[0]) == (0, "The test bed is up.")
    again = run.owner()
    assert [name for name in run.left(killed) if killed in name] == []
    kill(again)
    assert run("down") == (0, "The test bed is down.\n")
    assert run.left(again) == []


def test_on_loopback_there_is_a_server_and_no_link(run):
    need(server_environment.unavailable())
    ports = free_ports()
    with socket.create_server(("127.0.0.1", 0)) as s:
        echo = s.getsockname()[1]
    numbers = {"--grpc-port": ports.grpc, "--http-port": ports.http, "--metrics-port": ports.metrics}
    words = [str(word) for pair in ({**numbers, "--echo-port": echo}).items() for word in pair]
    assert run.up("--loopback", *words)[0] == 0
    owner, status = run.owner(), run.status()
    assert (status["healthy"], status["link"], status["device_namespace"]) == (True, None, None)
    assert status["servers"]["edge"]["grpc"] == f"127.0.0.1:{ports.grpc}"
    code, said = run("shape", "lan")
    assert code == 2
    assert "has no link" in said
    state = read_state(run.state)
    assert state is not None
    (helper,) = state.helpers
    kill(owner)  # nobody ends the echo server but `down`
    assert alive(helper)
    assert run("down")[0] == 0
    assert not alive(helper)
    assert run.left(owner) == []


def test_a_start_that_fails_says_why_and_leaves_nothing(run):
    need(server_environment.unavailable())
    ports = free_ports()
    with socket.create_server(("127.0.0.1", ports.grpc)):
        code, said = run.up("--loopback", "--grpc-port", str(ports.grpc), "--http-port", str(ports.http))
    assert code == 2
    assert f"Port {ports.grpc} (grpc)" in said
    assert [file.name for file in run.state.iterdir()] == ["lock"]
    assert run("status")[0] == 1


def test_what_is_missing_is_named_with_its_mend(run, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    code, said = run.up()
    assert code == 2
    assert "sudo" in said
    assert "--loopback needs no root" in said
    monkeypatch.setenv(server_environment.VARIABLE, str(run.state / "nowhere"))
    code, said = run.up("--loopback")
    assert code == 2
    assert "make triton" in said


def test_a_folder_of_something_else_is_left_alone(run):
    run.state.mkdir()
    (run.state / "thesis.txt").write_text("three years of work")
    for words in (("down",), ("up", "--loopback")):
        code, said = run(*words)
        assert code == 2
        assert "not a test bed's" in said
    assert [file.name for file in run.state.iterdir()] == ["thesis.txt"]


def test_two_commands_at_once_do_not_meet(run):
    with locked(run.state):
        for words in (("down",), ("up", "--loopback")):
            code, said = run(*words)
            assert code == 2
            assert "Another command" in said
