"""The reproduction of Ng et al. as tables: on a terminal, and as Markdown for docs/reproduce-ng.md.

``python -m carbonpilot.agents.ng_table CELLS.json`` prints the Markdown of what
``carbonpilot reproduce ng --json CELLS.json`` wrote.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .ng_accuracy import Row
from .ng_timelines import Timeline
from .paper_cells import Cell
from .paper_table import HEADINGS, NUMBERS, markdown, rows

ACCURACY = ("group", "setting", "load", "equations", "predicted", "simulated", "error", "s.e.", "p95 error")
LINES = ("time", "conditions", "placement", "predicted", "simulated", "chosen")
SPLIT = ("configuration", "cut after", "on the edge", "crosses, kB", "device", "link", "edge", "tandem", "simulated",
         "error", "s.e.")  # fmt: skip


def accuracy_records(accuracy: Sequence[Row]) -> list[dict[str, Any]]:
    """The grid as plain data, one record per form and setting."""
    return [
        {
            "group": r.setting.group,
            "setting": r.setting.name,
            "utilisation": r.setting.utilisation,
            "assumptions_hold": r.setting.holds,
            "equations": r.form.name,
            "predicted_ms": r.form.mean_ms,
            "simulated_ms": r.simulated.mean_ms,
            "standard_error_ms": r.error_ms,
            "relative_error": r.deviation,
            "predicted_p95_ms": r.setting.p95_ms,
            "simulated_p95_ms": r.simulated.p95_ms,
            "p95_relative_error": r.p95_deviation,
        }
        for r in accuracy
    ]


def timeline_records(timelines: dict[str, Timeline]) -> list[dict[str, Any]]:
    """The stretches of both case studies as plain data; an endless queue's latency is None."""
    return [
        {
            "scenario": name,
            "start_s": s.start_s,
            "end_s": s.end_s,
            "conditions": s.condition,
            "expected": s.expected,
            "reached_s": s.reached_s,
            "share": s.share,
            "predicted_ms": {p: ms if math.isfinite(ms) else None
                             for p, ms in zip(timeline.placements, s.forms_ms, strict=True)},
            "simulated_ms": dict(zip(timeline.placements, s.simulated_ms, strict=True)),
        }
        for name, timeline in timelines.items()
        for s in timeline.stretches
    ]  # fmt: skip


def show(cells: list[Cell], content: dict[str, Any], console: Console) -> None:
    """Print the cells with their notes, then from the JSON's content the time lines, Fig. 5a and the grid."""
    lines, texts = rows(cells)
    console.print(_table("Ng et al.: paper and ours", HEADINGS, lines))
    for number, note in enumerate(texts, start=1):
        console.print(f"{number:2d}  {note}", highlight=False)
    console.print(
        _table("The case studies: mean latencies, ms", LINES, _timeline_lines(content["timelines"]))
    )
    console.print(_table("Fig. 5a in kind: split processing, ms", SPLIT, _split_lines(content["split"])))
    for holds, title in ((True, "assumptions hold"), (False, "assumptions do not hold")):
        chosen = [r for r in content["accuracy"] if r["assumptions_hold"] is holds]
        console.print(
            _table(f"Closed forms against the simulator, ms: {title}", ACCURACY, _accuracy_lines(chosen))
        )


def page_tables(content: dict[str, Any]) -> str:
    """All tables as Markdown."""
    parts = ["### Printed figures\n", markdown([Cell(**c) for c in content["cells"]])]
    parts += ["\n### Case studies\n", _markdown(LINES, _timeline_lines(content["timelines"]))]
    parts += ["\n### Fig. 5a\n", _markdown(SPLIT, _split_lines(content["split"]))]
    for holds, title in ((True, "Where the assumptions hold"), (False, "Where they do not")):
        chosen = [r for r in content["accuracy"] if r["assumptions_hold"] is holds]
        parts += [f"\n### {title}\n", _markdown(ACCURACY, _accuracy_lines(chosen))]
    return "\n".join(parts)


def _timeline_lines(records: list[dict[str, Any]]) -> list[list[str]]:
    lines = []
    for r in records:
        for placement, predicted in r["predicted_ms"].items():
            chosen = f"{r['share']:.1%} from {r['reached_s']:.1f} s" if placement == r["expected"] else ""
            lines.append([
                f"{r['start_s']:g}-{r['end_s']:g} s", r["conditions"], placement,
                "no limit" if predicted is None else f"{predicted:.1f}",
                _ms(r["simulated_ms"][placement]), chosen,
            ])  # fmt: skip
    return lines


def _accuracy_lines(records: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            r["group"], r["setting"], f"{r['utilisation']:g}", r["equations"],
            _ms(r["predicted_ms"]), _ms(r["simulated_ms"]), f"{100 * r['relative_error']:+.1f} %",
            f"{100 * r['standard_error_ms'] / r['simulated_ms']:.2f} %",
            "" if r["p95_relative_error"] is None else f"{100 * r['p95_relative_error']:+.1f} %",
        ]
        for r in records
    ]  # fmt: skip


def _split_lines(records: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            r["configuration"], r["cut_after"], f"{r['offloaded_share_of_macs']:.0%}", f"{r['activation_kb']:.1f}",
            *(f"{r[part]:.2f}" for part in ("head_ms", "link_ms", "tail_ms", "tandem_ms", "simulated_ms")),
            f"{100 * r['relative_error']:+.1f} %", f"{100 * r['standard_error_ms'] / r['simulated_ms']:.2f} %",
        ]
        for r in records
    ]  # fmt: skip


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _right(heading: str) -> bool:
    return heading in (*NUMBERS, "load", "predicted", "simulated", "s.e.", "p95 error", *SPLIT[2:])


def _table(title: str, headings: Sequence[str], lines: list[list[str]]) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right" if _right(heading) else "left")
    for line in lines:
        table.add_row(*line)
    return table


def _markdown(headings: Sequence[str], lines: list[list[str]]) -> str:
    rule = ["---:" if _right(heading) else "---" for heading in headings]
    return "\n".join("| " + " | ".join(line) + " |" for line in (list(headings), rule, *lines)) + "\n"


if __name__ == "__main__":
    print(page_tables(json.loads(Path(sys.argv[1]).read_text())), end="")
