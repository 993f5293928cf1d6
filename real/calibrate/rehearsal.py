"""The runtime itself, playing frames while a site is calibrated: a process of its own, as later ones will be.

What a model takes when it is called alone is not what it takes later, between a decision, a log, probes of every link
and node, and threads that wake up for them. So what the device does is timed in the runtime, with all of these at work.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ..log_records import Attempt, FrameRecord, read_log
from ..site_file import SiteFile
from .site_writer import site_yaml

_RUN = "from carbonpilot.cli import main; main()"
SKIPPED = 3  # frames at the beginning, in which everything is cold
LEAST = 5
SPARE_S = 120.0  # a device without numba works out the believed waits of its nodes first


async def rehearse(
    draft: SiteFile,
    folder: Path,
    frames: int,
    rate_per_s: float,
    *,
    placement: str | None = None,
    stand_in: bool = False,
) -> list[FrameRecord]:
    """Run that many frames, all on one placement, and return what the log says of those that it answered alone.

    Args:
        draft: the site so far.
        folder: that its paths are relative to; holds a file for as long as this takes.
        frames: to play, the first three of which are not returned.
        rate_per_s: of the camera.
        placement: None is the device.
        stand_in: nothing is computed and nobody is called.

    Raises:
        InputError: the runtime did not run, or answered hardly any frame.
    """
    return await asyncio.to_thread(_rehearse, draft, folder, frames, rate_per_s, placement, stand_in)


def _rehearse(
    draft: SiteFile, folder: Path, frames: int, rate_per_s: float, placement: str | None, stand_in: bool
) -> list[FrameRecord]:
    policy = "always-local" if placement is None else f"always-{placement}"
    handle, name = tempfile.mkstemp(prefix=".calibrate-", suffix=".yaml", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as site:
            site.write(site_yaml(draft))
        with tempfile.TemporaryDirectory(prefix="carbonpilot-") as log:
            argv = [
                *("run", "--site", name, "--policy", policy, "--mode", "active"),
                *(["--stand-in"] if stand_in else []),
                *("--images", f"synthetic:{frames}", "--log", log, "--rate", f"{rate_per_s:g}"),
                *("--listen", "none", "--fallback", "never", "--queue", "64"),
            ]
            _run(argv, SPARE_S + frames / rate_per_s)
            records = [r for r in read_log(log) if isinstance(r, FrameRecord)]
    finally:
        os.unlink(name)
    answered = [r for r in records[SKIPPED:] if len(r.attempts) == 1 and r.executed == r.wanted]
    if len(answered) < min(LEAST, frames - SKIPPED):
        raise InputError(f"The runtime answered {len(answered)} of {frames} frames with {policy}.")
    return answered


def _run(argv: Sequence[str], longest_s: float) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RUN, *argv],
            capture_output=True,
            text=True,
            timeout=longest_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"The runtime did not end within {longest_s:.0f} s.") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise InputError(f"The runtime did not run: {lines[-1] if lines else 'it said nothing'}")


def device_times_ms(records: Sequence[FrameRecord]) -> npt.NDArray[np.float64]:
    """What frames of the device took (n,), ms: all of it but the wait for frames before them."""
    waited = _beyond_least([r.attempts[0].queued_ms for r in records])
    return np.array([r.latency_ms for r in records]) - waited


def head_times_ms(records: Sequence[FrameRecord]) -> npt.NDArray[np.float64]:
    """What a split model's heads took on the device (n,), ms: handing over included, waiting for others not."""
    waited = _beyond_least([r.attempts[0].head_queued_ms for r in records])
    return np.array([_before_tail_ms(r.attempts[0]) for r in records]) - waited


def _before_tail_ms(a: Attempt) -> float:
    tail = (a.prepare_ms or 0.0) + (a.execute_ms or 0.0) + (a.finish_ms or 0.0)
    return a.ended_ms - a.started_ms - a.queued_ms - tail


def _beyond_least(queued_ms: Sequence[float]) -> npt.NDArray[np.float64]:
    """Waits beyond that of a frame that met nobody, which is the hand-over (n,)."""
    queued = np.array(queued_ms)
    return queued - queued.min()
