"""The records of the physics as plain Python objects: what compiled code reads fast, plain Python reads slowly."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache
def _kind(names: tuple[str, ...]) -> type:
    return type("Record", (), {"__slots__": names})


def plain_record(dtype: np.dtype, values: Any = None) -> Any:
    """The fields of a record as plain numbers, zero without values; slots are read fastest."""
    values = np.zeros(1, dtype)[0] if values is None else values
    record = _kind(dtype.names or ())()
    for name in dtype.names or ():
        setattr(record, name, values[name].item())
    return record
