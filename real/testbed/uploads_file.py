"""Measured uploads as files: the rows as CSV in the form of the recorded ones, and how they were measured as JSON."""

from __future__ import annotations

import csv
import io
import platform
import statistics
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...envs.files import atomic_write_text, write_json
from .profiles import Profile
from .uploads import MOST_LATE_MS, Job, Measured, UploadBed

COLUMNS = (
    *("profile", "congestion_control", "payload_bytes", "connection", "index", "upload_and_reply_ms"),
    *("tcp_rtt_ms", "tcp_rttvar_ms", "snd_cwnd_segments", "total_retransmits", "tcp_min_rtt_ms"),
    *("rig_rtt_ms", "rig_packet_us"),
)
_NOTHING = Profile("nothing", 0.0, 0.0, 0.0, 10_000.0)  # a link that adds nothing but its own cost
_RIG_UPLOADS, _RIG_SKIPPED, _RIG_BYTES, _SEGMENT_BYTES = 40, 5, 1_000_000, 1448


def measure_rig(bed: UploadBed) -> dict[str, float]:
    """What the rig adds by itself, from uploads over a link without delay, loss or rate.

    Returns:
        ``rig_rtt_ms``: median of a one-byte upload; ``rig_packet_us``: further time for each further packet.
    """
    medians = []
    for payload in (1, _RIG_BYTES):
        (measured,) = bed.measure([Job(_NOTHING, "cubic", payload, 0, _RIG_UPLOADS)])
        medians.append(statistics.median(u.took_ms for u in measured.uploads[_RIG_SKIPPED:]))
    per_packet_us = 1e3 * (medians[1] - medians[0]) / (_RIG_BYTES / _SEGMENT_BYTES)
    return {"rig_rtt_ms": round(medians[0], 4), "rig_packet_us": round(per_packet_us, 3)}


def write_uploads(path: str | Path, done: Sequence[Measured], rig: dict[str, float]) -> None:
    """Write the connections that were measured on time; an existing file is replaced whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for measured in sorted((m for m in done if m.kept), key=_order):
        writer.writerows(_rows(measured, rig))
    atomic_write_text(path, text.getvalue())


def write_summary(path: str | Path, done: Sequence[Measured], rig: dict[str, float], **more: Any) -> None:
    """Write how the rows were measured: the rig, the machine, and what was thrown away for a late relay."""
    from ... import __version__

    late = [m.late_p99_ms for m in done if m.late_p99_ms is not None]
    write_json(
        path,
        {
            "schema": "carbonpilot/uploads/1",
            "carbonpilot_version": __version__,
            "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "kernel": platform.release(),
            "machine": platform.machine(),
            **rig,
            "most_late_ms": MOST_LATE_MS,
            "late_p99_ms": {"median": statistics.median(late), "max": max(late)} if late else None,
            "connections": len(done),
            "connections_dropped": sum(not m.kept for m in done),
            "connections_repeated": sum(m.starved > 0 for m in done),
            **more,
        },
    )


def summary_path(path: str | Path) -> Path:
    """Where the summary of a CSV lies: beside it."""
    return Path(path).with_suffix(".summary.json")


def _order(measured: Measured) -> tuple[str, str, int, int]:
    job = measured.job
    return job.profile.name, job.congestion_control, job.payload_bytes, job.connection


def _rows(measured: Measured, rig: dict[str, float]) -> list[tuple[Any, ...]]:
    job, rows = measured.job, []
    for upload in measured.uploads:
        info = upload.info
        least = None if info.min_rtt_us is None else f"{info.min_rtt_us / 1e3:.3f}"
        rows.append(
            (
                *(job.profile.name, job.congestion_control, job.payload_bytes, job.connection),
                *(
                    upload.index,
                    f"{upload.took_ms:.3f}",
                    f"{info.rtt_us / 1e3:.3f}",
                    f"{info.rttvar_us / 1e3:.3f}",
                ),
                *(info.snd_cwnd, info.total_retrans, least, rig["rig_rtt_ms"], rig["rig_packet_us"]),
            )
        )
    return rows
