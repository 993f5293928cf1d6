"""Pieces of recordings in flat arrays, and drawing windows of them for a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..streams import Stream

INT = npt.NDArray[np.int64]


class Windows(NamedTuple):
    """Windows of a batch (B,): the piece, the first row in the flat arrays, and the rows it lasts."""

    piece: INT
    first: INT
    valid_rows: INT

    def rows(self, seconds: int) -> INT:
        """Index of each window's rows in the flat arrays (S, B); past a window's end, its last row."""
        return self.first + np.minimum(np.arange(seconds)[:, None], self.valid_rows - 1)


@dataclass(frozen=True, eq=False)
class Pool:
    """Stretches of rows that may be drawn from.

    Attributes:
        start: first row of each piece in the flat arrays (P,).
        length: rows of each piece (P,).
        pattern: which pattern named each piece (P,).
    """

    start: INT
    length: INT
    pattern: INT

    def draw(self, stream: Stream, seconds: int) -> Windows:
        """Draw a window for each episode.

        Every pattern is equally likely, and within a pattern every possible window: so a scenario weighs
        its families by listing them, and a long recording does not drown the others. A piece that is
        shorter than ``seconds`` is one possible window, and ends the episode where it ends.

        Args:
            stream: random stream of the batch.
            seconds: rows wanted.
        """
        choices = np.maximum(self.length - seconds + 1, 1)
        of_pattern = np.bincount(self.pattern, weights=choices)
        weight = choices / of_pattern[self.pattern]
        edges = np.cumsum(weight) / weight.sum()
        piece = np.searchsorted(edges, stream.uniform().astype(np.float64), side="right")
        piece = np.minimum(piece, len(edges) - 1)
        offset = (stream.uniform().astype(np.float64) * choices[piece]).astype(np.int64)
        return Windows(piece, self.start[piece] + offset, np.minimum(self.length[piece], seconds))


def make_pool(pieces: list[tuple[int, int, int]]) -> Pool:
    """Build a pool from (first row, rows, pattern) of each piece."""
    start, length, pattern = np.array(pieces, dtype=np.int64).reshape(-1, 3).T
    return Pool(start, length, pattern)
