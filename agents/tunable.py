"""A number that a rule may be tuned by."""

from __future__ import annotations

from dataclasses import dataclass


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
