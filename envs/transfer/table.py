"""The round-level simulator tabulated: one look-up per request instead of a simulated upload.

The table is the Markov kernel of `tcp.upload`: from (congestion state, payload bin, path bin) and a quantile
index it gives the extra round trips and the next state. It is made for paths of REFERENCE_RTT_MS, so
timeouts, which are absolute (200 ms and more), count 200 / 50 = 4 round trips at any RTT, and for a jitter that is one
of `JITTER_SHARES` of the RTT. `build_table` makes it from connections that live long; that takes minutes, so the tables
are files of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import unknown_name
from ..files import atomic_path
from . import bins
from .states import JITTER_SHARE, STATES

REFERENCE_RTT_MS = 50.0
JITTER_SHARES = (JITTER_SHARE, 1 / 3)  # tabulated; a third is what emu-a and emu-b have
DRAWS = 32
FOLDER = Path(__file__).resolve().parent / "tables"


@dataclass(frozen=True)
class TransferTable:
    """Extra round trips of an upload and the connection's next state.

    `index` addresses both arrays. An upload and its reply take
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

    @property
    def strides(self) -> tuple[int, int, int]:
        """Entries from one state to the next, from one payload bin to the next, and from one path bin to the next."""
        return self.n_segments * self.n_paths * self.draws, self.n_paths * self.draws, self.draws

    def index(
        self, state: npt.ArrayLike, segment: npt.ArrayLike, path: npt.ArrayLike, draw: npt.ArrayLike
    ) -> npt.NDArray[np.int64]:
        """Where an upload stands in both arrays: states, bins and draws, 0 to below ``draws``, broadcast."""
        of_state, of_segment, of_path = self.strides
        where = np.asarray(state, np.int64) * of_state + np.asarray(segment, np.int64) * of_segment
        return where + np.asarray(path, np.int64) * of_path + np.asarray(draw, np.int64)

    def segment_bin(self, payload_bytes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Payload bin of payloads in bytes, any shape."""
        return bins.segment_bin(payload_bytes)

    def path_bin(
        self, loss: npt.ArrayLike, rate_mbps: npt.ArrayLike, rtt_ms: npt.ArrayLike
    ) -> npt.NDArray[np.int64]:
        """Path bin from loss (0 to 1), rate in Mbit/s and RTT in ms, broadcast."""
        return bins.path_bin(loss, rate_mbps, rtt_ms)


def nearest_share(jitter_share: float | None) -> float:
    """The tabulated jitter nearest to a link's, both as shares of the RTT; None: nothing is known of the link's."""
    if jitter_share is None:
        return JITTER_SHARE
    return min(JITTER_SHARES, key=lambda share: abs(share - jitter_share))


def transfer_table(congestion_control: str, jitter_share: float | None = None) -> TransferTable:
    """Read the table of "cubic" or "bbr" whose jitter is nearest; `build_table` made it.

    Raises:
        InputError: there is no such table.
    """
    if congestion_control not in STATES:
        raise unknown_name("congestion control", congestion_control, STATES)
    return _read(congestion_control, nearest_share(jitter_share))


@lru_cache(maxsize=4)
def _read(congestion_control: str, jitter_share: float) -> TransferTable:
    kind = STATES[congestion_control]
    with np.load(table_path(congestion_control, jitter_share), allow_pickle=False) as file:
        extra, following = file["extra_rtts"].astype(np.float32), file["next_state"].astype(np.int16)
    states, segments, paths, draws = extra.shape
    return TransferTable(
        extra.reshape(-1),
        following.reshape(-1),
        states,
        segments,
        paths,
        draws,
        kind.initial_state,
        kind.idle_reset_s,
    )


def table_path(congestion_control: str, jitter_share: float) -> Path:
    """File of a table, of one of the `JITTER_SHARES`."""
    of = "" if jitter_share == JITTER_SHARE else f"-jitter-{round(100 * jitter_share)}"
    return FOLDER / f"{congestion_control}{of}.npz"


def save_table(
    congestion_control: str, jitter_share: float, extra_rtts: npt.NDArray, next_state: npt.NDArray
) -> Path:
    """Write a table; a connection has fewer than 256 states."""
    path = table_path(congestion_control, jitter_share)
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary, extra_rtts=extra_rtts.astype(np.float32), next_state=next_state.astype(np.uint8)
        )
    return path
