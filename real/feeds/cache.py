"""The last good readings on disk, so that a restart without network goes on with what was known."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...envs.files import write_json, writing
from ..clock import Clock, SystemClock
from .checks import FUTURE_S, Answer
from .reading import FeedError, Reading

SCHEMA = "carbonpilot/feed-cache/1"
LARGEST_BYTES = 1_000_000

log = logging.getLogger(__name__)


class FeedCache:
    """A JSON file with one reading per source and zone, written whole or not at all.

    Attributes:
        told: what was wrong with the file on disk, one line each; empty where nothing was.
    """

    def __init__(self, path: str | Path, clock: Clock | None = None) -> None:
        """Read the file if it exists; one that is broken is set aside under another name.

        Raises:
            InputError: it exists and cannot be read.
        """
        self.path, self.clock = Path(path), clock or SystemClock()
        self.told: list[str] = []
        self._writing = threading.Lock()  # several background feeds may share a cache
        self._readings: dict[tuple[str, str], Reading] = {}
        with writing(self.path):
            self._load()

    def get(self, source: str, zone: str) -> Reading | None:
        """The last good reading of a source's zone, or None."""
        return self._readings.get((source, zone))

    def put(self, reading: Reading) -> None:
        """Keep a reading and write the file.

        Raises:
            CarbonPilotError: the disk is full, or the path cannot be written; the reading is kept in memory.
        """
        with self._writing:
            self._readings = {**self._readings, (reading.source, reading.zone): reading}
            rows = [_row(r) for r in self._readings.values()]
            write_json(self.path, {"schema": SCHEMA, "readings": rows})

    def _load(self) -> None:
        try:
            if self.path.stat().st_size > LARGEST_BYTES:
                raise ValueError(f"larger than {LARGEST_BYTES} bytes")
            content = json.loads(self.path.read_bytes())
            if not isinstance(content, dict) or content.get("schema") != SCHEMA:
                raise ValueError(f"no {SCHEMA} file")
            readings = [self._restored(row) for row in content["readings"]]
        except FileNotFoundError:
            return
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            OverflowError,
            FeedError,
        ) as err:
            self._set_aside(err)
            return
        self._readings = {(r.source, r.zone): r for r in readings if r is not None}

    def _restored(self, row: dict[str, Any]) -> Reading | None:
        """A reading of an earlier process; None where the calendar cannot tell how old it is."""
        answer = Answer("feed cache", str(row["zone"]), zero_is_real=True)
        received_at = answer.moment(row["received_at"], "received_at")
        now = self.clock.utc()
        passed_s, age_s = (now - received_at).total_seconds(), float(row["age_when_received_s"])
        if not math.isfinite(age_s) or age_s < 0:
            raise ValueError(f"an age of {age_s} s")
        if passed_s < -FUTURE_S:
            self._tell(
                f"{self.path}: the reading of {answer.zone} was received at {_iso(received_at)}, after now "
                f"({_iso(now)}); its age cannot be told, so it is not used. Check the clock (timedatectl)."
            )
            return None
        if row["kind"] not in ("average", "marginal") or not isinstance(row["estimated"], bool):
            raise ValueError("kind or estimated")
        if row["factors"] not in ("lifecycle", "direct", "not stated"):
            raise ValueError("factors")
        return Reading(
            zone=answer.zone,
            carbon_g_per_kwh=answer.carbon(row["carbon_g_per_kwh"], "carbon_g_per_kwh"),
            kind=row["kind"],
            measured_at=answer.moment(row["measured_at"], "measured_at"),
            received_monotonic_s=self.clock.monotonic_s(),
            received_at=now,  # the moment that the age below is told for
            age_when_received_s=age_s + max(0.0, passed_s),
            estimated=row["estimated"],
            source=str(row["source"]),
            factors=row["factors"],
            note=str(row["note"]),
            restored=True,
        )

    def _set_aside(self, err: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.broken-{self.clock.utc():%Y%m%dT%H%M%S}")
        os.replace(self.path, aside)
        why = f"{type(err).__name__}: {' '.join(str(err).split())[:120]}"
        self._tell(
            f"{self.path} is no feed cache ({why}). It was set aside as {aside.name}; a new one is begun."
        )

    def _tell(self, line: str) -> None:
        self.told.append(line)
        log.warning(line)


def _row(reading: Reading) -> dict[str, Any]:
    return {
        "source": reading.source,
        "zone": reading.zone,
        "kind": reading.kind,
        "carbon_g_per_kwh": reading.carbon_g_per_kwh,
        "estimated": reading.estimated,
        "factors": reading.factors,
        "measured_at": _iso(reading.measured_at),
        "received_at": _iso(reading.received_at),
        "age_when_received_s": reading.age_when_received_s,
        "note": reading.note,
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
