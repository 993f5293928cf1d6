"""A bundle's card in words: what it is, what it came to, what it cost, what it must not be used for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .training_cost import cost_line

# Metric -> words, with the value and the bounds of its interval.
SCORES = {
    "carbon_mg_per_request": "{0:.4f} mg a request [{1:.4f}, {2:.4f}]",
    "episodes_meeting_slo": "SLO met in {0:.1%} of episodes [{1:.1%}, {2:.1%}]",
    "slo_miss_rate": "{0:.2%} missed [{1:.2%}, {2:.2%}]",
}


def card_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """The card of a bundle as lines for people.

    Args:
        card: as `bundle.read_card` returns it; what an older one lacks is said to be unknown.
    """
    training = card["training"]
    yield f"{card['algorithm']} for {card['scenario']} (family {card['scenario_family']}): {_parts(card)}"
    yield f"places on: {', '.join(card['actions'])}"
    yield f"trained by: {training.get('command', 'unknown')}"
    made = (card["risk"] or {}).get("made") or {}
    if card["risk"] is not None:
        yield f"risk head by: {made.get('training', {}).get('command', 'unknown')}"
    steps = f"{training.get('steps', 'unknown')} steps of RL"
    yield f"commit {training.get('commit', 'unknown')}, seed {card['seed']}, {steps}"
    if not training.get("finished", True):
        yield "the training had not finished"
    if training.get("stages"):
        yield f"handed out: the model after the stage '{training['stages']['handed_out']}'"
    yield cost_line(training.get("cost"))
    yield from _scores(card["scores"])
    yield "must not be used for:"
    for sentence in card.get("must_not_be_used_for") or ["unknown: the card is from before this was noted."]:
        yield f"  - {sentence}"


def _parts(card: Mapping[str, Any]) -> str:
    network, risk = card["network"], card["risk"]
    found = [] if risk is None else [f"risk head {'-'.join(map(str, risk['layers'][1:-1]))} with its price"]
    if network is not None:
        found.append(f"network {'-'.join(map(str, network['layers'][1:-1])) or 'without hidden layers'}")
    return ", ".join(found)


def _scores(scores: Mapping[str, Any]) -> Iterator[str]:
    if not scores:
        yield "scores: none yet (carbonpilot benchmark SCENARIO --policy BUNDLE_DIR --update-cards)"
    for name, found in scores.items():
        words = [
            form.format(found[key]["mean"], *found[key]["ci95"])
            for key, form in SCORES.items()
            if key in found
        ]
        yield f"on {name}, {found.get('episodes', '?')} {found.get('part', '')} tapes: {'; '.join(words)}"
