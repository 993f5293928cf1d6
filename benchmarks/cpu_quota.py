"""A CPU quota for processes that run already, as Docker's ``--cpus``: cgroup v1 or v2, whichever is there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

PERIOD_US = 100_000  # Docker's and the kernel's default
ROOT = Path("/sys/fs/cgroup")


def version(root: Path = ROOT) -> str | None:
    """The cgroups, v1 or v2, in which this process may set quotas; None where it may not."""
    if os.access(root / "cpu", os.W_OK) and (root / "cpu" / "cpu.cfs_quota_us").exists():
        return "v1"
    controllers = root / "cgroup.controllers"
    if controllers.exists() and "cpu" in controllers.read_text().split() and os.access(root, os.W_OK):
        return "v2"
    return None


class CpuQuota:
    """A group with a quota for the length of a with block; afterwards its processes are where they came from."""

    def __init__(self, name: str, cpus: float, root: Path = ROOT) -> None:
        """Nothing is made before the with block.

        Args:
            name: of the group; must be new.
            cpus: share of a CPU, as Docker's ``--cpus``.
            root: where the cgroups are mounted.
        """
        found = version(root)
        if found is None:
            raise SystemExit(
                f"No cgroup under {root} takes CPU quotas: neither the v1 controller cpu nor v2's cpu.max can be "
                "written. Run as root, outside of a container without that right."
            )
        self.version, self.cpus = found, cpus
        self._base = root / "cpu" if found == "v1" else root
        self.folder = self._base / name

    def __enter__(self) -> CpuQuota:
        """Make the group and set its quota."""
        quota = round(self.cpus * PERIOD_US)
        if self.version == "v2":
            (self._base / "cgroup.subtree_control").write_text("+cpu")
        self.folder.mkdir()
        if self.version == "v1":
            (self.folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self.folder / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self.folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        return self

    def __exit__(self, *_: object) -> None:
        """Let the processes out and take the group away."""
        for pid in (self.folder / "cgroup.procs").read_text().split():
            _move(self._base, int(pid))
        for _attempt in range(50):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.02)  # a process that is just ending

    def add(self, pids: Iterable[int]) -> None:
        """Put processes, with all their threads, under the quota; children that they start later are under it too."""
        for pid in pids:
            _move(self.folder, pid)

    def throttled_s(self) -> float:
        """How long the group has been held back so far."""
        stat = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return (
            int(stat["throttled_time"]) / 1e9
            if "throttled_time" in stat
            else int(stat["throttled_usec"]) / 1e6
        )


def session_of(leader: int) -> list[int]:
    """Processes of a session, by its first: a server with the processes of its models."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader:
                    found.append(int(entry.name))
    return found


def _move(folder: Path, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        (folder / "cgroup.procs").write_text(str(pid))
