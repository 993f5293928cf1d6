"""Uploads over real kernel TCP connections across the test bed's link, timed one by one.

The recorded uploads (data/transfers) were made the same way: a warm connection, TCP_NODELAY, an upload and its
1,024 byte reply every 100 ms, the next one at once where the last took longer.
"""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ...envs.errors import CarbonPilotError, InputError
from ..probes.tcp_info import BbrInfo, TcpInfo, read_bbr_info, read_tcp_info
from .child import end_child
from .link import Link
from .namespaces import Namespaces, inside, run_in, set_sysctl
from .profiles import Profile
from .scheduling import prefer_processor
from .upload_sink import HEADER, REPLY_BYTES, receive

PORT = 7100
GAP_S = 0.1
TIMEOUT_S = 120.0  # an upload that takes longer is an error: the link lets nothing through
# The relay may not add more than this to one packet in a hundred; a connection over a starved one is measured again.
MOST_LATE_MS = 2.0
TRIES = 3


@dataclass(frozen=True)
class Job:
    """One connection to measure.

    Attributes:
        profile, congestion_control, payload_bytes: over what, how, how much.
        connection: its number among those of one kind.
        uploads: how many.
        gap_s: from the start of one upload to the start of the next, or to its end where that is later.
        reconnect: a new connection for every upload; its handshake is part of the upload's time.
    """

    profile: Profile
    congestion_control: str
    payload_bytes: int
    connection: int
    uploads: int
    gap_s: float = GAP_S
    reconnect: bool = False


@dataclass(frozen=True)
class Upload:
    """One timed upload and what the kernel said after it."""

    index: int
    took_ms: float
    info: TcpInfo
    bbr: BbrInfo | None  # under BBR


@dataclass(frozen=True)
class Measured:
    """A finished connection.

    Attributes:
        job: what was asked.
        uploads: in their order.
        late_p99_ms: lateness of the relay meanwhile; None where the kernel shaped the link.
        starved: measurements thrown away because the relay was late.
        kept: whether the last one was on time.
    """

    job: Job
    uploads: tuple[Upload, ...]
    late_p99_ms: float | None
    starved: int
    kept: bool


