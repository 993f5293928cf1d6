"""Two arithmetics for one physics: NumPy arrays over a batch, or plain floats for a batch of one.

The physics is written once against these operations. Only +, -, x, /, comparisons, minima, maxima and
table look-ups are used, which IEEE 754 rounds the same way in both, so a batch and a single environment
agree bit for bit. Plain floats exist because a NumPy call costs more than the whole step of one request.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .streams import GOLDEN, mix64

# A request's noise word is cut into three quantile indices.
SERVICE_BITS, JITTER_BITS, TRANSFER_BITS = 12, 10, 6
SERVICE_DRAWS, JITTER_DRAWS, TRANSFER_DRAWS = 1 << SERVICE_BITS, 1 << JITTER_BITS, 1 << TRANSFER_BITS
_MASK64 = (1 << 64) - 1
LARGE_TABLE = 8192


class BatchOps:
    """Arithmetic on arrays (B,). Tables with a site axis are (K, B)."""

    def __init__(self, batch: int) -> None:
        """Remember the batch size and the column numbers."""
        self.batch = batch
        self.columns = np.arange(batch)

    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    where = staticmethod(np.where)

    @staticmethod
    def table(values: Any) -> np.ndarray:
        """A constant table (n,), looked up by `pick`."""
        array = np.asarray(values)
        return array.astype(np.int64) if array.dtype.kind in "iub" else array.astype(np.float64)

    def filled(self, rows: int, value: float) -> np.ndarray:
        """State (rows, B) filled with one value."""
        return np.full((rows, self.batch), value, dtype=np.float64)

    def constant(self, value: float) -> np.ndarray:
        """State (B,) filled with one value."""
        return np.full(self.batch, value, dtype=np.float64)

    def integers(self, rows: int | None, values: Any) -> np.ndarray:
        """Integer state: (rows, B) from a value per row, or (B,) from one value."""
        shape = (self.batch,) if rows is None else (rows, self.batch)
        return np.broadcast_to(np.array(values, dtype=np.int64).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()

    @staticmethod
    def row(table: np.ndarray, n: Any) -> np.ndarray:
        """Request ``n`` of an (N, B) table: one number for all, or one per column."""
        return table[n] if isinstance(n, int) else np.take_along_axis(table, n[None, :], axis=0)[0]

    @staticmethod
    def set_row(table: np.ndarray, n: Any, value: np.ndarray) -> None:
        """Write request ``n`` of an (N, B) table."""
        if isinstance(n, int):
            table[n] = value
        else:
            table[n, np.arange(n.size)] = value

    @staticmethod
    def sites(count: int) -> list:
        """Handles of sites 1 to count - 1, all at once."""
        return [slice(1, count)] if count > 1 else []

    @staticmethod
    def pick(table: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Look up a constant table (n,) at (B,) indices."""
        return table.take(index)

    def at(self, table: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Read a (K, B) table at one row per column."""
        return table.take(row * self.batch + self.columns)

    def put(self, table: np.ndarray, row: np.ndarray, value: np.ndarray) -> None:
        """Write a (K, B) table at one row per column."""
        table.put(row * self.batch + self.columns, value)

    @staticmethod
    def floor(x: np.ndarray) -> np.ndarray:
        """Round down non-negative numbers to integers for look-ups."""
        return x.astype(np.int64)

    @staticmethod
    def noise(words: np.ndarray, placement: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Quantile indices (service, jitter, transfer) of a request at a placement."""
        word = placement.astype(np.uint64)
        word += np.uint64(1)
        word *= GOLDEN
        word += words
        bits = mix64(word).view(np.int64)
        return (
            bits & (SERVICE_DRAWS - 1),
            (bits >> SERVICE_BITS) & (JITTER_DRAWS - 1),
            (bits >> (SERVICE_BITS + JITTER_BITS)) & (TRANSFER_DRAWS - 1),
        )


class ScalarOps:
    """The same operations on plain floats, for a batch of one. Tables with a site axis are lists."""

    batch = 1

    @staticmethod
    def maximum(a: float, b: float) -> float:
        """The larger of two numbers."""
        return a if a >= b else b

    @staticmethod
    def minimum(a: float, b: float) -> float:
        """The smaller of two numbers."""
        return a if a <= b else b

    @staticmethod
    def where(condition: bool, a: float, b: float) -> float:
        """One of two numbers."""
        return a if condition else b

    @staticmethod
    def table(values: Any) -> Any:
        """A constant table, looked up by `pick`; large ones stay packed and yield plain numbers."""
        array = np.ascontiguousarray(BatchOps.table(values))
        return array.tolist() if array.size <= LARGE_TABLE else memoryview(array)

    @staticmethod
    def filled(rows: int, value: float) -> list[float]:
        """State of ``rows`` numbers."""
        return [float(value)] * rows

    @staticmethod
    def constant(value: float) -> float:
        """State of one number."""
        return float(value)

    @staticmethod
    def integers(rows: int | None, values: Any) -> Any:
        """Integer state: a list from a value per row, or one integer."""
        return int(values) if rows is None else [int(v) for v in values]

    @staticmethod
    def row(table: Any, n: int) -> Any:
        """Request ``n`` of a list."""
        return table[n]

    @staticmethod
    def set_row(table: list, n: int, value: float) -> None:
        """Write request ``n`` of a list."""
        table[n] = value

    @staticmethod
    def sites(count: int) -> list[int]:
        """Handles of sites 1 to count - 1, one by one."""
        return list(range(1, count))

    @staticmethod
    def pick(table: list, index: int) -> float:
        """Look up a constant table."""
        return table[index]

    at = pick

    @staticmethod
    def put(table: list, row: int, value: float) -> None:
        """Write one row of the state."""
        table[row] = value

    floor = staticmethod(int)

    @staticmethod
    def noise(words: int, placement: int) -> tuple[int, int, int]:
        """Quantile indices (service, jitter, transfer) of a request at a placement."""
        x = (words + (placement + 1) * 0x9E3779B97F4A7C15) & _MASK64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
        x ^= x >> 31
        return (
            x & (SERVICE_DRAWS - 1),
            (x >> SERVICE_BITS) & (JITTER_DRAWS - 1),
            (x >> (SERVICE_BITS + JITTER_BITS)) & (TRANSFER_DRAWS - 1),
        )
