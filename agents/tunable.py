"""A number that a policy may be tuned by, and the check of such numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..envs.errors import InputError, nearest


@dataclass(frozen=True)
class Tunable:
    """One tunable of a policy.

    Attributes:
        name: key in tuned-parameter files, with its unit (``margin_ms``).
        low, high: range that is searched; values outside are refused.
        default: value without tuning; lies in the range.
        log: whether the range is searched on a logarithmic scale (then ``low`` > 0).
        meaning: one line for the documentation.
    """

    name: str
    low: float
    high: float
    default: float
    log: bool = False
    meaning: str = ""


def check_parameters(name: str, tunables: tuple[Tunable, ...], parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that the rule does not have, and values outside of their ranges.

    Args:
        name: of the rule, for messages.
        tunables: what it has.
        parameters: by name, each a number or several.

    Raises:
        InputError: says which, what is allowed, and the nearest known name.
    """
    known = {t.name: t for t in tunables}
    for key, value in parameters.items():
        if key not in known:
            raise InputError(
                f"Rule '{name}' has no parameter '{key}'.{nearest(key, known)} "
                f"Known: {', '.join(known) or 'none, it cannot be tuned'}."
            )
        tunable = known[key]
        try:
            numbers = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{name}.{key}: expected a number, got {value!r}.") from None
        # The ends of a range come back from files and from logarithms with a rounding error.
        slack = 1e-6 * (tunable.high - tunable.low)
        inside = (numbers >= tunable.low - slack) & (numbers <= tunable.high + slack)
        if not inside.all():
            worst = numbers[~inside].ravel()[0]
            raise InputError(
                f"{name}.{key}: must lie in {tunable.low:g} to {tunable.high:g} ({tunable.meaning}), got {worst:g}."
            )
