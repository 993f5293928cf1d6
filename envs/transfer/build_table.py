"""Makes the tables of `table.transfer_table`: ``python -m carbonpilot.envs.transfer.build_table`` (about five minutes).

Connections upload again and again on a reference path; each upload is a sample of (state before, extra round trips,
state after). Whatever else a connection remembers is in these samples as it really goes with a state, so the table's
chain stays as long in each state as the simulator's connections do. States that no connection came to are filled with
uploads of connections rebuilt from the state alone (`states`).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from . import bins
from .bbr import Bbr
from .connection import Path
from .cubic import Cubic
from .states import JITTER_SHARE, STATES
from .table import DRAWS, JITTER_SHARES, REFERENCE_RTT_MS, save_table
from .tcp import rest, upload

SEED = 20261120  # fixed: the tables are constants
CONNECTIONS, UPLOADS = 96, 150  # of each path and payload
GAP_MS = 100.0
LEAST = 24  # samples of a state below which rebuilt connections help out
REBUILT = 32
SWEEPS = 60  # alternating projections; the rest is below a thousandth

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Samples = tuple[I64, F64, I64]  # cell (path x state), extra round trips, next state


def build(
    congestion_control: str, jitter_share: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16]]:
    """Extra round trips and next states, (states, payload bins, path bins, draws) each."""
    kind = STATES[congestion_control]
    shape = (kind.size, bins.SEGMENTS.size, bins.N_PATHS)
    extra, following = np.empty((*shape, DRAWS)), np.empty((*shape, DRAWS), dtype=np.int16)
    lived = np.empty(shape)
    for segment in range(bins.SEGMENTS.size):
        extra[:, segment], following[:, segment], lived[:, segment] = build_segment(
            congestion_control, segment, jitter_share
        )
    return rising_means(extra, lived), following


def build_segment(
    congestion_control: str, segment: int, jitter_share: float
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """One payload bin: extra round trips and next states, (states, path bins, draws), and how often each was lived."""
    kind = STATES[congestion_control]
    cells, extra, following = _lived(congestion_control, segment, jitter_share)
    more_cells, more_extra, more_following = _rebuilt(congestion_control, segment, jitter_share)
    size = bins.N_PATHS * kind.size
    means, states, lived = np.empty((size, DRAWS)), np.empty((size, DRAWS), np.int64), np.empty(size)
    order, more_order = np.argsort(cells, kind="stable"), np.argsort(more_cells, kind="stable")
    bounds = np.searchsorted(cells[order], np.arange(size + 1))
    more_bounds = np.searchsorted(more_cells[more_order], np.arange(size + 1))
    starts = np.random.default_rng([SEED, segment, 2]).random(size)
    for cell in range(size):
        mine = order[bounds[cell] : bounds[cell + 1]]
        e, s = extra[mine], following[mine]
        if mine.size < LEAST:
            rest = more_order[more_bounds[cell] : more_bounds[cell + 1]]
            e, s = np.concatenate([e, more_extra[rest]]), np.concatenate([s, more_following[rest]])
        means[cell], states[cell] = condensed(e, s, starts[cell])
        lived[cell] = mine.size
    shaped = (bins.N_PATHS, kind.size)
    return (
        means.reshape(*shaped, DRAWS).transpose(1, 0, 2),
        states.reshape(*shaped, DRAWS).transpose(1, 0, 2),
        lived.reshape(shaped).T,
    )


def condensed(extra: F64, following: I64, u: float) -> tuple[F64, I64]:
    """Samples as `DRAWS` equal shares in ascending order.

    Round trips are the means of the shares. Next states are every n-th sample in the order of next states, so each has
    its share within one draw; they go to the draws in the order of their own round trips.

    Args:
        extra, following: samples (n,).
        u: where the choice of next states begins, 0 to below 1; drawn, so that rare ones are not lost everywhere.
    """
    count = extra.size
    ascending = np.sort(extra)
    edges = (np.arange(DRAWS + 1) * count) / DRAWS
    totals = np.interp(edges, np.arange(count + 1), np.concatenate([[0.0], np.cumsum(ascending)]))
    means = np.diff(totals) * DRAWS / count
    by_state = np.lexsort((extra, following))
    picked = by_state[((np.arange(DRAWS) + u) * count / DRAWS).astype(np.int64)]
    return means, following[picked[np.argsort(extra[picked], kind="stable")]]


def _road(paths: I64, jitter_share: float) -> tuple[Path, F64]:
    loss, pipe = np.divmod(paths, bins.PIPES.size)
    rtt = np.full(paths.size, REFERENCE_RTT_MS)
    rate = bins.PIPES[pipe] / rtt
    return Path(rtt, jitter_share * rtt, bins.LOSSES[loss], rate), rate


class _Nearest(np.random.Generator):
    """Where a state is read: the nearest bin instead of a random one of two, which would be a step of its own."""

    def random(self, size: int) -> F64:  # type: ignore[override]
        return np.full(size, 0.5)


def _lived(congestion_control: str, segment: int, jitter_share: float) -> Samples:
    """Uploads of connections that began anew."""
    kind, rng = STATES[congestion_control], np.random.default_rng([SEED, segment])
    nearest = _Nearest(np.random.PCG64(0))
    paths = np.repeat(np.arange(bins.N_PATHS), CONNECTIONS)
    road, rate = _road(paths, jitter_share)
    conn = kind.connections(road)
    segments = np.full(paths.size, bins.SEGMENTS[segment])
    samples = []
    before = kind.read(conn, road, nearest)
    for _ in range(UPLOADS):
        took = upload(conn, road, segments, rng)
        extra = _extra_rtts(took - segments / rate, conn, jitter_share)
        rest(conn, took, GAP_MS)
        after = kind.read(conn, road, nearest)
        samples.append((paths * kind.size + before, extra, after))
        before = after
    return tuple(np.concatenate(column) for column in zip(*samples, strict=True))  # type: ignore[return-value]


def _rebuilt(congestion_control: str, segment: int, jitter_share: float) -> Samples:
    """One upload of connections in every state on every path."""
    kind, rng = STATES[congestion_control], np.random.default_rng([SEED, segment, 1])
    states, paths = (i.ravel() for i in np.indices((kind.size, bins.N_PATHS, REBUILT))[:2])
    road, rate = _road(paths, jitter_share)
    conn = kind.build(states, road, rng)
    segments = np.full(states.size, bins.SEGMENTS[segment])
    took = upload(conn, road, segments, rng)
    extra = _extra_rtts(took - segments / rate, conn, jitter_share)
    return paths * kind.size + states, extra, kind.read(conn, road, rng)


def _extra_rtts(beyond_bytes_ms: F64, conn: Cubic | Bbr, jitter_share: float) -> F64:
    """Time beyond one RTT and the bytes, in RTTs (M,).

    A look-up draws an RTT of its own, so what counts is how much longer than its own RTT an upload took, in mean RTTs.
    The first table has it in the upload's own RTT, 2 % too much (the mean of 1 / RTT, at a jitter of 0.15); sites,
    agents and published figures stand on it.
    """
    if jitter_share == JITTER_SHARE:
        return np.maximum(beyond_bytes_ms / conn.first_rtt_ms - 1.0, 0.0)
    return np.maximum(beyond_bytes_ms - conn.first_rtt_ms, 0.0) / REFERENCE_RTT_MS


def rising_means(extra: F64, lived: F64) -> npt.NDArray[np.float32]:
    """Rescale cells so that their mean never falls with payload or loss, moving the much lived ones least.

    Weighted isotonic regression on the grid of payload and loss, by Dykstra's alternating projections (Dykstra and
    Robertson 1982); what is left over in the end is lifted.

    Args:
        extra: (states, payload bins, path bins, draws).
        lived: samples of each cell (states, payload bins, path bins).
    """
    states, segments, _, draws = extra.shape
    shape = (states, segments, bins.LOSSES.size, bins.PIPES.size)
    mean = extra.mean(axis=-1).reshape(shape)
    weight = lived.reshape(shape) + 1.0
    wanted = np.empty(shape)
    for s in range(states):
        for p in range(bins.PIPES.size):
            wanted[s, :, :, p] = _isotonic_grid(mean[s, :, :, p], weight[s, :, :, p])
    grid = extra.reshape(*shape, draws)
    scale = np.where(mean > 0, wanted / np.where(mean > 0, mean, 1.0), 0.0)
    shift = np.where(mean > 0, 0.0, wanted)
    return (grid * scale[..., None] + shift[..., None]).astype(np.float32).reshape(extra.shape)


def _isotonic_grid(values: F64, weights: F64) -> F64:
    """Nearest grid that falls along neither axis."""
    fit, by_row, by_column = values.copy(), np.zeros_like(values), np.zeros_like(values)
    for _ in range(SWEEPS):
        rows = np.array([_isotonic(v, w) for v, w in zip(fit - by_row, weights, strict=True)])
        by_row = rows - (fit - by_row)
        columns = np.array([_isotonic(v, w) for v, w in zip((rows - by_column).T, weights.T, strict=True)]).T
        by_column = columns - (rows - by_column)
        fit = columns
    return np.maximum.accumulate(np.maximum.accumulate(fit, axis=0), axis=1)


def _isotonic(values: F64, weights: F64) -> F64:
    """Pool adjacent violators (Ayer et al. 1955)."""
    means: list[float] = []
    sums: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        sums.append(weight)
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            total = sums[-2] + sums[-1]
            means[-2] = (means[-2] * sums[-2] + means[-1] * sums[-1]) / total
            sums[-2], counts[-2] = total, counts[-2] + counts[-1]
            for stack in (means, sums, counts):
                stack.pop()
    return np.repeat(means, counts)


def main() -> None:
    """Make and write all tables."""
    for name, share in product(STATES, JITTER_SHARES):
        print(f"wrote {save_table(name, share, *build(name, share))}", flush=True)


if __name__ == "__main__":
    main()
