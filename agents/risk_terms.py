"""The price on risk as a frozen policy computes it: without a scenario, and in as few steps as possible.

`agents/risk/price.py` says what the price means; this is the same formula from a record of plain numbers that a
bundle's card can hold. All that is linear in the observation is one matrix of *terms*, which rides along in a network's
first product. What is left is `scores_mg` for batches, of NumPy or of torch; `written_out.py` does one request.

What a network learns from and a skip adds to its outputs are `relative` scores: by how much a placement costs more than
local, in multiples of an ordinary request's carbon plus a share of the price of a miss. Where misses are dear, small
differences of risk that no head can tell apart would otherwise drown everything else. Their inverse hyperbolic sine is
the same near zero, keeps their order, and never leaves a network's reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

STEEPEST = 60.0  # exp of more overflows single precision; as in `agents/risk/price.py`
ON = 1e-3  # a flag above this is set: 0 or 1, it may have lost its last digits
WHOLE = 1e-3  # misses this near to a whole number are whole; as there
# How the price reaches a learned part. A bundle's card holds its own, so that another choice here changes no bundle.
LEARNING = {
    # assumed: a logit beyond this says no more than "certainly" (1 in 3000), and training data there are few.
    "logit_limit": 8.0,
    "logit_scale": 4.0,  # brings clipped logits near one, as the normaliser does with features
    "price_share": 0.1,  # assumed: of the price of a miss in the unit of relative scores
}

_SITE = (
    "allowed_misses",
    "shield_misses",
    "budget_gain",
    "planned_start",
    "planned_slope",
    "miss_mg",
    "miss_locals",
    "late_mg",
    "log_miss_span",
    "log_carbon_span",
    "radio_mg_per_s",
    "tail_s",
    "hot_mg",
    "hot_locals",
    "warm_mg",
    "warm_locals",
    "warm_from",
    "warm_width",
    "unit_mg",
    *LEARNING,
)
# Numbers that older cards do not have.
_LATER = {"hot_locals": 0.0, "warm_locals": 0.0}
_POSITIVE = ("warm_width", "unit_mg", *LEARNING)
_PLACEMENT = ("factor", "load_factor", "worth_mg")
# Terms of the request, behind those of the placements.
REQUEST = ("steepness", "base", "radio", "grid", "warmth", "throttled", "spare", "dearer", "accuracy")


class PriceRecord(NamedTuple):
    """A price without its scenario.

    Attributes:
        numbers: as `risk.price.Constants`; and ``unit_mg``, an ordinary request's carbon; and those of `LEARNING`.
        placements: of each the features ``carbon`` and ``load`` (None where its node reports none), ``remote``, and
            ``factor``, ``load_factor``, ``worth_mg`` (P,).
    """

    numbers: dict[str, float]
    placements: tuple[dict[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """For a bundle's card."""
        return {**self.numbers, "placements": [dict(p) for p in self.placements]}


