"""The numbers of the price on risk, with units and the ranges that are searched; `price.py` says what each does.

Names and meanings are those of the rule `slo-predictive-budget` (`agents/predictive_parameters.py`), where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...envs.dial import load_dial
from ..predictive_parameters import BUDGET, CARBON, with_defaults
from ..tunable import Tunable, check_parameters

# Of the rule's numbers those that need no memory; spreads belong to its own prediction, which the head replaces.
_MEMORY = ("hysteresis_mg",)
_OF_PREDICTION = ("spread", "local_spread")
# Heat priced in mg of carbon, as the rules do, costs the same on a clean grid as on a dirty one, and so drives a clean
# device to dirtier servers. Prices that were made before there was the other unit hold it; it is not searched.
_OLDER = ("heat_price_mg", "hot_price_mg")
_NEWER = ("heat_price_locals", "hot_price_locals")
_KEPT = tuple(t for t in (*CARBON, *BUDGET) if t.name not in (*_MEMORY, *_OF_PREDICTION, *_OLDER))

PRICE: tuple[Tunable, ...] = (
    *_KEPT,
    Tunable("heat_price_locals", 0, 10, 0.2, meaning="for local at the throttling point, in its own carbon"),
    Tunable("hot_price_locals", 0, 5, 0.05, meaning="for local while throttled, in its own carbon"),
    Tunable(
        "heat_ramp",
        0.02,
        0.4,
        0.1,
        log=True,
        meaning="utilisation over which the heat price rises to its full value",
    ),
)
# Of the device's logits, searched with the price, then folded into the head (`caution`). A miss there is not the only
# one: an image that comes late keeps the device busy for those behind it, so its risk counts for more than its own.
CAUTION: tuple[Tunable, ...] = (
    Tunable("local_slope", 0.5, 10, 2.0, log=True, meaning="on the device's log-odds of a miss"),
    Tunable("local_shift", -3, 10, 2.0, meaning="added to them"),
)
# Where a search ends, though prices that were found before may lie beyond. What heat does to misses the head knows; a
# dear heat is found by luck where the grids are dirty and costs a clean device up to 7 % more carbon.
SEARCHED_UP_TO = {"heat_price_locals": 0.6, "hot_price_locals": 0.15}
# Not searched: what the operator's dial means (`envs/dial.py`). A folder keeps the numbers that it was made with.
_DIAL = load_dial()
DIAL: tuple[Tunable, ...] = (
    Tunable(
        "accuracy_price_mg",
        0,
        10,
        _DIAL.accuracy_mg_per_miou,
        meaning="worth of one more point of mIoU at wish_accuracy 1, in mg of carbon",
    ),
    Tunable(
        "miss_price_span",
        1,
        1000,
        _DIAL.miss_price_span,
        meaning="price of a miss at wish_latency 1, times that at 0",
    ),
    Tunable(
        "carbon_share_at_zero",
        0.001,
        1,
        _DIAL.carbon_share_at_zero,
        meaning="what a mg of carbon counts at wish_carbon 0, share of that at 1",
    ),
)
OLDER = with_defaults(tuple(t for t in CARBON if t.name in _OLDER), heat_price_mg=0, hot_price_mg=0)
EVERY = (*PRICE, *DIAL, *OLDER)


def searched(start: Mapping[str, float]) -> tuple[Tunable, ...]:
    """The numbers that are searched, price and caution, with ``start`` as their defaults."""
    return tuple(_searched(t, start) for t in (*PRICE, *CAUTION))


def _searched(tunable: Tunable, start: Mapping[str, float]) -> Tunable:
    high = SEARCHED_UP_TO.get(tunable.name, tunable.high)
    return replace(tunable, high=high, default=min(float(start.get(tunable.name, tunable.default)), high))


def default_price() -> dict[str, float]:
    """The price before tuning."""
    return {t.name: float(t.default) for t in EVERY}


def complete_price(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check parameters, each a number or one per episode (B,), and add the default of those left out.

    Raises:
        InputError: unknown parameter, or a value outside of its range.
    """
    given = dict(parameters or {})
    check_parameters("price", EVERY, given)
    older = dict.fromkeys(_NEWER, 0.0) if any(name in given for name in _OLDER) else {}
    return {**default_price(), **older, **given}


def newer(parameters: Mapping[str, float]) -> dict[str, float]:
    """A price to start a search from, without heat where that is in the older unit."""
    older = any(parameters.get(name) for name in _OLDER)
    left_out = (*_OLDER, *_NEWER) if older else _OLDER
    return {key: value for key, value in parameters.items() if key not in left_out}


def without_caution(parameters: Mapping[str, float]) -> tuple[dict[str, float], tuple[float, float]]:
    """A price without the numbers of `CAUTION`, and these: slope and shift."""
    names = [t.name for t in CAUTION]
    slope, shift = (float(parameters[name]) for name in names)
    return {key: value for key, value in parameters.items() if key not in names}, (slope, shift)
