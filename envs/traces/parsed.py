"""What a reader hands on: the record, and where in the file its rows stand (for warnings)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .records import ArrivalTrace, GridTrace, NetworkTrace

Trace = GridTrace | NetworkTrace | ArrivalTrace


@dataclass(frozen=True, eq=False)
class Parsed:
    """A record with the line of each row and the name that each of its fields has in the file."""

    trace: Trace
    lines: np.ndarray
    names: dict[str, str]
