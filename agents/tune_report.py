"""What `carbonpilot tune` prints: each rule's score in the search and on fresh tapes, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

TABLE_WIDTH = 120  # columns that the table needs


def print_tuned(content: dict[str, Any], names: Iterable[str], console: Console) -> None:
    """Print the rules that were tuned now.

    Args:
        content: what `tune.run_tune` returned.
        names: rules to show.
        console: where.
    """
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("rule", no_wrap=True)
    for heading in ("search mg", "keeps SLO", "fresh tapes mg", "keeps SLO", "trials", "requests", "seconds"):
        table.add_column(heading, justify="right")
    for name in names:
        entry = content["policies"][name]
        table.add_row(
            name,
            *_score(entry["search"]),
            *_score(entry["selection"]),
            str(entry["trials"]),
            f"{entry['requests_simulated'] / 1e6:.1f} M",
            f"{entry['seconds']:.0f}",
        )
    console.print(table, highlight=False)
    objective = content["objective"]
    console.print(
        f"Training tapes only. Minimised: {objective['minimise']}; chosen: {objective['select']} "
        f"({100 * objective['aim']:g} % of the episodes). The score of the search is a lucky one; what counts is "
        "`carbonpilot benchmark` on evaluation tapes.",
        highlight=False,
        markup=False,
    )


def _score(score: dict[str, Any]) -> tuple[str, str]:
    """Carbon in mg, and the share of episodes that keep the SLO."""
    return f"{score['carbon_mg_per_request']:.4f}", f"{100 * score['episodes_meeting_slo']:.1f} %"
