"""What a network recording says about a link, second by second, in the terms of a LinkWorld."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import STALL_MS
from .records import NetworkTrace
from .steps import GAP_FACTOR, runs

F32 = npt.NDArray[np.float32]

# The slowest of 5 normal draws lies 1.16 sigma above their mean, of 20 draws 1.87; files do not say how many.
SLOWEST_SIGMAS = 1.5  # assumed
JITTER_SHARE = 0.15  # jitter as a share of the RTT where the source has no slowest reply (assumed)
SHAPE_FLOOR = 0.05  # least uplink, share of its median: a second with 0 still drips (assumed)


@dataclass(frozen=True, eq=False)
class PathRows:
    """Uninterrupted seconds of one recording with measured RTT and loss.

    Attributes:
        rtt_ms: mean RTT (n,); in blocked seconds the last one measured, which holds again after them.
        jitter_ms: standard deviation within the second, from slowest and mean reply (n,); held likewise.
        loss: share of probes lost (n,), 0 to 1; held likewise, because ``blocked`` says that nothing passes.
        blocked: no reply in that second, or a reply after more than ``STALL_MS`` (n,).
        shape: uplink over its median (n,), or None where this recording has none of its own.
    """

    rtt_ms: F32
    jitter_ms: F32
    loss: F32
    blocked: npt.NDArray[np.bool_]
    shape: F32 | None


def path_rows(trace: NetworkTrace, part: slice) -> list[PathRows]:
    """Cut a part of a recording into stretches without gaps and without unmeasured seconds.

    A second without a reply is blocked. One with neither a reply nor a loss, in a source that counts losses,
    was not measured, and cuts the recording. A source that counts no losses (reliable transport) has loss 0:
    its bad radio is in the RTT. Recordings made of bursts are put end to end as their file has them; a
    segment border is not a gap.
    """
    rtt, loss = trace.rtt_ms[part], trace.loss_pct[part] / 100.0
    if np.isnan(rtt).all():
        return []
    has_loss = not np.isnan(trace.loss_pct).all()
    loss = loss if has_loss else np.zeros_like(rtt)
    blocked = np.isnan(rtt) | (loss == 1.0) | (rtt > STALL_MS)
    # Neither a reply nor a lost probe: nobody looked, so nothing may be said about that second.
    known = ~np.isnan(loss)
    spread = trace.rtt_max_ms[part] - rtt
    jitter = np.where(np.isnan(spread), JITTER_SHARE * rtt, np.maximum(spread, 0.0) / SLOWEST_SIGMAS)
    shape = uplink_shape(trace.up_mbps[part]) if _measured_uplink(trace, part, blocked) else None
    out = []
    for first, length in _stretches(trace.time_s[part], trace.step_s, known):
        rows = slice(first, first + length)
        if blocked[rows].all():
            continue  # an outage without a single RTT in its stretch: there is nothing to hold
        usable = ~blocked[rows]
        out.append(
            PathRows(
                rtt_ms=_hold(rtt[rows], usable),
                jitter_ms=_hold(jitter[rows], usable),
                loss=_hold(loss[rows], usable),
                blocked=blocked[rows],
                shape=None if shape is None else shape[rows],
            )
        )
    return out


def shape_rows(trace: NetworkTrace, part: slice) -> list[F32]:
    """Uplink shapes of a capacity recording (one without RTT): gapless stretches, median 1 over the part."""
    up = trace.up_mbps[part]
    if not np.isnan(trace.rtt_ms).all() or not np.nansum(up) > 0:
        return []
    shape = uplink_shape(up)
    stretches = _stretches(trace.time_s[part], trace.step_s, ~np.isnan(up))
    return [shape[first : first + length] for first, length in stretches]


def uplink_shape(up_mbps: npt.NDArray[np.float64]) -> F32:
    """Uplink over its median, not below ``SHAPE_FLOOR``; where the median is 0, over the mean."""
    scale = np.nanmedian(up_mbps) or np.nanmean(up_mbps)
    return np.fmax(up_mbps / scale, SHAPE_FLOOR).astype(np.float32)


def _measured_uplink(trace: NetworkTrace, part: slice, blocked: npt.NDArray[np.bool_]) -> bool:
    up = trace.up_mbps[part]
    return bool(np.nansum(up) > 0 and not np.isnan(up[~blocked]).any())


def _stretches(time_s: np.ndarray, step_s: float, known: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first row, rows) of the stretches in which every second is there and known."""
    late = np.flatnonzero(np.diff(time_s) > GAP_FACTOR * step_s) + 1
    bounds = [0, *late.tolist(), len(time_s)]
    out = []
    for low, high in itertools.pairwise(bounds):
        out += [(low + first, length) for first, length in runs(known[low:high])]
    return out


def _hold(values: np.ndarray, usable: npt.NDArray[np.bool_]) -> F32:
    """Usable values, each held until the next; before the first, the first."""
    last = np.maximum.accumulate(np.where(usable, np.arange(len(values)), -1))
    return values[np.where(last < 0, usable.argmax(), last)].astype(np.float32)
