"""The front of a dial as a table, sentences and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from .. import __version__
from ..envs.dial import load_dial
from ..envs.scenario import scenario_sha256
from .dial_knowledge import position_text
from .dial_lines import PRESET_LINE, SITE, Key, Position, key_of
from .pareto import ACCURACY, MISSES, P95, ParetoResult, Turn, front
from .policy_result import CARBON, COMPLIANT_SHARE, MET, PolicyResult
from .provenance import command_line, commit
from .scoreboard import cell
from .words import bracket, fixed, listed, percent

SCHEMA = "carbonpilot/pareto/1"
TABLE_WIDTH = 240
# Metric, title, form, whether the interval is shown.
COLUMNS = (
    (CARBON, "CO2 mg/req", "{:.3f}", True),
    (ACCURACY, "mIoU", "{:.2f}", True),
    (MISSES, "misses %", "{:.1%}", True),
    (P95, "p95 ms", "{:.0f}", False),
    (MET, "SLO met %", "{:.0%}", True),
)
# Metric, what it is called, unit, factor to it, decimals.
_SAID = {
    CARBON: ("CO2 per request", "mg", 1, 3),
    MISSES: ("the share of misses", "points", 100, 2),
    ACCURACY: ("mIoU", "points", 1, 2),
}


def label(result: ParetoResult, position: Position) -> str:
    """Name of a position in tables: a preset's where it has one."""
    named = preset_names(result).get(position.key)
    if position.line == SITE:
        return "the site's own"
    if position.line == PRESET_LINE:
        return named or f"between presets, {100 * position.at:.0f} %"
    return f"{position.line} {position.at:g}" + (f" ({named})" if named else "")


def preset_names(result: ParetoResult) -> dict[Key, str]:
    """Position -> preset."""
    known = {p.key for p in result.positions}
    return {key_of(w): n for n, w in load_dial().presets.items() if key_of(w) in known}


def table(result: ParetoResult) -> Table:
    """Positions line by line, then what does not know the dial."""
    names = [p.name for p in result.scenario.placements]
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    drawn.add_column(result.policy, no_wrap=True)
    for title in ("carbon, latency, accuracy", *(c[1] for c in COLUMNS), *(f"{n} %" for n in names)):
        drawn.add_column(title, justify="right", no_wrap=True)
    previous = None
    for position in result.positions:
        if previous is not None and position.line != previous:
            drawn.add_section()
        previous = position.line
        wish = ", ".join(f"{v:g}" for v in position.key)
        drawn.add_row(*_row(result, label(result, position), wish, result.played[position.key]))
    drawn.add_section()
    for other in sorted(result.others, key=lambda r: (not r.complies, r.carbon_mg)):
        drawn.add_row(*_row(result, other.name, "", other))
    return drawn


def _row(result: ParetoResult, name: str, wish: str, played: PolicyResult) -> list[str]:
    estimates = result.estimates(played)
    cells = [cell(estimates[metric], form, shown) for metric, _, form, shown in COLUMNS]
    shares = [f"{100 * share:.0f}" for share in played.shares.mean(axis=1)]
    return [name + (" *" if played.complies else ""), wish, *cells, *shares]


def heading(result: ParetoResult) -> list[str]:
    """What was played, and what the words of the table mean."""
    s = result.scenario
    return [
        f"{s.name}: {result.policy} at {len(result.played)} positions of the dial, {result.episodes} tapes of the "
        f"{result.part} part, seed {result.seed}, the same everywhere. CO2 in the {s.account} account.",
        f"* complies: p{100 * s.slo.quantile:g} latency of at most {s.slo.latency_ms:g} ms in "
        f"{percent(COMPLIANT_SHARE, 0)} of the episodes. Brackets: 95 % intervals over the tapes.",
    ]


def sentences(result: ParetoResult) -> list[str]:
    """What the dial does, in words; first whether the objective holds."""
    said = [_objective_sentence(result)]
    said += [turn_sentence(turn) for turn in result.turns]
    kept = [r.name for r in front([*result.played.values(), *result.others]) if r in result.others]
    rest = listed(kept) if kept else "none of them"
    return [*said, f"On the front of CO2 and mIoU among all that comply, beside the dial: {rest}."]


def _objective_sentence(result: ParetoResult) -> str:
    count = len(result.played)
    if not result.failing:
        return f"The objective holds at all {count} positions."
    worst = min(result.failing, key=lambda p: result.played[p.key].compliance)
    rarely = percent(result.played[worst.key].compliance, 0)
    return (
        f"The objective is met in fewer than {percent(COMPLIANT_SHARE, 0)} of the episodes at {len(result.failing)} of "
        f"{count} positions, least often ({rarely}) at {label(result, worst)} ({position_text(worst.wishes)})."
    )


def turn_sentence(turn: Turn) -> str:
    """One wish, or the presets, and one metric."""
    what = "From green to performance" if turn.line == PRESET_LINE else f"As the wish for {turn.line} rises,"
    name, unit, factor, digits = _SAID[turn.metric]
    change = fixed(factor * (turn.change.mean or 0.0), digits, sign=True) + bracket(
        turn.change, factor, digits
    )
    verdict = (
        "no step goes against the wish" if turn.monotone else "but on the way a step goes AGAINST THE WISH"
    )
    return f"{what} {name} changes by {change} {unit}; {verdict}."


def as_json(result: ParetoResult) -> dict[str, Any]:
    """The result as plain data."""
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": result.scenario.name,
        "scenario_sha256": scenario_sha256(result.scenario),
        "seed": result.seed,
        "part": result.part,
        "episodes": result.episodes,
        "command": command_line(),
        "commit": commit(),
        "account": result.scenario.account,
        "compliant_share": COMPLIANT_SHARE,
        "policy": result.policy,
        "positions": [_position_json(result, p) for p in result.positions],
        "others": {r.name: {"kind": r.kind, **_scores_json(result, r)} for r in result.others},
        "turns": [_turn_json(turn) for turn in result.turns],
        "objective_holds": not result.failing,
        "monotone": all(turn.monotone for turn in result.turns),
        "verdict": sentences(result),
    }


def _position_json(result: ParetoResult, position: Position) -> dict[str, Any]:
    return {
        "name": label(result, position),
        "line": position.line,
        "at": position.at,
        "wishes": position.wishes.features,
        **_scores_json(result, result.played[position.key]),
    }


def _scores_json(result: ParetoResult, played: PolicyResult) -> dict[str, Any]:
    return {
        **{name: e.as_json() for name, e in result.estimates(played).items()},
        "complies": played.complies,
        "placement_share": {name: e.as_json() for name, e in result.shares(played).items()},
    }


def _turn_json(turn: Turn) -> dict[str, Any]:
    return {
        "line": turn.line,
        "metric": turn.metric,
        "must_not": "fall" if turn.direction > 0 else "rise",
        "monotone": turn.monotone,
        "change": turn.change.as_json(),
        "steps": [step.as_json() for step in turn.steps],
    }


def by_preset(result: ParetoResult) -> Sequence[tuple[str, PolicyResult]]:
    """The presets in their order, with the site's own position before them."""
    names = preset_names(result)
    found = [(names[p.key], result.played[p.key]) for p in result.line(PRESET_LINE) if p.key in names]
    return [*((label(result, p), result.played[p.key]) for p in result.line(SITE)), *found]
