"""The whole test bed for the length of a with block: namespaces, links, Triton servers, echo servers.

    device --link-- edge --link-- region1, edge --link-- region2, ...

The regional servers are reached through the edge's network, so they share the device's link and add their distance.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...envs.errors import InputError
from .child import end_child
from .echo_process import start_echo_server
from .link import CONTROL, Link
from .namespaces import Namespaces, ip, run_in, set_sysctl
from .namespaces import unavailable as namespaces_unavailable
from .netem import netem_missing
from .profiles import PROFILES, Profile, Schedule
from .repository.settings import MODEL_SETS, ModelSet
from .repository.write import write_repository
from .server import Ports, TritonServer
from .server_environment import find_environment
from .server_environment import unavailable as triton_unavailable

EDGE = "edge"
ECHO_PORT = 7007
REGION_RTT_MS = 12.0  # assumed: what the nearer region of the scenario metro adds
_REGION_RATE_MBPS = 1000.0  # assumed: the edge's own connection is never the bottleneck


def unavailable() -> str | None:
    """Why this machine cannot build a test bed with a link, with the mend; None where it can."""
    reason = namespaces_unavailable() or triton_unavailable()
    if reason is None and not Path("/dev/net/tun").exists():
        with Namespaces() as spaces:
            netem = netem_missing(spaces.device)
        if netem is not None:
            return f"there is no /dev/net/tun (modprobe tun), and {netem}"
    return reason


@dataclass(frozen=True)
class BedSettings:
    """What a test bed is made of.

    Attributes:
        models: what every server serves.
        link: the device's link at first: a profile, or a recording that is played.
        regions: further servers, in other regions.
        region_rtt_ms: what the first adds to the round trip; the second adds twice that, and so on.
        loopback: no namespaces and no links, one server on this machine's loopback; needs no root.
        ports, echo_port: where every server listens.
        seed: of the link's losses and jitter.
        model_control: models may be loaded and unloaded while the servers run.
    """

    models: ModelSet = MODEL_SETS["stand-in"]
    link: Profile | Schedule = PROFILES["lan"]
    regions: int = 0
    region_rtt_ms: float = REGION_RTT_MS
    loopback: bool = False
    ports: Ports = field(default_factory=Ports)
    echo_port: int = ECHO_PORT
    seed: int | None = None
    model_control: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if not 0 <= self.regions <= 9:
            raise InputError(f"regions must be from 0 to 9, got {self.regions}")
        if self.loopback and self.regions:
            raise InputError("A test bed on loopback has one server and no link: leave the regions out.")

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the servers' nodes."""
        return (EDGE, *(f"region{i + 1}" for i in range(self.regions)))


class Testbed:
    """A device and its servers; everything ends with the block, however it ends.

    Attributes:
        servers: a `TritonServer` for each node, the nearest first.
        link: the device's link; None on loopback.
        device: the device's namespace; None on loopback.
    """

    __test__ = False  # pytest: not a class of tests

    def __init__(self, settings: BedSettings, state: Path) -> None:
        """Nothing is made before the with block.

        Args:
            settings: what to build.
            state: folder for the repository, logs and sockets.
        """
        self.settings, self.state = settings, state
        self.servers: dict[str, TritonServer] = {}
        self.link: Link | None = None
        self.device: str | None = None
        self.echoes: dict[str, subprocess.Popen] = {}
        self._namespaces: Namespaces | None = None
        self._stack = ExitStack()

    @property
    def server(self) -> TritonServer:
        """The edge's server."""
        return self.servers[EDGE]

    def run_device(self, argv: Sequence[str], **popen: Any) -> subprocess.Popen:
        """Start a command on the device, from which the servers are reached over the link."""
        return run_in(self.device, argv, **popen) if self.device else subprocess.Popen(argv, **popen)

    def namespace(self, node: str) -> str | None:
        """Namespace of a server's node; None on loopback."""
        return self._namespaces[node] if self._namespaces else None

    def echo(self, node: str = EDGE) -> tuple[str, int]:
        """Host and port of a node's echo server, for the link's probe."""
        return self.servers[node].address, self.settings.echo_port

    def __enter__(self) -> Testbed:
        """Build it and wait until all servers are ready.

        Raises:
            InputError: this machine cannot; names what is missing and the mend.
            CarbonPilotError: a part did not start; says its last words.
        """
        with ExitStack() as stack:  # takes everything down again where a part fails
            environment = find_environment()
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            addresses = {EDGE: "127.0.0.1"} if self.settings.loopback else self._network(stack)
            for node in self.settings.nodes:
                repository = write_repository(self.state / node, self.settings.models)
                self.servers[node] = server = TritonServer(
                    environment, repository, self.state / node / "server.log",
                    namespace=self.namespace(node), address=addresses[node], ports=self.settings.ports,
                    model_control=self.settings.model_control,
                )  # fmt: skip
                stack.callback(server.kill)  # nothing is in flight that matters
                server.start(wait_s=0)
            for node in self.settings.nodes:
                self._start_echo(node, stack)
            for server in self.servers.values():
                server.wait_ready()
            if self.link is not None and isinstance(self.settings.link, Schedule):
                self.link.play(self.settings.link)  # it begins when the device can
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything down; harmless when called twice."""
        self._stack.close()

    def _network(self, stack: ExitStack) -> dict[str, str]:
        """Make namespaces and links; returns the servers' addresses."""
        nodes, first = self.settings.nodes, self.settings.link
        self._namespaces = spaces = stack.enter_context(Namespaces(("device", *nodes)))
        self.device = spaces.device
        profile = first.profiles[0] if isinstance(first, Schedule) else first
        link = Link(
            spaces.device, spaces[EDGE], profile, control=self.state / CONTROL, seed=self.settings.seed
        )
        self.link = stack.enter_context(link)
        addresses = {EDGE: self.link.server_address}
        for i, node in enumerate(nodes[1:], start=1):
            addresses[node] = self._region(spaces, node, i, stack)
        return addresses

    def _region(self, spaces: Namespaces, node: str, subnet: int, stack: ExitStack) -> str:
        assert self.link is not None
        distance = Profile(node, subnet * self.settings.region_rtt_ms, 0.0, 0.0, _REGION_RATE_MBPS)
        control = self.state / f"link-{node}.sock"
        link = stack.enter_context(Link(spaces[EDGE], spaces[node], distance, control=control, subnet=subnet))
        set_sysctl(spaces[EDGE], "net.ipv4.ip_forward", 1)
        assert self.link.congestion_control is not None  # the bed's link never leaves it to the sockets
        there = ("via", self.link.server_address, "congctl", self.link.congestion_control)
        back = ("via", link.device_address, "congctl", self.link.reply_congestion_control)
        ip("route", "add", link.server_address, *there, namespace=spaces.device)
        ip("route", "add", "default", *back, namespace=spaces[node])
        return link.server_address

    def _start_echo(self, node: str, stack: ExitStack) -> None:
        host = "127.0.0.1" if self.settings.loopback else "0.0.0.0"
        process = start_echo_server(self.namespace(node), host, self.settings.echo_port)
        stack.callback(end_child, process)
        self.echoes[node] = process
