"""What killed runs left of their Triton servers: processes and shared memory, known by their owner's name."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from .namespaces import owner

PREFIX = "carbonpilot-triton-"
_SHARED_MEMORY = Path("/dev/shm")
_FLAG = f"shm-region-prefix-name={PREFIX}"


def owner_lives(name: str) -> bool:
    """Whether the process that a name ``PREFIX + PID-START-...`` belongs to still runs."""
    pid, _, rest = name.removeprefix(PREFIX).partition("-")
    with contextlib.suppress(ValueError, OSError, IndexError):
        return owner(int(pid)) == f"{pid}-{rest.partition('-')[0]}"
    return False


def server_processes() -> dict[int, str]:
    """Triton servers of any run on this machine: process -> name of its shared memory."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "/tritonserver" in words[0]:
                found |= {int(folder.name): PREFIX + w.partition(_FLAG)[2] for w in words if _FLAG in w}
    return found


def remove_server_leftovers() -> list[int]:
    """End servers whose owner has gone and remove shared memory that nobody owns; returns the processes."""
    ended = [pid for pid, name in server_processes().items() if not owner_lives(name)]
    for pid in ended:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)  # its models' processes end by themselves
    for file in _SHARED_MEMORY.glob(f"{PREFIX}*"):
        if not owner_lives(file.name):
            with contextlib.suppress(OSError):
                file.unlink()
    return ended


def remove_shared_memory(region: str) -> None:
    """Remove what a killed server kept under that name."""
    for file in _SHARED_MEMORY.glob(f"{region}*"):
        file.unlink(missing_ok=True)
