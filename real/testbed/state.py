"""The state folder of a test bed that runs in the background: what a later command needs to find it again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from ...envs.errors import CarbonPilotError, InputError
from ...envs.files import atomic_write_text, writing
from ...envs.schema_base import Strict
from .bed import BedSettings
from .namespaces import owner, remove_leftovers
from .server_leftovers import remove_server_leftovers

_FILE, _SETTINGS = "testbed.json", "settings.json"
_LOCK, _OWNER, _TENANTS = "lock", "owner", "tenants"
_POLL_S = 0.05
_JSON = TypeAdapter(BedSettings)


class ServerState(Strict):
    """Where a node's server is; addresses as the device sees them."""

    namespace: str | None
    address: str
    grpc: str
    http: str
    metrics: str
    echo_port: int
    log: str


class BedState(Strict):
    """A test bed in the background.

    Attributes:
        owner: ``PID-START`` of its supervisor (`namespaces.owner`).
        device: the device's namespace; None on loopback.
        link: control socket of the device's link; None on loopback.
        link_kind: how packets are moved.
        servers: by node.
        helpers: ``PID-START`` of processes outside of any namespace, which nobody else would end.
    """

    schema_version: Literal["carbonpilot/testbed/1"] = "carbonpilot/testbed/1"
    started_utc: str
    owner: str
    device: str | None
    link: str | None
    link_kind: str | None
    servers: dict[str, ServerState]
    helpers: list[str]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One command at a time builds or takes down the test bed of a state folder.

    Raises:
        InputError: another one does, or the folder is not a test bed's.
    """
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _LOCK).exists():
            raise InputError(
                f"{folder} holds files that are not a test bed's. Its state folder is emptied: give a new one."
            )
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"Another command is building or taking down the test bed in {folder}. Wait for it."
            ) from error
        yield
    finally:
        os.close(handle)


def alive(who: str) -> bool:
    """Whether the process ``PID-START`` still runs."""
    with contextlib.suppress(ValueError, OSError, IndexError):
        return owner(int(who.partition("-")[0])) == who
    return False


def write_owner(folder: Path) -> None:
    """Say that this process builds the test bed of the folder, before anything of it exists."""
    atomic_write_text(folder / _OWNER, owner(os.getpid()))


def write_settings(folder: Path, settings: BedSettings) -> None:
    """Say what the supervisor is to build."""
    atomic_write_text(folder / _SETTINGS, _JSON.dump_json(settings).decode())


def read_settings(folder: Path) -> BedSettings:
    """What the test bed of the folder was built from."""
    return _JSON.validate_json((folder / _SETTINGS).read_bytes())


def write_state(folder: Path, state: BedState) -> None:
    """Say that the test bed is up."""
    atomic_write_text(folder / _FILE, state.model_dump_json(indent=2) + "\n")


def write_tenants(folder: Path, who: str) -> None:
    """Say which process the tenants are."""
    atomic_write_text(folder / _TENANTS, who)


def tenants_of(folder: Path) -> str | None:
    """``PID-START`` of the tenants started last, whether they still run or not."""
    with contextlib.suppress(OSError):
        return (folder / _TENANTS).read_text()
    return None


def read_state(folder: Path) -> BedState | None:
    """The test bed of the folder while its supervisor runs; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        state = BedState.model_validate_json((folder / _FILE).read_text())
        return state if alive(state.owner) else None
    return None


def running(folder: Path) -> BedState:
    """The running test bed of the folder.

    Raises:
        InputError: there is none; names the command.
    """
    state = read_state(folder)
    if state is None:
        raise InputError(f"No test bed is running in {folder}. Start one: carbonpilot testbed up")
    return state


def take_down(folder: Path, wait_s: float = 15.0) -> bool:
    """End the test bed of the folder and everything that it, or a killed run before it, left; to be called `locked`.

    Returns:
        Whether there was anything.

    Raises:
        CarbonPilotError: its supervisor cannot be ended.
    """
    found = _end_owner(folder, wait_s)
    for who in _helpers(folder):
        found |= _signal(who, signal.SIGKILL)
    found |= bool(remove_leftovers()) | bool(remove_server_leftovers())
    # The lock stays: removing it would let two commands hold it at once.
    for path in folder.iterdir() if folder.is_dir() else []:
        if path.name != _LOCK:
            found = True
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return found


def _end_owner(folder: Path, wait_s: float) -> bool:
    try:
        who = (folder / _OWNER).read_text()
    except OSError:
        return False
    if not _signal(who, signal.SIGTERM):
        return False
    for step_s in (wait_s, 5.0):
        until_s = time.monotonic() + step_s
        while alive(who) and time.monotonic() < until_s:
            time.sleep(_POLL_S)
        if not alive(who):
            return True
        _signal(who, signal.SIGKILL)
    raise CarbonPilotError(f"The test bed's supervisor (process {who.partition('-')[0]}) cannot be ended.")


def _helpers(folder: Path) -> list[str]:
    tenants = tenants_of(folder)
    found = [tenants] if tenants else []
    with contextlib.suppress(OSError, ValueError):
        found += BedState.model_validate_json((folder / _FILE).read_text()).helpers
    return found


def _signal(who: str, number: signal.Signals) -> bool:
    if not alive(who):
        return False
    try:
        os.kill(int(who.partition("-")[0]), number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise InputError("The test bed belongs to another user. Run the command with sudo.") from error
    return True
