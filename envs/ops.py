"""Two arithmetics for one physics: NumPy arrays over a batch, or plain floats for a batch of one.

The physics is written once against these operations. Only +, -, x, /, comparisons, minima, maxima and
table look-ups are used, which IEEE 754 rounds the same way in both, so a batch and a single environment
agree bit for bit. Plain floats exist because a NumPy call costs more than the whole step of one request.

A *table* holds one constant per placement; where all placements that matter agree it is one plain number.
A *site table* holds state per link or node, (K, B); a *handle* addresses one row of it per episode.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# A request's noise word is cut into three quantile indices, from its best-mixed bits down.
SERVICE_BITS, JITTER_BITS, TRANSFER_BITS = 12, 10, 5  # 5: the draws of a transfer table
SERVICE_DRAWS, JITTER_DRAWS, TRANSFER_DRAWS = 1 << SERVICE_BITS, 1 << JITTER_BITS, 1 << TRANSFER_BITS
_SERVICE_SHIFT = 64 - SERVICE_BITS
_JITTER_SHIFT = _SERVICE_SHIFT - JITTER_BITS
_TRANSFER_SHIFT = _JITTER_SHIFT - TRANSFER_BITS
_MULTIPLIER = 0xD1342543DE82EF95  # Steele and Vigna 2021, table of good 64-bit multipliers
_MASK64 = (1 << 64) - 1
LARGE_TABLE = 8192


def as_table(values: Any) -> np.ndarray:
    """Constants as int64 or float64; wider types than the tape's, so that both arithmetics agree."""
    array = np.asarray(values)
    if array.dtype == np.uint64:
        return array
    return array.astype(np.int64) if array.dtype.kind in "iub" else array.astype(np.float64)


class BatchOps:
    """Arithmetic on arrays (B,)."""

    def __init__(self, batch: int) -> None:
        """Remember the batch size and the column numbers."""
        self.batch = batch
        self.columns = np.arange(batch)

    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    where = staticmethod(np.where)
    table = staticmethod(as_table)

    def filled(self, rows: int, value: float) -> np.ndarray:
        """State (rows, B) filled with one value."""
        return np.full((rows, self.batch), value, dtype=np.float64)

    def constant(self, value: float) -> np.ndarray:
        """State (B,) filled with one value."""
        return np.full(self.batch, value, dtype=np.float64)

    def integers(self, rows: int | None, values: Any) -> np.ndarray:
        """Integer state: (rows, B) from a value per row, or (B,) from one value."""
        if rows is None:
            return np.full(self.batch, values, dtype=np.int64)
        return np.repeat(np.array(values, dtype=np.int64)[:, None], self.batch, axis=1)

    @staticmethod
    def pick(table: Any, index: np.ndarray) -> Any:
        """Look up a table at (B,) indices; a plain number stands for itself."""
        return table.take(index) if isinstance(table, np.ndarray) else table

    def handle(self, row: Any) -> Any:
        """Address of one row per episode; a plain integer addresses the same row for all."""
        return row * self.batch + self.columns if isinstance(row, np.ndarray) else row

    @staticmethod
    def read(table: np.ndarray, start: int, handle: Any) -> np.ndarray:
        """Read row ``start + row`` of a site table."""
        return table[start:].take(handle) if isinstance(handle, np.ndarray) else table[start + handle]

    @staticmethod
    def write(table: np.ndarray, handle: Any, value: np.ndarray) -> None:
        """Write a row of a site table."""
        if isinstance(handle, np.ndarray):
            table.put(handle, value)
        else:
            table[handle] = value

    @staticmethod
    def write_where(table: np.ndarray, row: Any, condition: np.ndarray, value: np.ndarray) -> None:
        """Write rows of a site table where a condition holds."""
        table[row] = np.where(condition, value, table[row])

    @staticmethod
    def floor(x: np.ndarray) -> np.ndarray:
        """Round down non-negative numbers to integers for look-ups."""
        return x.astype(np.int64)

    @staticmethod
    def noise(words: np.ndarray, salt: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Quantile indices (service, jitter, transfer) of a request at the placement with this salt."""
        word = words ^ salt
        word *= np.uint64(_MULTIPLIER)
        service = word >> np.uint64(_SERVICE_SHIFT)
        jitter = (word >> np.uint64(_JITTER_SHIFT)) & np.uint64(JITTER_DRAWS - 1)
        transfer = (word >> np.uint64(_TRANSFER_SHIFT)) & np.uint64(TRANSFER_DRAWS - 1)
        return service.view(np.int64), jitter.view(np.int64), transfer.view(np.int64)

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
        """Rows of sites 1 to count - 1, all at once."""
        return [slice(1, count)] if count > 1 else []


class ScalarOps:
    """The same operations on plain floats, for a batch of one. Site tables are lists."""

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
        """A constant table; large ones stay packed and yield plain numbers."""
        array = np.ascontiguousarray(as_table(values))
        return array.tolist() if array.size <= LARGE_TABLE else memoryview(array)

    @staticmethod
    def filled(rows: int, value: float) -> list[float]:
        """State of ``rows`` numbers."""
        return [float(value)] * rows

    constant = staticmethod(float)

    @staticmethod
    def integers(rows: int | None, values: Any) -> Any:
        """Integer state: a list from a value per row, or one integer."""
        return int(values) if rows is None else [int(v) for v in values]

    @staticmethod
    def pick(table: Any, index: int) -> Any:
        """Look up a table; a plain number stands for itself."""
        return table if isinstance(table, float | int) else table[index]

    @staticmethod
    def handle(row: int) -> int:
        """Address of a row."""
        return row

    @staticmethod
    def read(table: list, start: int, handle: int) -> Any:
        """Read row ``start + row`` of a site table."""
        return table[start + handle]

    @staticmethod
    def write(table: list, handle: int, value: Any) -> None:
        """Write a row of a site table."""
        table[handle] = value

    @staticmethod
    def write_where(table: list, row: int, condition: bool, value: Any) -> None:
        """Write a row of a site table where a condition holds."""
        if condition:
            table[row] = value

    floor = staticmethod(int)

    @staticmethod
    def noise(words: int, salt: int) -> tuple[int, int, int]:
        """Quantile indices (service, jitter, transfer) of a request at the placement with this salt."""
        word = ((words ^ salt) * _MULTIPLIER) & _MASK64
        return (
            word >> _SERVICE_SHIFT,
            (word >> _JITTER_SHIFT) & (JITTER_DRAWS - 1),
            (word >> _TRANSFER_SHIFT) & (TRANSFER_DRAWS - 1),
        )

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
        """Rows of sites 1 to count - 1, one by one."""
        return list(range(1, count))