def read_record(content: Any) -> PriceRecord:
    """Take a price from a card.

    Raises:
        ValueError: saying which key is missing, surplus or no finite number.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("placements"), list):
        raise ValueError("the price must be a record with a list of 'placements'")
    numbers = {**_LATER, **{key: value for key, value in content.items() if key != "placements"}}
    _check_numbers(numbers, _SITE, "price")
    for key in _POSITIVE:
        if numbers[key] <= 0:
            raise ValueError(f"price.{key} must be above 0, got {numbers[key]}")
    for i, place in enumerate(content["placements"]):
        _check_placement(place, f"price.placements.{i}")
    return PriceRecord(numbers, tuple(content["placements"]))


def _check_placement(place: Any, where: str) -> None:
    if not isinstance(place, Mapping):
        raise ValueError(f"{where} must be a record")
    named = {"carbon": str, "load": (str, type(None)), "remote": bool}
    for key, kind in named.items():
        if key not in place or not isinstance(place[key], kind):
            raise ValueError(f"{where}.{key} is missing or of the wrong kind")
    _check_numbers({k: v for k, v in place.items() if k not in named}, _PLACEMENT, where)


def _check_numbers(found: Mapping[str, Any], expected: Sequence[str], where: str) -> None:
    if set(found) != set(expected):
        raise ValueError(f"{where}: expected the numbers {sorted(expected)}, got {sorted(found)}")
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}.{key} must be a finite number, got {value!r}")


class Terms:
    """A price, compiled for one observation table.

    The terms are the carbon of each placement with its factor (P), one plus load times its factor for each placement
    whose node reports load (L), and those of the request, `REQUEST`.

    Attributes:
        record: what it was made from.
        count: P, number of placements.
        loaded: placements with a term for load (L,).
        matrix: (F, T), encoded observation to terms, in double precision.
        constant: (T,), added to them.
    """

    def __init__(self, record: PriceRecord, features: Sequence[Mapping[str, Any]]) -> None:
        """Find the columns.

        Args:
            record: the price.
            features: rows of the observation table, with ``name`` and ``scale``.

        Raises:
            ValueError: the table lacks a feature that the price reads.
        """
        self.record, self.count = record, len(record.placements)
        self.loaded = loaded(record)
        self._scale_of = {row["name"]: (i, float(row["scale"])) for i, row in enumerate(features)}
        size = self.count + len(self.loaded) + len(REQUEST)
        self.matrix, self.constant = np.zeros((len(features), size)), np.zeros(size)
        for p, place in enumerate(record.placements):
            self._add(p, place["carbon"], place["factor"])
        for term, p in enumerate(self.loaded, self.count):
            self._add(term, record.placements[p]["load"], record.placements[p]["load_factor"])
            self.constant[term] = 1.0
        self._add_request(record.numbers)

    def _add(self, term: int, feature: str, factor: float) -> None:
        if feature not in self._scale_of:
            raise ValueError(f"the price reads '{feature}', which the observation table does not have")
        row, scale = self._scale_of[feature]
        self.matrix[row, term] += factor * scale

    def _add_request(self, n: Mapping[str, float]) -> None:
        first = len(self.constant) - len(REQUEST)
        gain = n["budget_gain"]
        for name, feature, factor in (
            ("steepness", "slo_budget_spent", gain),
            ("steepness", "progress", -gain * n["planned_slope"]),
            ("steepness", "wish_latency", n["log_miss_span"]),
            ("steepness", "wish_carbon", -n["log_carbon_span"]),
            ("dearer", "wish_carbon", -n["log_carbon_span"]),
            ("accuracy", "wish_accuracy", 1.0),
            ("base", self.record.placements[0]["carbon"], n["miss_locals"]),
            ("base", "wish_accuracy", n["late_mg"]),
            ("radio", "radio_tail_s", -n["radio_mg_per_s"]),
            ("grid", "device_carbon_g_per_kwh", 1.0),
            ("warmth", "device_heat", 1.0 / n["warm_width"]),
            ("throttled", "device_throttled", 1.0),
            ("spare", "slo_budget_spent", -n["allowed_misses"]),
        ):
            self._add(first + REQUEST.index(name), feature, factor)
        constants = {
            "steepness": -gain * n["planned_start"] - 0.5 * n["log_miss_span"] + n["log_carbon_span"],
            "dearer": n["log_carbon_span"],
            "base": n["miss_mg"],
            "radio": n["radio_mg_per_s"] * n["tail_s"],
            "warmth": -n["warm_from"] / n["warm_width"],
            "spare": n["allowed_misses"] - n["shield_misses"] + WHOLE,
        }
        self.constant[first:] = [constants.get(name, 0.0) for name in REQUEST]


def loaded(record: PriceRecord) -> list[int]:
    """Placements whose carbon the price corrects for load (L,)."""
    return [
        p
        for p, place in enumerate(record.placements)
        if place["load"] is not None and place["load_factor"] != 0
    ]


def scores_mg(xp: Any, terms: Any, logits: Any, record: PriceRecord) -> tuple[Any, Any, Any]:
    """Scores as `risk.price.Price.scores`, for batches.

    Args:
        xp: ``numpy`` or ``torch``.
        terms: (B, T), float32.
        logits: of a miss (B, P).
        record: the price.

    Returns:
        Scores (B, P): mg, or logits where few misses are left; whether that is so (B, 1); the price of a miss (B, 1).
    """
    n, places = record.numbers, record.placements
    request = {name: terms[:, i - len(REQUEST), None] for i, name in enumerate(REQUEST)}
    steepness = xp.clip(request["steepness"], -STEEPEST, STEEPEST)
    price = request["base"] * xp.exp(steepness)
    local_mg = terms[:, :1]
    warm = (n["warm_mg"] + n["warm_locals"] * local_mg) * xp.clip(request["warmth"], 0.0, 1.0)
    heat = xp.where(request["throttled"] > ON, n["hot_mg"] + n["hot_locals"] * local_mg, warm)
    radio = request["radio"] * request["grid"]
    worth = request["accuracy"] * xp.exp(request["dearer"])
    risk = 1.0 / (1.0 + xp.exp(-xp.clip(logits, -STEEPEST, STEEPEST)))
    load_of = {p: term for term, p in enumerate(loaded(record), len(places))}
    scores = []
    for p, place in enumerate(places):
        carbon = terms[:, p, None]
        if p in load_of:
            carbon = carbon * terms[:, load_of[p], None]
        added = (radio if place["remote"] else heat) - place["worth_mg"] * worth
        scores.append(carbon + added + price * risk[:, p, None])
    few = request["spare"] < 0.0
    return xp.where(few, logits, xp.concatenate(scores, 1)), few, price


def relative(xp: Any, terms: Any, logits: Any, record: PriceRecord) -> Any:
    """Relative scores (B, P) of batches; arguments as `scores_mg`. The lowest is the best, local has 0."""
    n = record.numbers
    scores, few, price = scores_mg(xp, terms, logits, record)
    unit = xp.where(few, 1.0, n["unit_mg"] + n["price_share"] * price)
    return xp.arcsinh((scores - scores[:, :1]) / unit)


def clipped(xp: Any, logits: Any, record: PriceRecord) -> Any:
    """Logits (B, P) within their limit, as a learned part gets them but for their scale."""
    limit = record.numbers["logit_limit"]
    return xp.clip(logits, -limit, limit)
