"""Measured uploads as files: the rows as CSV in the form of the recorded ones, and how they were measured as JSON."""

from __future__ import annotations

import csv
import io
import itertools
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...envs.files import atomic_write_text, write_json
from ..probes.tcp_info import BbrInfo
from .profiles import Profile
from .uploads import MOST_LATE_MS, Job, Measured, UploadBed

COLUMNS = (
    *("profile", "congestion_control", "payload_bytes", "connection", "index", "upload_and_reply_ms"),
    *("tcp_rtt_ms", "tcp_rttvar_ms", "snd_cwnd_segments", "total_retransmits", "tcp_min_rtt_ms"),
    *("rig_rtt_ms", "rig_packet_us", "bbr_bandwidth_mbps", "bbr_min_rtt_ms"),
)
_NOTHING = Profile("nothing", 0.0, 0.0, 0.0, 10_000.0)  # a link that adds nothing but its own cost
_RIG_UPLOADS, _RIG_SKIPPED, _RIG_BYTES, _SEGMENT_BYTES = 40, 5, 1_000_000, 1448


@dataclass(frozen=True)
class Rig:
    """What the rig adds by itself: ms of a one-byte upload, and microseconds for each further packet."""

    rtt_ms: float
    packet_us: float


def measure_with_rig(bed: UploadBed, jobs: Sequence[Job]) -> Iterator[tuple[Measured, Rig]]:
    """Measure every job; before those of one kind (profile, congestion control, payload) the rig by itself.

    A virtual machine's host is fast or slow for minutes at a time, so one measurement of the rig does not do for all.
    """
    for _, cell in itertools.groupby(jobs, lambda job: _order_of(job)[:3]):
        rig = measure_rig(bed)
        for measured in bed.measure(list(cell)):
            yield measured, rig


def measure_rig(bed: UploadBed) -> Rig:
    """What the rig adds by itself, from uploads over a link without delay, loss or rate (medians)."""
    medians = []
    for payload in (1, _RIG_BYTES):
        (measured,) = bed.measure([Job(_NOTHING, "cubic", payload, 0, _RIG_UPLOADS)])
        medians.append(statistics.median(u.took_ms for u in measured.uploads[_RIG_SKIPPED:]))
    per_packet_us = 1e3 * (medians[1] - medians[0]) / (_RIG_BYTES / _SEGMENT_BYTES)
    return Rig(round(medians[0], 4), round(per_packet_us, 3))


def write_uploads(path: str | Path, done: Sequence[tuple[Measured, Rig]]) -> None:
    """Write the connections that were measured on time; an existing file is replaced whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for measured, rig in sorted(((m, r) for m, r in done if m.kept), key=lambda pair: _order_of(pair[0].job)):
        writer.writerows(_rows(measured, rig))
    atomic_write_text(path, text.getvalue())


def write_summary(path: str | Path, done: Sequence[tuple[Measured, Rig]], **more: Any) -> None:
    """Write how the rows were measured: the rig, the machine, and what was thrown away for a late relay."""
    from ... import __version__

    connections = [measured for measured, _ in done]
    late = [m.late_p99_ms for m in connections if m.late_p99_ms is not None]
    write_json(
        path,
        {
            "schema": "carbonpilot/uploads/1",
            "carbonpilot_version": __version__,
            "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "rig_rtt_ms": _spread([rig.rtt_ms for _, rig in done]),
            "rig_packet_us": _spread([rig.packet_us for _, rig in done]),
            "most_late_ms": MOST_LATE_MS,
            "late_p99_ms": {"median": statistics.median(late), "max": max(late)} if late else None,
            "connections": len(done),
            "connections_dropped": sum(not m.kept for m in connections),
            "connections_repeated": sum(m.starved > 0 for m in connections),
            **more,
        },
    )


def summary_path(path: str | Path) -> Path:
    """Where the summary of a CSV lies: beside it."""
    return Path(path).with_suffix(".summary.json")


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "median": statistics.median(values), "most": max(values)}


def _order_of(job: Job) -> tuple[str, str, int, int]:
    return job.profile.name, job.congestion_control, job.payload_bytes, job.connection


def _rows(measured: Measured, rig: Rig) -> list[tuple[Any, ...]]:
    job, rows = measured.job, []
    for upload in measured.uploads:
        info = upload.info
        rows.append(
            (
                *(job.profile.name, job.congestion_control, job.payload_bytes, job.connection, upload.index),
                *(f"{upload.took_ms:.3f}", _ms(info.rtt_us), _ms(info.rttvar_us)),
                *(info.snd_cwnd, info.total_retrans, _ms(info.min_rtt_us), rig.rtt_ms, rig.packet_us),
                *_bbr_columns(upload.bbr),
            )
        )
    return rows


def _bbr_columns(bbr: BbrInfo | None) -> tuple[str | None, str | None]:
    """Empty under another congestion control."""
    if bbr is None:
        return None, None
    return f"{8e-6 * bbr.bandwidth_bytes_per_s:.3f}", _ms(bbr.min_rtt_us)


def _ms(us: int | None) -> str | None:
    return None if us is None else f"{us / 1e3:.3f}"
