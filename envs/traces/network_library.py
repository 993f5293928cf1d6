"""Recorded links as a library that episodes are cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..streams import Stream
from ..world_types import LinkWorld
from .network_pieces import F32, path_rows, shape_rows
from .patterns import file_parts
from .pool import Pool, Windows, make_pool
from .readers import read_network


@dataclass(frozen=True, eq=False)
class NetworkLibrary:
    """Seconds of recordings end to end, with the pieces that windows may be drawn from.

    RTT, loss and stalls come from one recording and the shape of the uplink from another (no source measured
    both), except where a recording has RTT and uplink: then both come from the same seconds. Recordings with
    download only give no uplink shape. Without any capacity recording among the patterns the shape is 1.

    Attributes:
        rtt_ms, jitter_ms, loss, blocked: as in LinkWorld, flat (N,).
        own_shape: uplink shape of the same second (N,), NaN where the recording has none.
        paths: pieces of these arrays.
        has_shape: whether a piece has its own uplink shape (P,).
        shape: uplink shapes of the capacity recordings, flat (M,).
        shapes: pieces of ``shape``, or None where there is none.
    """

    rtt_ms: F32
    jitter_ms: F32
    loss: F32
    blocked: npt.NDArray[np.bool_]
    own_shape: F32
    paths: Pool
    has_shape: npt.NDArray[np.bool_]
    shape: F32
    shapes: Pool | None

    @classmethod
    def load(cls, traces_dir: str | Path, patterns: Sequence[str]) -> NetworkLibrary:
        """Read the files that the patterns name.

        Args:
            traces_dir: the trace folder.
            patterns: globs below it, each with an optional part, e.g. ``network/x.csv@0.0-0.6``.

        Raises:
            InputError: a pattern matches nothing, or no file has an RTT.
            TraceError: a file is broken.
        """
        paths, shapes = [], []
        for part in file_parts(traces_dir, patterns):
            trace = read_network(part.path)
            rows = part.rows(len(trace.time_s))
            paths += [(piece, part.pattern) for piece in path_rows(trace, rows)]
            shapes += [(piece, part.pattern) for piece in shape_rows(trace, rows)]
        if not paths:
            raise InputError(
                f"{traces_dir}: no file of {list(patterns)} has a measured RTT; add one that has."
            )
        pieces = [piece for piece, _ in paths]
        return cls(
            rtt_ms=np.concatenate([p.rtt_ms for p in pieces]),
            jitter_ms=np.concatenate([p.jitter_ms for p in pieces]),
            loss=np.concatenate([p.loss for p in pieces]),
            blocked=np.concatenate([p.blocked for p in pieces]),
            own_shape=np.concatenate([_shape_or_nan(p.shape, len(p.rtt_ms)) for p in pieces]),
            paths=_pool([len(p.rtt_ms) for p in pieces], [k for _, k in paths]),
            has_shape=np.array([p.shape is not None for p in pieces]),
            shape=np.concatenate([s for s, _ in shapes]) if shapes else np.ones(0, dtype=np.float32),
            shapes=_pool([len(s) for s, _ in shapes], [k for _, k in shapes]) if shapes else None,
        )

    def draw_windows(self, stream: Stream, seconds: int, batch: int) -> LinkWorld:
        """Cut a window for each episode.

        Where a piece is shorter than ``seconds``, ``valid_rows`` says where it ended; the rows after that are
        blocked, so that nobody can live on a value that was never measured.

        Args:
            stream: random stream of the link, for ``batch`` episodes.
            seconds: rows wanted, one a second.
            batch: number of episodes.
        """
        if batch != stream.keys.size:
            raise ValueError(f"the stream is for {stream.keys.size} episodes, asked for {batch}")
        windows = self.paths.draw(stream, seconds)
        rows = windows.rows(seconds)
        rate_shape, shape_rows_left = self._shape(stream, windows, rows, seconds)
        valid = np.minimum(windows.valid_rows, shape_rows_left)
        return LinkWorld(
            rtt_ms=self.rtt_ms[rows],
            jitter_ms=self.jitter_ms[rows],
            loss=self.loss[rows],
            rate_shape=rate_shape,
            blocked=self.blocked[rows] | (np.arange(seconds)[:, None] >= valid),
            valid_rows=valid,
        )

    def _shape(
        self, stream: Stream, windows: Windows, rows: np.ndarray, seconds: int
    ) -> tuple[F32, npt.NDArray[np.int64]]:
        """Uplink shape (S, B) and the rows until its recording ended (B,)."""
        own = self.has_shape[windows.piece]
        if self.shapes is None:
            other, left = np.ones(rows.shape, dtype=np.float32), np.full(rows.shape[1], seconds)
        else:
            drawn = self.shapes.draw(stream, seconds)
            other, left = self.shape[drawn.rows(seconds)], drawn.valid_rows
        if not own.any():
            return other, left
        return np.where(own, self.own_shape[rows], other), np.where(own, seconds, left)


def _shape_or_nan(shape: F32 | None, rows: int) -> F32:
    return np.full(rows, np.nan, dtype=np.float32) if shape is None else shape


def _pool(lengths: list[int], patterns: list[int]) -> Pool:
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return make_pool(list(zip(starts.tolist(), lengths, patterns, strict=True)))
