"""Which stage's model a taught run hands out: the best one on training tapes that nothing was learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..tune_objective import Objective

# Share of episodes that a published agent shall keep; the rules' search has 0.97. Raised from that after two seeds'
# stages had been seen on held-back training tapes, and before any agent was scored on evaluation tapes.
AIM = 0.99
_PENALTY = Objective().penalty  # a point that is missing costs as much as in the search of the rules


def best_stage(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The stage with the least carbon among those that meet the SLO in the share of episodes aimed at.

    Where none does, what is missing to the aim costs as much as in the search of the rules. Of equals the earlier one.

    Args:
        rows: of the book of stages, each with ``carbon_mg_per_request`` and ``episodes_meeting_slo``; at least one.
    """
    reaching = [row for row in rows if row["episodes_meeting_slo"] >= AIM]
    return min(reaching or rows, key=_penalised_mg)


def _penalised_mg(row: Mapping[str, Any]) -> float:
    missing = max(0.0, AIM - row["episodes_meeting_slo"])
    return row["carbon_mg_per_request"] * (1.0 + _PENALTY * missing)


def choice_line(best: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], held_back: int) -> str:
    """Say which stage is handed out and what the last one came to."""
    last = rows[-1]
    words = f"handed out: the model after '{best['name']}', {_scores(best)}"
    if best is not last:
        words += f"; '{last['name']}' after it came to {_scores(last)}"
    return f"{words} (held-back training tapes, {held_back}; aim {AIM:.0%})"


def _scores(row: Mapping[str, Any]) -> str:
    return f"{row['carbon_mg_per_request']:.3f} mg a request, SLO met in {row['episodes_meeting_slo']:.1%} of episodes"
