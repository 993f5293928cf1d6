"""The price on risk for one request, in plain Python: so few numbers are faster than in NumPy.

A loop over five placements takes 2.5 microseconds, the same lines written out take 1, and a decision has a budget of
fifteen. So they are written out, for as many placements as there are, the way `collections.namedtuple` makes its
classes. The text is made from the numbers of placements and of their terms, never from words of a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .risk_terms import ON, REQUEST, STEEPEST, PriceRecord, loaded

Numbers = Sequence[float]
One = Callable[[Numbers, Numbers], tuple[float, ...]]


def relative_one(record: PriceRecord) -> One:
    """The function from terms (T,) and logits (P,) to relative scores (P,); `risk_terms.relative` for one request.

    It raises OverflowError where `within_doubles` helps.
    """
    return _compiled(record, with_logits=False)


def inputs_one(record: PriceRecord) -> One:
    """As `relative_one`, but from terms and logits to clipped logits and relative scores (2 P,)."""
    return _compiled(record, with_logits=True)


def within_doubles(terms: Numbers, logits: Numbers) -> tuple[Numbers, Numbers]:
    """Terms and logits that no exponential is too large of; single precision has stopped growing long before."""
    first, safe = len(terms) - len(REQUEST), list(terms)
    for name in ("steepness", "dearer"):
        safe[first + REQUEST.index(name)] = _within(safe[first + REQUEST.index(name)])
    return safe, [_within(logit) for logit in logits]


def _compiled(record: PriceRecord, with_logits: bool) -> One:
    numbers = record.numbers
    namespace: dict[str, Any] = {
        "exp": math.exp,
        "asinh": math.asinh,
        "on": ON,
        "limit": numbers["logit_limit"],
        "limited": lambda logit: math.copysign(numbers["logit_limit"], logit),
        "share_of": _share,
        **{name: numbers[name] for name in ("hot_mg", "warm_mg", "unit_mg", "price_share")},
        **{f"worth{p}": place["worth_mg"] for p, place in enumerate(record.placements)},
    }
    exec(_source(record, with_logits), namespace)
    return namespace["one"]


def _source(record: PriceRecord, with_logits: bool) -> str:
    """The text of the function ``one``; see `risk_terms.scores_mg`, whose lines these are."""
    places, with_load = range(len(record.placements)), loaded(record)
    terms = [*(f"carbon{p}" for p in places), *(f"load{p}" for p in with_load), *REQUEST]
    clipped = [f"l{p} if -limit < l{p} < limit else limited(l{p})" for p in places] if with_logits else []
    few = ["0.0", *(f"asinh(l{p} - l0)" for p in places[1:])]
    scores = [_score(p, place, p in with_load) for p, place in enumerate(record.placements)]
    usual = ["0.0", *(f"asinh(({scores[p]} - local) * scale)" for p in places[1:])]
    any_worth = any(place["worth_mg"] for place in record.placements)
    worth = "worth = accuracy * exp(dearer)" if any_worth else "# no placement is worth more than another"
    return f"""
def one(terms, logits):
    {", ".join(terms)} = terms
    {", ".join(f"l{p}" for p in places)}, = logits
    if spare < 0.0:
        return {", ".join([*clipped, *few])},
    price = base * exp(steepness)
    radio *= grid
    heat = hot_mg if throttled > on else warm_mg * share_of(warmth)
    {worth}
    local = {scores[0]}
    scale = 1.0 / (unit_mg + price_share * price)
    return {", ".join([*clipped, *usual])},
"""


def _score(p: int, place: Mapping[str, Any], with_load: bool) -> str:
    carbon = f"carbon{p} * load{p}" if with_load else f"carbon{p}"
    added = "radio" if place["remote"] else "heat"
    worth = f" - worth * worth{p}" if place["worth_mg"] else ""
    return f"{carbon} + {added}{worth} + price / (1.0 + exp(-l{p}))"


def _within(value: float) -> float:
    """The value, at most `STEEPEST` from zero; NaN stays NaN, which min and max would lose."""
    return STEEPEST if value > STEEPEST else -STEEPEST if value < -STEEPEST else value


def _share(value: float) -> float:
    return 0.0 if value < 0.0 else 1.0 if value > 1.0 else value
