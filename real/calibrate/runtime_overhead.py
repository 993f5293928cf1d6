"""What the runtime itself adds to every frame: waking up for it, observing, deciding, handing over.

The simulator has no term for it, so it is part of every service time. It is measured by the runtime with stand-ins that
compute nothing: a process of its own, as later ones will be.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ..log_records import FrameRecord, read_log
from ..site_file import SiteFile
from .site_writer import site_yaml

_RUN = "from carbonpilot.cli import main; main()"
SKIPPED = 3  # frames at the beginning, in which everything is cold
LONGEST_S = 120.0


def measure_overhead(draft: SiteFile, frames: int, rate_per_s: float) -> npt.NDArray[np.float64]:
    """Run that many frames with stand-ins; latency less the executors' time of each (n,), ms.

    Raises:
        InputError: the runtime did not run.
    """
    with tempfile.TemporaryDirectory(prefix="carbonpilot-") as folder:
        site, log = Path(folder, "site.yaml"), Path(folder, "log")
        site.write_text(site_yaml(draft))
        argv = [
            *("run", "--site", str(site), "--policy", "always-local", "--stand-in", "--mode", "active"),
            *("--images", f"synthetic:{frames}", "--log", str(log), "--rate", f"{rate_per_s:g}"),
            *("--listen", "none", "--fallback", "never", "--queue", "64"),
        ]
        try:
            done = subprocess.run(
                [sys.executable, "-c", _RUN, *argv],
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"The runtime did not end within {LONGEST_S:g} s with stand-ins.") from error
        if done.returncode != 0:
            raise InputError(f"The runtime did not run with stand-ins: {_last_line(done.stderr)}")
        records = [r for r in read_log(log) if isinstance(r, FrameRecord)]
    found = [r.overhead_ms for r in records[SKIPPED:] if r.overhead_ms is not None]
    if len(found) < 5:
        raise InputError(f"The runtime answered {len(found)} of {frames} frames with stand-ins.")
    return np.array(found)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