class UploadBed:
    """Several links between two namespaces of their own, and a sink behind them, for the length of a with block.

    Args:
        links: how many connections can be measured at once, each over a link of its own.
        no_slow_start_after_idle: set ``tcp_slow_start_after_idle=0`` on the device.
    """

    def __init__(self, links: int = 1, *, no_slow_start_after_idle: bool = False) -> None:
        """Nothing is started before the with block."""
        if not 1 <= links <= 64:
            raise InputError(f"links must be from 1 to 64, got {links}")
        self._n, self._stack, self._restart = links, ExitStack(), not no_slow_start_after_idle
        self.links: list[Link] = []

    def __enter__(self) -> UploadBed:
        """Start the links and the sink."""
        with ExitStack() as stack:
            self._ns = stack.enter_context(Namespaces())
            # A new connection must not inherit what an older one learnt of the path.
            set_sysctl(self._ns.device, "net.ipv4.tcp_no_metrics_save", 1)
            set_sysctl(self._ns.device, "net.ipv4.tcp_slow_start_after_idle", int(self._restart))
            self.links = [
                # Each connection chooses for itself; a route would overrule it.
                stack.enter_context(Link(self._ns.device, self._ns.server, subnet=i, congestion_control=None))
                for i in range(self._n)
            ]
            argv = [sys.executable, "-m", f"{__package__}.upload_sink", "--port", str(PORT)]
            sink = run_in(self._ns.server, argv, stdout=subprocess.PIPE, text=True)
            stack.callback(end_child, sink)
            if sink.stdout is None or sink.stdout.readline().strip() != "ready":
                raise CarbonPilotError("The sink of the uploads did not start.")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self._stack.close()

    def connect(self, link: Link, congestion_control: str) -> socket.socket:
        """Open a connection over a link with a congestion control.

        Raises:
            InputError: the kernel does not have it.
        """
        with inside(self._ns.device):
            connection = socket.socket()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion_control.encode())
        except OSError as error:
            connection.close()
            raise InputError(
                f"The kernel has no congestion control '{congestion_control}' ({error.strerror}). "
                "See net.ipv4.tcp_available_congestion_control; modprobe tcp_bbr may add one."
            ) from error
        connection.settimeout(TIMEOUT_S)
        connection.connect((link.server_address, PORT))
        used = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
        assert used == congestion_control, f"the route has overruled {congestion_control} by {used}"
        return connection

    def measure(self, jobs: Sequence[Job]) -> Iterator[Measured]:
        """Measure every job, as many at once as there are links; results come as they finish.

        Raises:
            CarbonPilotError: a connection broke.
        """
        todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
        done: queue.SimpleQueue[Measured | Exception] = queue.SimpleQueue()
        for job in jobs:
            todo.put(job)
        stop = threading.Event()
        workers = [threading.Thread(target=self._work, args=(link, todo, done, stop)) for link in self.links]
        for worker in workers:
            worker.start()
        try:
            for _ in jobs:
                result = done.get()
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            stop.set()
            for worker in workers:
                worker.join()

    def _work(
        self, link: Link, todo: queue.SimpleQueue, done: queue.SimpleQueue, stop: threading.Event
    ) -> None:
        prefer_processor()
        while not stop.is_set():
            try:
                job = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(self._one(link, job, stop))
            except Exception as error:
                done.put(error)
                return

    def _one(self, link: Link, job: Job, stop: threading.Event) -> Measured:
        for starved in range(TRIES):
            link.shape(job.profile)
            link.counters(reset=True)
            uploads = tuple(self.upload_again_and_again(link, job, stop.is_set))
            late = link.counters()["late_ms"]
            p99 = None if late is None else late["p99"]
            if p99 is None or p99 <= MOST_LATE_MS:
                return Measured(job, uploads, p99, starved, kept=True)
        return Measured(job, uploads, p99, TRIES, kept=False)

    def upload_again_and_again(self, link: Link, job: Job, stopped: Callable[[], bool]) -> Iterator[Upload]:
        """One connection's uploads, or those of one after the other.

        Raises:
            CarbonPilotError: the connection broke or an upload took longer than `TIMEOUT_S`.
        """
        connection, payload = None, bytes(job.payload_bytes)
        try:
            next_s = time.perf_counter()
            for index in range(job.uploads):
                if not job.reconnect:
                    connection = connection or self._greeted(link, job)
                time.sleep(max(next_s - time.perf_counter(), 0.0))
                start_s = time.perf_counter()
                connection = connection or self._greeted(link, job)
                _upload(connection, payload)
                took_s = time.perf_counter() - start_s
                next_s = start_s + max(job.gap_s, took_s)
                info = read_tcp_info(connection)
                assert info is not None, "namespaces exist on Linux only"
                bbr = read_bbr_info(connection) if job.congestion_control == "bbr" else None
                yield Upload(index, 1e3 * took_s, info, bbr)
                if job.reconnect:
                    connection.close()
                    connection = None
                if stopped():
                    return
        except OSError as error:
            raise CarbonPilotError(
                f"An upload of {job.payload_bytes} bytes over {job.profile.name} failed: {error}."
            ) from error
        finally:
            if connection is not None:
                connection.close()

    def _greeted(self, link: Link, job: Job) -> socket.socket:
        connection = self.connect(link, job.congestion_control)
        connection.sendall(HEADER.pack(job.payload_bytes))
        return connection


def _upload(connection: socket.socket, payload: bytes) -> None:
    connection.sendall(payload)
    if not receive(connection, REPLY_BYTES, memoryview(bytearray(REPLY_BYTES))):
        raise ConnectionError("closed by the sink")
