"""The link between two namespaces of the test bed: started, changed while packets flow, counted, ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ...envs.errors import CarbonPilotError, InputError
from .namespaces import unavailable
from .netem import netem_missing
from .orders import MESSAGE_BYTES
from .profiles import PROFILES, Profile, Schedule

Kind = Literal["netem", "tun"]
_ANSWER_S, _END_S = 5.0, 3.0
CONTROL = "link.sock"


def default_state_folder() -> Path:
    """Where the test bed keeps its sockets: ``$XDG_RUNTIME_DIR/carbonpilot-testbed``, else below /run."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run") / "carbonpilot-testbed"


class LinkControl:
    """A running link as any process of the same user sees it: by its control socket.

    Args:
        control: the socket's path, usually ``link.sock`` in the test bed's state folder.
    """

    def __init__(self, control: str | Path) -> None:
        """Nothing is opened before the first order."""
        self.control = Path(control)

    def shape(self, profile: Profile) -> None:
        """Make the link that profile, within a few milliseconds; packets under way keep their time.

        A schedule that was playing ends.

        Raises:
            CarbonPilotError: the link is not running, or refused.
        """
        self._ask({"do": "shape", "profile": asdict(profile)})

    def play(self, schedule: Schedule, loop: bool = False) -> None:
        """Let the link change by itself from now on, by a schedule.

        At its end it begins again where ``loop`` says so; otherwise the link stays as it was last and
        `status` says that the schedule has ended.
        """
        steps = [(t, asdict(p)) for t, p in zip(schedule.times_s, schedule.profiles, strict=True)]
        # A drive of an hour does not fit into one message, so it goes by way of a file that the link removes.
        file = self.control.with_name(f".schedule-{secrets.token_hex(4)}.json")
        file.write_text(json.dumps({"steps": steps, "end_s": schedule.end_s, "loop": loop}))
        try:
            self._ask({"do": "play", "file": str(file)})
        finally:
            file.unlink(missing_ok=True)

    def counters(self, reset: bool = False) -> dict[str, Any]:
        """What the link did since it began, or since the last reset.

        Returns:
            ``up`` and ``down`` with packets, bytes, lost (by chance), overflowed (queue full), cut (outage);
            ``late_ms`` {p50, p99, max}: how late packets were released, the measure of a starved machine;
            ``cpu_us_per_packet``, ``cpu_share``: the relay's own cost; ``scheduling``; ``profile``;
            ``schedule``. Netem knows no lateness and no cost: None.
        """
        return self._ask({"do": "counters", "reset": reset})

    status = counters

    @property
    def profile(self) -> Profile:
        """What the link is now."""
        return Profile(**self._ask({"do": "counters"})["profile"])

    def running(self) -> bool:
        """Whether the link answers."""
        with contextlib.suppress(CarbonPilotError):
            self._ask({"do": "counters"})
            return True
        return False

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(_ANSWER_S)
            try:
                s.connect(str(self.control))
                s.send(json.dumps(order).encode())
                answer = json.loads(s.recv(MESSAGE_BYTES) or b"{}")
            except (OSError, ValueError) as error:
                raise CarbonPilotError(
                    f"The link at {self.control} does not answer ({error}). Is the test bed up? See `testbed status`."
                ) from error
        if "error" in answer:
            raise CarbonPilotError(f"The link refused {order['do']}: {answer['error']}.")
        return answer


class Link(LinkControl):
    """Joins two namespaces for the length of a with block.

    The link runs in a process of its own and ends with this one, however this one ends.

    Args:
        device, server: names of the namespaces; loss is on the way from the first to the second.
        profile: what the link is at first.
        kind: "netem" or "tun"; None takes netem where the kernel has it.
        control: path of the control socket; None takes one in a temporary folder.
        subnet: 0 to 255, for several links of one namespace: addresses are 10.77.SUBNET.1 and .2.
        seed: of losses and jitter; None draws one.
        detach: let the link live on when this process ends; end it with `LinkControl` or by its pid.
    """

    def __init__(
        self,
        device: str,
        server: str,
        profile: Profile = PROFILES["lan"],
        *,
        kind: Kind | None = None,
        control: str | Path | None = None,
        subnet: int = 0,
        seed: int | None = None,
        detach: bool = False,
    ) -> None:
        """Nothing is made before the with block."""
        if not 0 <= subnet <= 255:
            raise InputError(f"subnet must be from 0 to 255, got {subnet}")
        self._folder = None
        if control is None:
            self._folder = tempfile.TemporaryDirectory(prefix="carbonpilot-link-")
            control = Path(self._folder.name) / CONTROL
        super().__init__(control)
        self._device, self._server, self._first = device, server, profile
        self._wanted, self._subnet, self._detach = kind, subnet, detach
        self._seed = secrets.randbits(32) if seed is None else seed
        self._process: subprocess.Popen | None = None
        self._kind: Kind | None = kind

    @property
    def kind(self) -> Kind:
        """How packets are moved: "netem" or "tun"; known once the link runs."""
        if self._kind is None:
            raise CarbonPilotError("the link has not been started, so its kind is not known yet")
        return self._kind

    @property
    def device_address(self) -> str:
        """Address of the device's end."""
        return f"10.77.{self._subnet}.1"

    @property
    def server_address(self) -> str:
        """Address of the server's end."""
        return f"10.77.{self._subnet}.2"

    @property
    def pid(self) -> int:
        """Process that runs the link."""
        if self._process is None:
            raise CarbonPilotError("the link has not been started, so it has no process yet")
        return self._process.pid

    def __enter__(self) -> Link:
        """Start the link and wait until packets can pass.

        Raises:
            InputError: this machine or these namespaces cannot.
            CarbonPilotError: the link's process ended instead of starting.
        """
        reason = unavailable()
        if reason is not None:
            raise InputError(f"The link cannot start: {reason}.")
        if self._kind is None:
            self._kind = "tun" if netem_missing(self._device) else "netem"
        self.control.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.control.exists() and LinkControl(self.control).running():
            raise InputError(f"Another link answers at {self.control}. Take that test bed down first.")
        self._process = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL if self._detach else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # an interrupt at the terminal ends the link through its owner, in order
            text=True,
        )
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the link; its interfaces go with it. Harmless when called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _command(self) -> list[str]:
        words = {
            "kind": self.kind,
            "device": self._device,
            "server": self._server,
            "interface": f"link{self._subnet}",
            "device-address": f"{self.device_address}/30",
            "server-address": f"{self.server_address}/30",
            "control": str(self.control),
            "profile": json.dumps(asdict(self._first)),
            "seed": str(self._seed),
        }
        flags = [part for name, value in words.items() for part in (f"--{name}", value)]
        watch = [] if self._detach else ["--watch-stdin"]
        return [sys.executable, "-m", f"{__package__}.link_process", *flags, *watch]

    def _wait_ready(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline().strip() != "ready":
            process.kill()
            said = process.stderr.read().strip().splitlines()
            why = said[-1] if said else f"exit code {process.wait()}"
            raise CarbonPilotError(f"The {self.kind} link did not start: {why}")
