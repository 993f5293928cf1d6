"""Starts a test bed in the background and waits until it is ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from ...envs.errors import CarbonPilotError, InputError
from .bed import BedSettings
from .namespaces import unavailable as namespaces_unavailable
from .server_environment import find_environment
from .state import BedState, locked, read_settings, read_state, running, take_down, write_settings

_SUPERVISOR_LOG = "supervisor.log"


def bring_up(settings: BedSettings, folder: Path) -> tuple[BedState, bool]:
    """Start a test bed that outlives this process.

    Args:
        settings: what to build.
        folder: its state; leftovers of a killed run there are removed first.

    Returns:
        The running test bed, and whether it was started now (False: it ran already, built from the same settings).

    Raises:
        InputError: something is missing here, or another one runs in this folder; names the mend.
        CarbonPilotError: a part did not start; nothing is left behind.
    """
    with locked(folder):
        state = read_state(folder)
        if state is not None:
            _compare(settings, folder)
            return state, False
        _check_machine(settings)
        take_down(folder)
        write_settings(folder, settings)
        try:
            _start(folder)
        except BaseException:
            take_down(folder)
            raise
        return running(folder), True


def _check_machine(settings: BedSettings) -> None:
    reason = None if settings.loopback else namespaces_unavailable()
    if reason is not None:
        raise InputError(f"The test bed cannot start: {reason}. --loopback needs no root, and has no link.")
    find_environment()


def _compare(settings: BedSettings, folder: Path) -> None:
    if read_settings(folder) != settings:
        raise InputError(
            f"A test bed of other settings runs in {folder}. Change its link with `carbonpilot testbed shape`, "
            "or end it with `carbonpilot testbed down` first."
        )


def _start(folder: Path) -> None:
    log = folder / _SUPERVISOR_LOG
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.supervisor", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd="/",
        )
    assert process.stdout is not None
    try:
        with process.stdout:
            said = json.loads(process.stdout.readline() or "{}")
    except BaseException:  # interrupted: it takes down what it had built
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if said.get("ready"):
        process.returncode = 0  # it lives on by itself: nothing here waits for it, or warns that nothing does
        return
    process.wait()
    if "error" in said:
        kind = InputError if said["exit_code"] == InputError.exit_code else CarbonPilotError
        raise kind(said["error"])
    words = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise CarbonPilotError(f"The test bed did not start. Its supervisor said: {' '.join(words) or 'nothing'}")
