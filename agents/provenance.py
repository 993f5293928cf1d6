"""Where a result comes from: versions, source revision, command line, and which files a trace folder held."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__

PACKAGES = ("numpy", "torch", "gymnasium", "stable-baselines3", "sb3-contrib", "tensorboard", "codecarbon")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that a training run depends on."""
    found = {"python": platform.python_version(), "carbonpilot": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str:
    """Git revision of the source, with ``-dirty`` if files differ from it; "unknown" outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # an installed package may lie inside somebody else's checkout
        return "unknown"
    revision = _git(root, "rev-parse", "HEAD")
    if revision is None:
        return "unknown"
    return revision + ("-dirty" if _git(root, "status", "--porcelain") else "")


_PROGRAM, _MODULE = "carbonpilot", "cli.py"


def command_line() -> str:
    """The command as typed, its program without the folder, and paths below the working folder relative to it.

    It is to be repeated elsewhere, so where the working folder lies is nobody's business, nor that the program was
    called as a module.
    """
    here, program = f"{Path.cwd()}/", Path(sys.argv[0]).name
    called = _PROGRAM if program == _MODULE else program
    return shlex.join([called, *(word.removeprefix(here) for word in sys.argv[1:])])


def session(steps: int, target: int) -> dict[str, Any]:
    """What one session of a run ran with.

    Args:
        steps: environment steps made before it.
        target: steps that it aims at.
    """
    return {
        "started_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command_line(),
        "steps_before": steps,
        "steps_target": target,
        "commit": commit(),
        "versions": versions(),
        "platform": platform.platform(),
    }


def trace_fingerprint(folder: Path) -> str:
    """SHA-256 over names and sizes of the files in a trace folder: cheap, and changes when files do."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
