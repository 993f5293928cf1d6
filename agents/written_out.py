"""A decision over a risk head as one function, its lines written out when a bundle is loaded.

At this size Python's own steps are half of a decision. With loops over layers and placements, calls between functions
and look-ups of attributes it took 12 microseconds where the same lines written out take 10; the price of five
placements alone took 2.5 where it takes 1. So they are written out, the way `collections.namedtuple` makes its classes.
The text is made from the numbers of layers, placements and terms and from flags, never from words of a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .risk_terms import ON, REQUEST, PriceRecord, loaded

Function = Callable[[Any], Any]
_NUMBERS = ("hot_mg", "hot_locals", "warm_mg", "warm_locals", "unit_mg", "price_share")


def compiled(lines: list[str], names: Mapping[str, Any]) -> Function:
    """The function of ``observation`` with these lines, in which these names mean something."""
    namespace = dict(names)
    exec("def decide_one(observation):\n" + "".join(f"    {line}\n" for line in lines), namespace)
    return namespace["decide_one"]


def head_lines(depth: int, divides: bool) -> list[str]:
    """From the observation to the results of the head's products; its layers are numbered from 0.

    ``v0`` to ``v{depth}`` are the buffers of the layers' inputs (``v0`` the centred observation and a one) and results,
    ``r0``, ``r1``, ... all that their products give: the first the price's terms, and columns that nobody reads.
    """
    lines = ["subtract(observation, mean, centred)"]
    lines += ["divide(centred, std, centred)"] if divides else []
    lines += ["dot0(m0, r0)"]
    for i in range(1, depth):
        lines += [f"fmax(v{i}, zeros{i}, v{i})", f"dot{i}(m{i}, r{i})"]
    return [*lines, "if constant() != 1.0:", "    raise bad(card, observation)"]


def price_lines(record: PriceRecord, give: str, with_logits: bool) -> list[str]:
    """From ``terms()`` and ``logits()`` to relative scores (P,); see `risk_terms.scores_mg`, whose lines these are.

    Args:
        record: the price.
        give: what to do with them: a line with ``{}`` in their place.
        with_logits: the clipped logits stand before them (2 P,).
    """
    places, with_load = range(len(record.placements)), loaded(record)
    terms = [*(f"carbon{p}" for p in places), *(f"load{p}" for p in with_load), *REQUEST]
    clipped = [f"l{p} if lowest < l{p} < limit else limited(l{p})" for p in places] if with_logits else []
    few = ["0.0", *(f"asinh(l{p} - l0)" for p in places[1:])]
    scores = [_score(p, place, p in with_load) for p, place in enumerate(record.placements)]
    usual = ["0.0", *(f"asinh(({scores[p]} - local) * scale)" for p in places[1:])]
    any_worth = any(place["worth_mg"] for place in record.placements)
    return [
        f"{', '.join(terms)} = terms()",
        f"{', '.join(f'l{p}' for p in places)}, = logits()",
        "if spare < 0.0:",
        "    " + give.format(", ".join([*clipped, *few])),
        "else:",
        "    price = base * exp(steepness)",
        "    radio *= grid",
        f"    heat = {_heat('hot', record)} if throttled > on else {_heat('warm', record)} * share(warmth)",
        *(["    worth = accuracy * exp(dearer) if accuracy else 0.0"] if any_worth else []),
        f"    local = {scores[0]}",
        "    scale = 1.0 / (unit_mg + price_share * price)",
        "    " + give.format(", ".join([*clipped, *usual])),
    ]


def price_names(record: PriceRecord) -> dict[str, Any]:
    """What the names in `price_lines` mean, but for ``terms`` and ``logits``."""
    numbers = record.numbers
    return {
        "exp": math.exp,
        "asinh": math.asinh,
        "share": _share,
        "limited": lambda logit: math.copysign(numbers["logit_limit"], logit),
        "limit": numbers["logit_limit"],
        "lowest": -numbers["logit_limit"],
        "on": ON,
        **{name: numbers[name] for name in _NUMBERS},
        **{f"worth{p}": place["worth_mg"] for p, place in enumerate(record.placements)},
    }


def learned_lines(depth: int, activation: str) -> list[str]:
    """From the layers' inputs to the outputs; layers are numbered from 0. Ends with the best output's number.

    ``s1``, ``s2``, ... are all that the products give, ``u1``, ``u2``, ... what the next layer reads of it.
    """
    apply = "tanh({0}, {0})" if activation == "tanh" else "maximum({0}, {0}_zeros, out={0})"
    lines = []
    for i in range(depth - 1):
        lines += [f"learned_dot{i}(w{i}, s{i + 1})", apply.format(f"u{i + 1}")]
    return [
        *lines,
        f"learned_dot{depth - 1}(w{depth - 1}, s{depth})",
        "best = int(argmax())",
        "value = item(best)",
        "if value - value != 0.0:",  # NaN or infinite
        "    raise bad(card, observation)",
        "return best",
    ]


def numpy_names() -> dict[str, Any]:
    """NumPy's functions under the names they have in these lines."""
    names = ("subtract", "divide", "fmax", "maximum", "tanh")
    return {name: getattr(np, name) for name in names}


def _score(p: int, place: Mapping[str, Any], with_load: bool) -> str:
    carbon = f"carbon{p} * load{p}" if with_load else f"carbon{p}"
    added = "radio" if place["remote"] else "heat"
    worth = f" - worth * worth{p}" if place["worth_mg"] else ""
    return f"{carbon} + {added}{worth} + price / (1.0 + exp(-l{p}))"


def _heat(what: str, record: PriceRecord) -> str:
    """A price of the device's heat, in mg and in local requests' carbon; the latter only where there is any."""
    return f"({what}_mg + {what}_locals * carbon0)" if record.numbers[f"{what}_locals"] else f"{what}_mg"


def _share(value: float) -> float:
    return 0.0 if value < 0.0 else 1.0 if value > 1.0 else value
