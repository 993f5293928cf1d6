"""The numbers of the price on risk, with units and the ranges that are searched; `price.py` says what each does.

Names and meanings are those of the rule `slo-predictive-budget` (`agents/predictive_parameters.py`), where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...envs.dial import load_dial
from ..predictive_parameters import BUDGET, CARBON, with_defaults
from ..tunable import Tunable, check_parameters

# Of the rule's numbers those that need no memory; spreads belong to its own prediction, which the head replaces.
_MEMORY = ("hysteresis_mg",)
_OF_PREDICTION = ("spread", "local_spread")
_KEPT = tuple(t for t in (*CARBON, *BUDGET) if t.name not in (*_MEMORY, *_OF_PREDICTION))

PRICE: tuple[Tunable, ...] = (
    *with_defaults(_KEPT, heat_price_mg=0.5),
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
EVERY = (*PRICE, *DIAL)


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
    return {**default_price(), **given}


def without_caution(parameters: Mapping[str, float]) -> tuple[dict[str, float], tuple[float, float]]:
    """A price without the numbers of `CAUTION`, and these: slope and shift."""
    names = [t.name for t in CAUTION]
    slope, shift = (float(parameters[name]) for name in names)
    return {key: value for key, value in parameters.items() if key not in names}, (slope, shift)
