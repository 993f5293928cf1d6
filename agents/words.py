"""Numbers and intervals as they stand in a sentence."""

from __future__ import annotations

from .statistics import Estimate


def percent(share: float | None, digits: int = 1) -> str:
    """A share: '12.3 %', or '-' where it does not exist."""
    if share is None:
        return "-"
    return f"{fixed(100 * share, digits)} %"


def fixed(value: float, digits: int, sign: bool = False) -> str:
    """A number with so many decimals; what rounds to zero has no minus."""
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def relative(change: Estimate) -> str:
    """'12.0 % less [9.8, 14.1]' or '3.1 % more [-0.2, 6.4]'; the interval goes with the word."""
    if change.mean is None:
        return "an amount that has no ratio to the other's zero"
    sign, word = (-1, "less") if change.mean <= 0 else (1, "more")
    text = f"{percent(sign * change.mean)} {word}"
    if change.low is None or change.high is None:
        return text + " (one tape, no interval)"
    low, high = sorted((100 * sign * change.low, 100 * sign * change.high))
    return f"{text} [{fixed(low, 1)}, {fixed(high, 1)}]"


def points(change: Estimate) -> str:
    """A difference of shares: '+0.5 points [-0.6, 1.6]'."""
    if change.mean is None:
        return "-"
    return f"{fixed(100 * change.mean, 1, sign=True)} points" + bracket(change, 100, 1)


def share(estimate: Estimate, digits: int = 0) -> str:
    """A share with its interval: '83 % [77, 88]'."""
    return percent(estimate.mean, digits) + bracket(estimate, 100, digits)


def amount(estimate: Estimate, form: str = ".4g") -> str:
    """A number with its interval: '0.312 [0.29, 0.33]'."""
    if estimate.mean is None:
        return "-"
    text = f"{estimate.mean:{form}}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:{form}}, {estimate.high:{form}}]"


def bracket(estimate: Estimate, factor: float, digits: int) -> str:
    """' [low, high]' in the given scale, or nothing where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{fixed(factor * estimate.low, digits)}, {fixed(factor * estimate.high, digits)}]"


def listed(names: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
