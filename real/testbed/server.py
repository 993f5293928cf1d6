"""A real Triton server as a process of ours: started, watched, frozen, killed, started again.

It runs with its models' processes in a session of its own, so a signal reaches all of them. Its shared memory is named
after the process that owns it, so leftovers of a killed run are known by their name (as `namespaces.py` does it).
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ...envs.errors import CarbonPilotError, InputError
from .namespaces import inside, owner
from .repository.write import Repository
from .server_environment import TritonEnvironment
from .server_leftovers import PREFIX, remove_server_leftovers, remove_shared_memory

_counted = itertools.count()
_READY_S, _END_S, _LOOK_S = 30.0, 8.0, 0.05
_LOG_LINES = 3


@dataclass(frozen=True)
class Ports:
    """Where a server listens; the defaults are Triton's own."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


class TritonServer:
    """Serves a model repository for the length of a with block.

    Args:
        environment: where the binary is (`find_environment`).
        repository: what is served.
        log: file that gets what the server says; appended to.
        namespace: network namespace to run in; None: this machine's own network.
        address: to listen on, and where clients reach it; in a namespace it listens on all of them.
        ports: one for each protocol.
        model_control: models may be loaded and unloaded while it runs (Triton's explicit control); all of the
            repository are loaded at the start.
    """

    def __init__(
        self,
        environment: TritonEnvironment,
        repository: Repository,
        log: Path,
        *,
        namespace: str | None = None,
        address: str = "127.0.0.1",
        ports: Ports = Ports(),
        model_control: bool = False,
    ) -> None:
        """Nothing is started before the with block or `start`."""
        self.environment, self.repository, self.log = environment, repository, log
        self.namespace, self.address, self.ports = namespace, address, ports
        self._control = ["--model-control-mode=explicit", "--load-model=*"] if model_control else []
        self._region = f"{PREFIX}{owner(os.getpid())}-{next(_counted)}-"
        self._process: subprocess.Popen | None = None

    @property
    def grpc(self) -> str:
        """``host:port`` for tritonclient."""
        return f"{self.address}:{self.ports.grpc}"

    @property
    def http(self) -> str:
        """Address of the HTTP protocol."""
        return f"http://{self.address}:{self.ports.http}"

    @property
    def metrics(self) -> str:
        """Address of the metrics page."""
        return f"http://{self.address}:{self.ports.metrics}/metrics"

    @property
    def pid(self) -> int | None:
        """The server's process; None while there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether its process lives, frozen or not."""
        return self.pid is not None

    def start(self, wait_s: float = _READY_S) -> None:
        """Start it and wait until all models are ready.

        Args:
            wait_s: how long to wait at most; 0 does not wait (`wait_ready` does).

        Raises:
            InputError: a port is taken.
            CarbonPilotError: it ended, or was not ready in time; says its last errors.
        """
        if self.running:
            raise InputError("The Triton server runs already.")
        remove_server_leftovers()
        self._check_ports()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment.variables,
                start_new_session=True,
            )
        if wait_s > 0:
            self.wait_ready(wait_s)

    def wait_ready(self, wait_s: float = _READY_S) -> None:
        """Wait until all models are ready; a server that does not get there is ended.

        Raises:
            CarbonPilotError: see `start`.
        """
        try:
            self._wait_ready(wait_s)
        except BaseException:
            self.kill()
            raise

    def ready(self, timeout_s: float = 1.0) -> bool:
        """Whether server and models say that they are ready, and its metrics can be read.

        Triton opens its metrics last: where another process holds that port, it is ready for a moment and then ends.
        """
        asked = ((self.ports.http, "/v2/health/ready"), (self.ports.metrics, "/metrics"))
        with contextlib.suppress(OSError, http.client.HTTPException), self._network():
            return all(self._answers(port, path, timeout_s) for port, path in asked)
        return False

    def stop(self) -> None:
        """Let it end in order, within a few seconds; harmless where it does not run."""
        self.thaw()
        self._signal(signal.SIGTERM, group=False)  # it ends its models itself
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash does; clients see their connections reset."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        remove_shared_memory(self._region)

    def restart(self, wait_s: float = _READY_S) -> None:
        """Kill it where it still runs and start it again, at the same address with the same models."""
        self.kill()
        self.start(wait_s)

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open and nothing is answered, until `thaw`."""
        self._signal(signal.SIGSTOP)
        until_s = time.monotonic() + _END_S
        while self.pid is not None and not _stopped(self.pid) and time.monotonic() < until_s:
            time.sleep(0.001)  # a thread that runs on another processor stops a moment later

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> TritonServer:
        """Start, see `start`."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, see `stop`."""
        self.stop()

    def _command(self) -> list[str]:
        address = "0.0.0.0" if self.namespace else self.address
        listen = [
            f"--{name}-{what}={value}"
            for name, port in vars(self.ports).items()
            for what, value in (("address", address), ("port", port))
        ]
        command = [
            str(self.environment.binary),
            f"--model-repository={self.repository.folder}",
            f"--backend-directory={self.environment.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._region}",
            "--disable-auto-complete-config",  # takes the models' configurations as they are written
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            "--exit-timeout-secs=2",
            *self._control,
            *listen,
        ]
        return ["ip", "netns", "exec", self.namespace, *command] if self.namespace else command

    def _wait_ready(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while not self.ready():
            process = self._process
            if process is None or process.poll() is not None:
                raise CarbonPilotError(f"The Triton server did not start. It said: {self._last_errors()}")
            if time.monotonic() > until_s:
                raise CarbonPilotError(
                    f"The Triton server was not ready after {wait_s:g} s. It said: {self._last_errors()}"
                )
            time.sleep(_LOOK_S)

    def _last_errors(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-200:]
        told = [line for line in lines if line.startswith(("E", "error")) and "CudaDriverHelper" not in line]
        return (
            "\n  ".join([line[:300] for line in told[-_LOG_LINES:]] or ["nothing"]) + f"\n  See {self.log}."
        )

    def _check_ports(self) -> None:
        with self._network():
            for name, port in vars(self.ports).items():
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        s.bind(("" if self.namespace else self.address, port))
                    except OSError as error:
                        raise InputError(
                            f"Port {port} ({name}) of {self.address} cannot be used: {error.strerror}. Is another "
                            "Triton server running? See `carbonpilot testbed status`, or choose other ports."
                        ) from error

    def _answers(self, port: int, path: str, timeout_s: float) -> bool:
        host = "127.0.0.1" if self.namespace else self.address
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status == 200

    def _network(self) -> contextlib.AbstractContextManager[object]:
        return inside(self.namespace) if self.namespace else contextlib.nullcontext()

    def _signal(self, number: signal.Signals, group: bool = True) -> None:
        process = self._process
        if process is None or (not group and process.poll() is not None):
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number) if group else os.kill(process.pid, number)


def _stopped(pid: int) -> bool:
    """Whether all threads of a process have been stopped by a signal."""
    try:
        stats = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread ended meanwhile
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)
