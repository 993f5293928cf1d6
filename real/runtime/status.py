"""What the status page shows, as plain data; put together when it is asked for, off the request path."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..log_records import FrameRecord, Header
from .engine import Totals
from .log_writer import LogState
from .quantile import quantile
from .savings import Savings
from .world import World

SCHEMA = "carbonpilot/status/1"
RECENT = 300  # frames that quantiles and shares are taken over
CHART = 150  # latencies in the chart
DECISIONS = 15


class Status:
    """Keeps the last frames.

    Args:
        header: of the run.
        world: for links, feeds, breakers and the device.
        savings: for the carbon saved.
        totals: of the engine.
        log_state: how the log is doing.
        silent_meters: meters that give nothing, and why.
    """

    def __init__(
        self,
        header: Header,
        world: World,
        savings: Savings,
        totals: Callable[[], Totals],
        log_state: Callable[[], LogState],
        silent_meters: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._header, self._world, self._savings, self._totals = header, world, savings, totals
        self._log_state, self._silent_meters = log_state, silent_meters
        self._recent: deque[FrameRecord] = deque(maxlen=RECENT)
        self._lock = threading.Lock()  # held for one append or one copy
        self._spent_mg = self._energy_j = 0.0
        self._of_unknown_carbon = self._of_unknown_energy = 0
        self.missed = 0  # frames above the objective or without a result

    def take(self, record: FrameRecord) -> None:
        """Take a frame."""
        light = replace(record, observation=None if record.observation is None else [], attempts=[])
        with self._lock:
            self._recent.append(light)  # without what the page does not show: 300 frames are kept
        self.missed += record.missed
        if record.energy_j_marginal is None:
            self._of_unknown_energy += 1
        else:
            self._energy_j += record.energy_j_marginal
        if record.carbon_mg_marginal is None:
            self._of_unknown_carbon += 1
        else:
            self._spent_mg += record.carbon_mg_marginal

    def content(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        with self._lock:
            recent = list(self._recent)
        h, seen, now_s = self._header, self._world.seen, self._world.now_s()
        return {
            "schema": SCHEMA,
            "run": h.run,
            "mode": h.mode,
            "scenario": h.scenario,
            "bundle": h.bundle,
            "providers": h.providers,
            "up_s": round(now_s - h.started_monotonic_s, 1),
            "slo_ms": h.slo_ms,
            "frames": {**vars(self._totals()), "missed": self.missed, "in_flight": self._world.in_flight()},
            "recent": _recent(recent),
            "chart": [
                {
                    "frame": r.frame,
                    "latency_ms": _short(r.latency_ms),
                    "executed": r.executed,
                    "missed": r.missed,
                }
                for r in recent[-CHART:]
            ],
            "decisions": [_decision(r) for r in reversed(recent[-DECISIONS:])],
            "carbon": self._carbon(),
            "absent_nodes": list(self._world.absent),
            "links": {name: _link(link, now_s) for name, link in seen.snapshot.links.items()},
            "loads": {
                name: {
                    "load": _short(load.load, 3),
                    "age_s": None if load.measured_s is None else round(now_s - load.measured_s, 1),
                    "error": load.error,
                }
                for name, load in seen.snapshot.loads.items()
            },
            "feeds": {
                name: {
                    "carbon_g_per_kwh": round(float(latest.reading.carbon_g_per_kwh), 1),
                    "kind": latest.reading.kind,
                    "age_s": round(latest.age_s),
                    "stale": latest.stale,
                    "estimated": latest.reading.estimated,
                    "source": latest.reading.source,
                    "failures": latest.failures,
                }
                for name, latest in seen.zones.items()
            },
            "zones_without_reading": [z for z in self._world.zones if z not in seen.zones],
            "breakers": {
                name.removeprefix("breaker "): state
                for name, state in seen.states.items()
                if name.startswith("breaker ")
            },
            "device": self._world.device(),
            "log": vars(self._log_state()),
            "silent_meters": dict(self._silent_meters()),
        }

    def _carbon(self) -> dict[str, Any]:
        saved = {
            name: {
                "saved_mg": round(total.saved_mg, 3),
                "share": round(total.saved_mg / total.baseline_mg, 4) if total.baseline_mg > 0 else None,
                "frames": total.frames,
            }
            for name, total in self._savings.totals.items()
        }
        return {
            "spent_mg": round(self._spent_mg, 3),
            "energy_j": round(self._energy_j, 3),
            "frames_of_unknown_carbon": self._of_unknown_carbon,
            "frames_of_unknown_energy": self._of_unknown_energy,
            "saved": saved,
        }


def _recent(frames: list[FrameRecord]) -> dict[str, Any]:
    """Quantiles and shares over the last frames."""
    latencies = [f.latency_ms for f in frames if f.latency_ms is not None]
    overheads = [f.overhead_ms for f in frames if f.overhead_ms is not None]
    decided = [f.decision_us for f in frames if f.observation is not None]
    return {
        "frames": len(frames),
        "p50_ms": _short(quantile(latencies, 0.5)) if latencies else None,
        "p95_ms": _short(quantile(latencies, 0.95)) if latencies else None,
        "p99_ms": _short(quantile(latencies, 0.99)) if latencies else None,
        "miss_rate": round(sum(f.missed for f in frames) / len(frames), 4) if frames else None,
        "executed": dict(Counter(f.executed or "no result" for f in frames)),
        "reasons": dict(Counter(f.reason for f in frames)),
        "fallbacks": dict(Counter(f.fallback for f in frames if f.fallback)),
        "overhead_p50_ms": _short(quantile(overheads, 0.5), 3) if overheads else None,
        "decision_p50_us": _short(quantile(decided, 0.5)) if decided else None,
    }


def _decision(r: FrameRecord) -> dict[str, Any]:
    return {
        "frame": r.frame,
        "utc": r.issued_utc,
        "image": r.image,
        "wanted": r.wanted,
        "placement": r.placement,
        "reason": r.reason,
        "executed": r.executed,
        "fallback": r.fallback,
        "latency_ms": _short(r.latency_ms),
        "missed": r.missed,
        "carbon_mg": _short(r.carbon_mg_marginal, 4),
        "problem": r.problem,
    }


def _link(link: Any, now_s: float) -> dict[str, Any]:
    return {
        "rtt_ms": _short(link.rtt_ms),
        "loss_pct": _short(link.loss_pct, 2) if link.probes else None,
        "uplink_mbps": _short(link.uplink.rate_mbps),
        "uplink_assumed": link.uplink.assumed,
        "age_s": None if link.answered_s is None else round(link.age_s(now_s), 1),
        "error": link.error,
    }


def _short(value: Any, digits: int = 1) -> float | None:
    return None if value is None else round(float(value), digits)
