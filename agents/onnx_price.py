"""The price on risk as nodes of an ONNX graph: `risk_terms.scores_mg` and `relative` once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .risk_terms import ON, REQUEST, STEEPEST, PriceRecord, Terms, read_record


def add_price(
    graph: Any, observation: str, logits: str, price: dict[str, Any], features: list[dict[str, Any]]
) -> tuple[str, str]:
    """Add the price.

    Args:
        graph: an `onnx_graph.Graph`.
        observation: name of the encoded observation (B, F).
        logits: name of the head's logits (B, P).
        price: as in a card.
        features: rows of the observation table.

    Returns:
        Names of the clipped and scaled logits, and of the relative scores (B, P).
    """
    record = read_record(price)
    terms = Terms(record, features)
    n, number = record.numbers, graph.constant
    found = graph.add(
        "Gemm", observation, number("terms_matrix", terms.matrix), number("terms_constant", terms.constant)
    )
    column = _columns(graph, found, terms)
    scores, price_mg = _scores(graph, column, logits, record, terms)
    few = graph.add("Less", column("spare"), number("zero", 0.0))
    scores = graph.add("Where", few, logits, scores)
    share = graph.add("Mul", price_mg, number("price_share", n["price_share"]))
    unit = graph.add("Add", share, number("unit_mg", n["unit_mg"]))
    unit = graph.add("Where", few, number("one", 1.0), unit)
    local = graph.add("Gather", scores, graph.constant("first", [0], int), axis=1)
    relative = graph.add("Asinh", graph.add("Div", graph.add("Sub", scores, local), unit))
    limit = n["logit_limit"]
    clipped = graph.add("Clip", logits, number("least_logit", -limit), number("most_logit", limit))
    return graph.add("Div", clipped, number("logit_scale", n["logit_scale"])), relative


def _columns(graph: Any, found: str, terms: Terms) -> Callable[[str | int], str]:
    """A function that adds the node of one term (B, 1), by its position or its name."""
    first = terms.count + len(terms.loaded)

    def column(name: str | int) -> str:
        at = name if isinstance(name, int) else first + REQUEST.index(name)
        return graph.add("Gather", found, graph.constant(f"at_{at}", [at], int), axis=1)

    return column


def _scores(graph: Any, column: Any, logits: str, record: PriceRecord, terms: Terms) -> tuple[str, str]:
    """Scores in mg (B, P), and the price of a miss (B, 1)."""
    n, number, add = record.numbers, graph.constant, graph.add
    least, most = number("flattest", -STEEPEST), number("steepest", STEEPEST)
    steepness = add("Clip", column("steepness"), least, most)
    price = add("Mul", column("base"), add("Exp", steepness))
    warmth = add("Clip", column("warmth"), number("zero", 0.0), number("one", 1.0))
    throttled = add("Greater", column("throttled"), number("on", ON))

    def heat_mg(what: str) -> str:
        locals_mg = add("Mul", column(0), number(f"{what}_locals", n[f"{what}_locals"]))
        return add("Add", locals_mg, number(f"{what}_mg", n[f"{what}_mg"]))

    heat = add("Where", throttled, heat_mg("hot"), add("Mul", heat_mg("warm"), warmth))
    radio = add("Mul", column("radio"), column("grid"))
    worth = add("Mul", column("accuracy"), add("Exp", column("dearer")))
    odds = add("Exp", add("Neg", add("Clip", logits, least, most)))
    risk = add("Reciprocal", add("Add", odds, number("one", 1.0)))
    load_of = {p: term for term, p in enumerate(terms.loaded, terms.count)}
    scores = []
    for p, place in enumerate(record.placements):
        carbon = column(p)
        if p in load_of:
            carbon = add("Mul", carbon, column(load_of[p]))
        carbon = add("Add", carbon, radio if place["remote"] else heat)
        if place["worth_mg"]:
            carbon = add("Sub", carbon, add("Mul", worth, number(f"worth_{p}", place["worth_mg"])))
        missed = add("Gather", risk, graph.constant(f"at_{p}", [p], int), axis=1)
        scores.append(add("Add", carbon, add("Mul", price, missed)))
    return add("Concat", *scores, axis=1), price
