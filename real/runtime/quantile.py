"""A quantile of a few numbers, without NumPy's cost for short lists."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], q: float) -> float:
    """The least value that at least the share ``q`` of the values does not exceed; ``values`` must not be empty."""
    ordered = sorted(values)
    return ordered[max(math.ceil(q * len(ordered)) - 1, 0)]
