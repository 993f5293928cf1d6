"""The numbers of the price on risk, with units and the ranges that are searched; `price.py` says what each does.

Names and meanings are those of the rule `slo-predictive-budget` (`agents/predictive_parameters.py`), where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
# Not searched: the operator's, through the dial. Zero leaves accuracy out.
ACCURACY = Tunable("accuracy_price_mg", 0, 10, 0, meaning="worth of one more point of mIoU, in mg of carbon")
EVERY = (*PRICE, ACCURACY)


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
