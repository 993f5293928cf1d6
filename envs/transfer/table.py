"""The round-level simulator tabulated: one look-up per request instead of a simulated upload.

The table is the Markov kernel of `tcp.upload`: from (congestion state, payload bin, path bin) and a quantile
index it gives the extra round trips and the next state. It is made for paths of REFERENCE_RTT_MS, so
timeouts, which are absolute (200 ms and more), count 200 / 50 = 4 round trips at any RTT.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..errors import unknown_name
from . import bins
from .connection import Path
from .states import JITTER_SHARE, STATES
from .tcp import upload

REFERENCE_RTT_MS = 50.0
DRAWS = 32
LONG_SEGMENTS = 100  # longer uploads average over many rounds: a quarter of the draws, each used four times
LONG_REPEATS = 4
SEED = 20261120  # fixed: the table is a constant


@dataclass(frozen=True)
class TransferTable:
    """Extra round trips of an upload and the connection's next state.

    ``index = ((state * n_segments + segment) * n_paths + path) * draws + u`` with u in [0, draws)
    addresses both arrays. An upload and its reply take
    ``rtt_ms * (1 + extra_rtts[index]) + payload_bits / rate``.

    Attributes:
        extra_rtts: time beyond one RTT and the payload at the path's rate, in RTTs, >= 0; grows with u.
        next_state: state of the connection afterwards.
        n_states, n_segments, n_paths, draws: extent of each index.
        initial_state: state of a new connection.
        idle_reset_s: a connection idle for longer is back in its initial state.
    """

    extra_rtts: npt.NDArray[np.float32]
    next_state: npt.NDArray[np.int16]
    n_states: int
    n_segments: int
    n_paths: int
    draws: int
    initial_state: int
    idle_reset_s: float

    def segment_bin(self, payload_bytes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Payload bin of payloads in bytes, any shape."""
        return bins.segment_bin(payload_bytes)

    def path_bin(
        self, loss: npt.ArrayLike, rate_mbps: npt.ArrayLike, rtt_ms: npt.ArrayLike
    ) -> npt.NDArray[np.int64]:
        """Path bin from loss (0 to 1), rate in Mbit/s and RTT in ms, broadcast."""
        return bins.path_bin(loss, rate_mbps, rtt_ms)


@lru_cache(maxsize=4)
def transfer_table(congestion_control: str) -> TransferTable:
    """Build the table of "cubic" or "bbr" (one to two seconds; always the same numbers)."""
    if congestion_control not in STATES:
        raise unknown_name("congestion control", congestion_control, STATES)
    kind = STATES[congestion_control]
    shape = (kind.size, bins.SEGMENTS.size, bins.N_PATHS, DRAWS)
    extra = np.empty(shape, dtype=np.float32)
    following = np.empty(shape, dtype=np.int16)
    for segment in range(bins.SEGMENTS.size):  # uploads of one size end together
        extra[:, segment], following[:, segment] = _simulate(kind, segment, shape)
    order = np.argsort(extra, axis=-1, kind="stable")
    extra = _monotone_means(np.take_along_axis(extra, order, axis=-1))
    following = np.take_along_axis(following, order, axis=-1)
    return TransferTable(
        extra.reshape(-1), following.reshape(-1), *shape, kind.initial_state, kind.idle_reset_s
    )


def _simulate(kind, segment: int, shape: tuple) -> tuple[npt.NDArray, npt.NDArray]:
    """Simulate one payload bin from every state on every path: extra RTTs and next states (S, P, draws)."""
    states, _, paths, draws = shape
    repeats = LONG_REPEATS if bins.SEGMENTS[segment] > LONG_SEGMENTS else 1
    cells = (states, paths, draws // repeats)
    state, path, draw = (i.ravel() for i in np.indices(cells))
    loss, pipe = np.divmod(path, bins.PIPES.size)
    rtt = np.full(state.size, REFERENCE_RTT_MS)
    rate = bins.PIPES[pipe] / rtt
    road = Path(rtt, JITTER_SHARE * rtt, bins.LOSSES[loss], rate)
    rng = np.random.default_rng([SEED, segment])
    conn = kind.build(state, road, rng)
    segments = np.full(state.size, bins.SEGMENTS[segment])
    # Stratified: an event of 3 % a request falls into one of 32 draws, never by chance into none.
    first_u = (draw + rng.random(draw.size)) / cells[-1]
    took = upload(conn, road, segments, rng, first_u)
    extra = np.maximum((took - segments / rate) / conn.first_rtt_ms - 1.0, 0.0)
    following = kind.read(conn, road, rng)
    extra, following = extra.reshape(cells), following.reshape(cells)
    return np.repeat(extra, repeats, axis=-1), np.repeat(following, repeats, axis=-1)


def _monotone_means(extra: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rescale cells so that their mean never falls with payload or loss.

    The new mean lies midway between the running maximum from below and the running minimum from above: both
    are monotone, and they are equal where the simulated means are monotone already.
    """
    states, segments, _, draws = extra.shape
    grid = extra.reshape(states, segments, bins.LOSSES.size, bins.PIPES.size, draws)
    mean = grid.mean(axis=-1, dtype=np.float64)
    rising = np.maximum.accumulate(np.maximum.accumulate(mean, axis=1), axis=2)
    flipped = mean[:, ::-1, ::-1]
    falling = np.minimum.accumulate(np.minimum.accumulate(flipped, axis=1), axis=2)[:, ::-1, ::-1]
    wanted = 0.5 * (rising + falling)
    scale = np.where(mean > 0, wanted / np.where(mean > 0, mean, 1.0), 0.0)
    shift = np.where(mean > 0, 0.0, wanted)
    return (grid * scale[..., None] + shift[..., None]).astype(np.float32).reshape(extra.shape)
