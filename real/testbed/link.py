"""The link between two namespaces of the test bed: started, changed while packets flow, counted, ended."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from ...envs.errors import CarbonPilotError, InputError
from .child import end_child
from .link_control import CONTROL, LinkControl, default_state_folder
from .namespaces import ip, kernel_congestion_control, unavailable
from .netem import netem_missing
from .profiles import PROFILES, Profile

__all__ = ["CONTROL", "Kind", "Link", "LinkControl", "default_state_folder"]

Kind = Literal["netem", "tun"]


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
        congestion_control: of what the device sends over the link, whatever its sockets ask for; where the kernel does
            not have it, its own default stays and `congestion_control` says so. None leaves both ways to the sockets.
        reply_congestion_control: the same of what the server sends. BBR won for images, CUBIC for masks
            (docs/transport.md).
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
        congestion_control: str | None = "bbr",
        reply_congestion_control: str = "cubic",
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
        self.congestion_control, self.reply_congestion_control = congestion_control, reply_congestion_control
        self._process: subprocess.Popen | None = None
        self._kind: Kind | None = kind

    @property
    def kind(self) -> Kind:
        """How packets are moved: "netem" or "tun"; known once the link runs."""
        if self._kind is None:
            raise CarbonPilotError("the link has not been started, so its kind is not known yet")
        return self._kind

    @property
    def _interface(self) -> str:
        return f"link{self._subnet}"

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
            self._choose_control()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the link; its interfaces go with it. Harmless when called twice."""
        process, self._process = self._process, None
        if process is not None:
            end_child(process)
        if self._folder is not None:
            self._folder.cleanup()

    def _command(self) -> list[str]:
        words = {
            "kind": self.kind,
            "device": self._device,
            "server": self._server,
            "interface": self._interface,
            "device-address": f"{self.device_address}/30",
            "server-address": f"{self.server_address}/30",
            "control": str(self.control),
            "profile": json.dumps(asdict(self._first)),
            "seed": str(self._seed),
        }
        flags = [part for name, value in words.items() for part in (f"--{name}", value)]
        watch = [] if self._detach else ["--watch-stdin"]
        return [sys.executable, "-m", f"{__package__}.link_process", *flags, *watch]

    def _choose_control(self) -> None:
        """Set it by the route, which also reaches sockets that a library hides, such as gRPC's."""
        if self.congestion_control is None:
            return
        self.congestion_control = self._route(self._device, self.device_address, self.congestion_control)
        self.reply_congestion_control = self._route(
            self._server, self.server_address, self.reply_congestion_control
        )

    def _route(self, namespace: str, address: str, wanted: str) -> str:
        subnet, where = f"10.77.{self._subnet}.0/30", f"dev {self._interface} proto kernel scope link"
        route = f"{subnet} {where} src {address}".split()
        try:
            ip("route", "replace", *route, "congctl", wanted, namespace=namespace)
        except CarbonPilotError:
            return kernel_congestion_control(namespace)
        return wanted

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
