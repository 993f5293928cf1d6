"""What the test bed's link can be: the named profiles, and recordings played second by second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...envs.errors import InputError
from ...envs.traces.network_pieces import path_rows, uplink_shape
from ...envs.traces.readers import read_network
from ...envs.transfer.profiles import PROFILES, Profile, profile_named

__all__ = ["PROFILES", "Profile", "Schedule", "profile_named", "profile_or_schedule", "read_schedule"]


@dataclass(frozen=True)
class Schedule:
    """A link that changes: each profile holds from its time to the next one's.

    Attributes:
        name: where it comes from.
        times_s: start of each profile (n,), ascending from 0.
        profiles: what the link is from then on (n,).
        end_s: when the last profile ends.
        cuts: gaps of the recording that were left out, its stretches being played end to end.
    """

    name: str
    times_s: tuple[float, ...]
    profiles: tuple[Profile, ...]
    end_s: float
    cuts: int = 0


def read_schedule(path: str | Path, rate_mbps: float | None = None) -> Schedule:
    """Read a recorded link (``time_s,rtt_ms,loss_pct,up_mbps``) as a schedule.

    A row without a reply is an outage. Rows that were not measured are left out, never filled.

    Args:
        path: the trace.
        rate_mbps: rate of the link where the recording has none of its own.

    Raises:
        TraceError: the file is broken (names line and column), or holds no round-trip time.
        InputError: neither the file nor the caller says the rate.
    """
    trace = read_network(path)
    rows = path_rows(trace, slice(None))
    if not rows:
        raise InputError(
            f"{path}: no row with a round-trip time, so there is no link to play. See `traces check`."
        )
    rate_of = _rates(str(path), trace.up_mbps, rate_mbps)
    name, profiles = Path(path).stem, []
    for piece in rows:
        rates = rate_of(piece.shape, len(piece.rtt_ms))
        for row in zip(piece.rtt_ms, piece.jitter_ms, piece.loss, rates, piece.blocked, strict=True):
            profiles.append(Profile(name, *map(float, row[:4]), outage=bool(row[4])))
    times = tuple(float(i * trace.step_s) for i in range(len(profiles)))
    return Schedule(name, times, tuple(profiles), len(profiles) * trace.step_s, cuts=len(rows) - 1)


def profile_or_schedule(text: str, rate_mbps: float | None = None) -> Profile | Schedule:
    """What ``--profile`` takes: the name of a profile, or the path of a trace."""
    if text in PROFILES or not (Path(text).suffix or Path(text).exists()):
        return profile_named(text)
    return read_schedule(text, rate_mbps)


def _rates(
    path: str, up_mbps: np.ndarray, given: float | None
) -> Callable[[np.ndarray | None, int], np.ndarray]:
    """How the rate of a stretch is found: the recording's own, or the given one."""
    measured = up_mbps[~np.isnan(up_mbps)]
    if measured.size and measured.sum() > 0:
        # The shape is the uplink over its median, with a floor where a second had nothing (network_pieces).
        scale = float(np.nanmedian(up_mbps) or np.nanmean(up_mbps))
        assert np.isfinite(uplink_shape(measured)).all()
        return lambda shape, n: np.full(n, scale) if shape is None else shape * scale
    if given is None:
        raise InputError(f"{path}: up_mbps was not measured; say the rate of the link with --rate-mbps.")
    return lambda _, n: np.full(n, float(given))
