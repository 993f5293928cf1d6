"""Everything that is wrong or noteworthy about a trace file: what `traces check` shows."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from .defects import Defect, DefectLog
from .parsed import Parsed
from .readers import parse_file
from .records import ArrivalTrace, GridTrace, NetworkTrace
from .steps import F64, gaps, repeats, runs, uneven

STALE_S = 24 * 3600.0  # a grid that shows one value for a day: a feed that hangs (bound assumed)
STALL_MS = 1000.0  # a mean reply that takes longer is a stall: nothing useful gets through (bound assumed)


def check_file(path: str | Path) -> list[Defect]:
    """All errors and warnings of a file, errors first; at most 50 of each are listed, the rest counted.

    Raises:
        InputError: the file does not exist or cannot be read.
    """
    log = DefectLog(str(path))
    parsed = parse_file(path, log)
    if parsed is not None:
        _warn(parsed, log)
    return log.listed()


def _warn(parsed: Parsed, log: DefectLog) -> None:
    trace = parsed.trace
    if isinstance(trace, GridTrace):
        _warn_time(trace.unix_s, trace.step_s, parsed, log)
        _warn_grid(trace, parsed, log)
    elif isinstance(trace, NetworkTrace):
        _warn_time(trace.time_s, trace.step_s, parsed, log)
        _warn_network(trace, parsed, log)
    elif trace.kind == "rate":
        _warn_time(trace.time_s, trace.step_s, parsed, log)
        _warn_rate(trace, parsed, log)


def _warn_time(time_s: F64, step_s: float, parsed: Parsed, log: DefectLog) -> None:
    column = parsed.names["time"]
    for gap in gaps(time_s, step_s):
        rows = f"{gap.missing_s:g} s without rows before this one (usual step {step_s:g} s)"
        log.warning(parsed.lines[gap.row], column, f"gap: {rows}; it is kept as a gap, not filled")
    odd = uneven(time_s, step_s)
    if len(odd):
        log.warning(
            parsed.lines[int(odd[0])],
            column,
            f"{len(odd)} rows do not follow after one step of {step_s:g} s",
        )


def _warn_grid(trace: GridTrace, parsed: Parsed, log: DefectLog) -> None:
    column = parsed.names["carbon_g_per_kwh"]
    missing = np.isnan(trace.carbon_g_per_kwh)
    if missing.all():
        log.warning(parsed.lines[0], column, "no actual intensity in any row: this file holds forecasts only")
    else:
        _warn_runs(missing, "not measured (empty, NaN or null)", column, parsed, log)
    for first, length in repeats(trace.carbon_g_per_kwh):
        if length * trace.step_s >= STALE_S and length > 1:
            value = trace.carbon_g_per_kwh[first]
            said = (
                f"stale: {value:g} g/kWh is repeated for {length * trace.step_s / 3600:g} h ({length} rows)"
            )
            log.warning(parsed.lines[first], column, f"{said}; did the feed hang?")
    if trace.estimated.any():
        first, share = int(trace.estimated.argmax()), trace.estimated.mean()
        said = f"{trace.estimated.sum()} rows ({share:.1%}) are estimated, not measured; first here"
        log.warning(parsed.lines[first], column, said)


def _warn_network(trace: NetworkTrace, parsed: Parsed, log: DefectLog) -> None:
    has_rtt, has_loss = ~np.isnan(trace.rtt_ms).all(), ~np.isnan(trace.loss_pct).all()
    out = trace.loss_pct == 100
    if has_rtt and has_loss:
        _warn_runs(
            np.isnan(trace.rtt_ms) & ~out, "no rtt and no loss of 100 %: not measured", "rtt_ms", parsed, log
        )
    both = out & ~np.isnan(trace.rtt_ms)
    _warn_first(both, "loss is 100 %, and yet there is an rtt", "rtt_ms", parsed, log)
    _warn_first(trace.rtt_ms > STALL_MS, f"rtt above {STALL_MS:g} ms: a stall", "rtt_ms", parsed, log)
    # Means are rounded coarser than maxima in some sources, so half a millisecond below is no contradiction.
    below = trace.rtt_max_ms < trace.rtt_ms - 0.5
    _warn_first(below, "the slowest reply is faster than the mean", "rtt_max_ms", parsed, log)


def _warn_rate(trace: ArrivalTrace, parsed: Parsed, log: DefectLog) -> None:
    assert trace.rate_req_per_s is not None
    _warn_runs(
        np.isnan(trace.rate_req_per_s), "no rate: a gap of the recording", "rate_req_per_s", parsed, log
    )


def _warn_runs(mask: np.ndarray, said: str, column: str, parsed: Parsed, log: DefectLog) -> None:
    for first, length in runs(mask):
        log.warning(parsed.lines[first], column, f"{said}, {length} row{'s' if length > 1 else ''} from here")


def _warn_first(mask: np.ndarray, said: str, column: str, parsed: Parsed, log: DefectLog) -> None:
    if mask.any():
        log.warning(parsed.lines[int(mask.argmax())], column, f"{said}; {int(mask.sum())} rows, first here")


def utc(unix_s: float) -> str:
    """An instant as ISO 8601 in UTC, e.g. 2022-01-01T00:00:00Z."""
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
