"""A run as a process: from the command's options to its exit code, with signals, systemd and what is printed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError
from ..clock import Clock, SystemClock
from ..executors.make import frames_jpeg_quality
from ..frames.source import FrameSource, open_frames
from .assemble import Run, absent_told
from .checked import Checked, check
from .feeder import FrameThread, feed, pace_of
from .notify import notify, watchdog_interval_s
from .options import RunOptions

log = logging.getLogger(__name__)


def run_until_stopped(options: RunOptions, clock: Clock | None = None) -> int:
    """Run to the end of the images or until SIGTERM or SIGINT.

    Returns:
        0, also when it was stopped; 1 where lines of the log were lost or the camera failed.

    Raises:
        InputError: something cannot run; nothing was executed.
    """
    clock = clock or SystemClock()
    _show_warnings()
    if options.log is None:
        options = replace(options, log=new_log_folder())
    checked = check(options, clock)
    try:
        frames = open_frames(
            options.images,
            checked.site.deployment.frame,
            jpeg_quality=frames_jpeg_quality(checked.site),
            start_index=checked.before.next_frame,
            limit=options.frames,
            repeat=options.repeat,
            clock=clock,
        )
    except BaseException:
        checked.ends.close()
        raise
    return asyncio.run(_run(options, checked, frames, clock))


@contextlib.contextmanager
def standing() -> Iterator[None]:
    """Set aside what has been made until now, which lives as long as the run.

    Looking for garbage stops every thread. Going through some fifty thousand objects of libraries and settings, again
    and again, takes it milliseconds, in the middle of a decision if it so happens; what is made from now on is little.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def new_log_folder() -> Path:
    """A folder of its own for a run that was given none."""
    return Path("runs") / f"run-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"


async def _run(options: RunOptions, checked: Checked, frames: FrameSource, clock: Clock) -> int:
    run = Run(options, checked, clock)
    engine = await run.start()
    _say_start(run)
    stopped = _stop_signals()
    source = FrameThread(frames)
    pace = pace_of(checked.site.scenario, clock, options.rate, frames.live)
    feeding = asyncio.ensure_future(feed(engine, source, pace, options.overload, clock))
    beating = asyncio.ensure_future(_beat())
    notify("READY=1", f"STATUS={options.mode} at {checked.site.scenario.name}")
    stopping = asyncio.ensure_future(stopped.wait())
    with standing():
        await asyncio.wait({feeding, stopping}, return_when=asyncio.FIRST_COMPLETED)
    why = "asked to stop" if stopped.is_set() else "the images have ended"
    run.event("stopping", "run", why)
    notify("STOPPING=1", f"STATUS={why}")
    source.stop()
    failure = await _end(feeding)
    for task in (stopping, beating):
        await _end(task)
    await run.stop()
    with contextlib.suppress(Exception):
        await asyncio.to_thread(frames.close)
    return _say_end(run, why, failure)


async def _end(task: asyncio.Future[Any]) -> BaseException | None:
    """Cancel a task, if it has not ended; returns what it failed with."""
    if not task.done():
        task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.exception()


async def _beat() -> None:
    """Tell systemd's watchdog that the loop turns."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)


def _stop_signals() -> asyncio.Event:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # not in the main thread
            loop.add_signal_handler(number, stopped.set)
    return stopped


def _show_warnings() -> None:
    """Warnings of the runtime go to standard error, a line each; systemd keeps them."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("carbonpilot: %(levelname)s: %(message)s"))
    root = logging.getLogger("carbonpilot")
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(logging.INFO)


def _say_start(run: Run) -> None:
    before = run.checked.before
    print(f"{run.options.mode} run {run.header.run} at {run.header.scenario}, policy {run.header.bundle}")
    for name, provider in run.header.providers.items():
        print(f"  {name}: {provider}")
    for node in run.checked.site.absent:
        print(f"  node {node} is absent: {absent_told(run.checked.site, node)}")
    print(
        f"  log: {run.options.log}"
        + (f" (goes on with frame {before.next_frame})" if before.next_frame else "")
    )
    if run.address is not None:
        print(f"  status page: {run.address}   metrics: {run.address}metrics")
    sys.stdout.flush()


def _say_end(run: Run, why: str, failure: BaseException | None) -> int:
    t, state = run.engine.totals, run.log.state
    print(
        f"{why}: {t.offered} frames, {t.delivered} results ({t.answered} with a mask, {t.overloaded} turned away), "
        f"{t.recorded} lines; {run.status.missed} missed the objective"
    )
    if t.offered == 0 and run.checked.before.next_frame:
        print(
            f"No frame was left: the log in {run.options.log} ends with frame {run.checked.before.next_frame - 1}. "
            "Give another --log for a fresh run, or --repeat."
        )
    if failure is not None:
        told = isinstance(failure, CarbonPilotError)
        log.error("The frames ended with an error: %s", failure, exc_info=None if told else failure)
    if state.dropped:
        log.error("%d lines of the log were lost: %s", state.dropped, state.trouble or "the disk was full")
    if t.faults:
        log.error("%d errors of the runtime's own code; see above.", run.faults)
    return 1 if failure is not None or state.dropped or run.faults else 0
