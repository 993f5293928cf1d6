"""Network namespaces of the test bed: made, entered, removed, and found again when a run was killed.

A namespace is called ``carbonpilot-PID-START-N-SIDE`` after the process that owns it and the tick at which that
process began, so a name whose process is gone is a leftover, whatever has taken its number since. N counts the
sets of namespaces of one process.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError, InputError

PREFIX = "carbonpilot-"
SIDES = ("device", "server")
_CLONE_NEWNET = 0x40000000
_NETNS = Path("/run/netns")
_counted = itertools.count()
_PATIENCE_S = 2.0  # between asking a leftover process to end and ending it


def unavailable() -> str | None:
    """Why this machine cannot make network namespaces, with the mend; None where it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "network namespaces need root. Run the command with sudo"
    if shutil.which("ip") is None:
        return "the command ip is missing. Install iproute2"
    return None


class Namespaces:
    """Two or more network namespaces for the length of a with block; leftovers of killed runs go first.

    Their loopback is up, IPv6 is off (its router solicitations would be packets nobody sent), and addresses
    come with the `Link` that joins two of them.

    Args:
        sides: what each namespace is for; its name ends with it.
    """

    def __init__(self, sides: Sequence[str] = SIDES) -> None:
        """Nothing is made before the with block."""
        if len(sides) < 2 or len(set(sides)) != len(sides) or not all(s.isalnum() for s in sides):
            raise InputError(
                f"a test bed needs two or more different sides, letters and digits, got {list(sides)}"
            )
        mine = f"{PREFIX}{owner(os.getpid())}-{next(_counted)}"
        self._names = {side: f"{mine}-{side}" for side in sides}

    @property
    def device(self) -> str:
        """Name of the device's namespace."""
        return self["device"]

    @property
    def server(self) -> str:
        """Name of the server's namespace."""
        return self["server"]

    def __getitem__(self, side: str) -> str:
        """Name of a side's namespace."""
        return self._names[side]

    def __enter__(self) -> Namespaces:
        """Clean up after killed runs and make the namespaces.

        Raises:
            InputError: this machine cannot.
        """
        reason = unavailable()
        if reason is not None:
            raise InputError(f"The test bed cannot start: {reason}.")
        remove_leftovers()
        try:
            for name in self._names.values():
                _make(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs inside and remove the namespaces; harmless when called twice."""
        for name in self._names.values():
            remove(name)


def run_in(namespace: str, argv: Sequence[str], **popen: Any) -> subprocess.Popen:
    """Start a command inside a namespace; the returned process is the command itself, so signals reach it."""
    return subprocess.Popen(["ip", "netns", "exec", namespace, *argv], **popen)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Put this thread into a namespace for the block; a socket opened there stays there afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace(_NETNS / namespace)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def set_sysctl(namespace: str, key: str, value: str | int) -> None:
    """Set a ``net.`` sysctl inside a namespace, e.g. ``net.ipv4.tcp_congestion_control``.

    Raises:
        InputError: the kernel does not know the key or refuses the value.
    """
    path = Path("/proc/sys", *key.split("."))
    try:
        with inside(namespace):
            path.write_text(str(value))
    except OSError as error:
        raise InputError(f"sysctl {key} = {value} was refused in {namespace} ({error.strerror}).") from error


def kernel_congestion_control(namespace: str) -> str:
    """What connections of a namespace use where nothing chooses for them."""
    with inside(namespace):
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


def existing() -> list[str]:
    """Names of the test bed's namespaces on this machine, this process's and others'."""
    return sorted(p.name for p in _NETNS.glob(PREFIX + "*")) if _NETNS.is_dir() else []


def leftovers() -> list[str]:
    """Names of namespaces whose owner has gone."""
    return [name for name in existing() if not _owner_lives(name)]


def remove_leftovers() -> list[str]:
    """Remove what killed runs left, with the processes still inside; returns the names."""
    gone = leftovers()
    for name in gone:
        remove(name)
    return gone


def remove(namespace: str) -> None:
    """End the processes inside a namespace, then remove it; harmless where there is none."""
    if not (_NETNS / namespace).exists():
        return
    _end(namespace)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def owner(pid: int) -> str:
    """``PID-START`` of a living process: unique while the machine runs.

    Raises:
        OSError: there is none, or only what its parent has not yet fetched.
    """
    # The name in field 2 may hold spaces and brackets; the start tick is the 20th field behind it (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        raise ProcessLookupError(f"process {pid} has ended")
    return f"{pid}-{fields[19]}"


def ip(*words: str, namespace: str | None = None) -> str:
    """Run iproute2's ``ip``, in a namespace where one is given, and return what it says.

    Raises:
        CarbonPilotError: it failed.
    """
    argv = ["ip", *(("-n", namespace) if namespace else ()), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CarbonPilotError(f"`{' '.join(argv)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _make(name: str) -> None:
    ip("netns", "add", name)
    with contextlib.suppress(InputError):  # a kernel without IPv6 has nothing to turn off
        set_sysctl(name, "net.ipv6.conf.all.disable_ipv6", 1)
    ip("link", "set", "lo", "up", namespace=name)


def _owner_lives(name: str) -> bool:
    pid, _, rest = name.removeprefix(PREFIX).partition("-")
    try:
        return owner(int(pid)) == f"{pid}-{rest.partition('-')[0]}"
    except (ValueError, OSError, IndexError):
        return False


def _pids(namespace: str) -> list[int]:
    said = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False
    ).stdout
    # This process may be inside with another thread; it is not a leftover.
    return [pid for pid in map(int, said.split()) if pid != os.getpid()]


def _end(namespace: str) -> None:
    for step in (signal.SIGTERM, signal.SIGKILL):
        for pid in _pids(namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, step)
        until = time.monotonic() + _PATIENCE_S
        while _pids(namespace) and time.monotonic() < until:
            time.sleep(0.02)


def _set_namespace(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"Network namespace {path.name} does not exist. Is the test bed up?") from error
    try:
        _setns(handle)
    finally:
        os.close(handle)


def _setns(handle: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns exists from Python 3.12 on
    if libc.setns(handle, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise CarbonPilotError(f"cannot enter the network namespace: {os.strerror(error)}. Run with sudo.")
