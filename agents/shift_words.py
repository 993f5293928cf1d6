"""The shift report as a table, sentences and JSON."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from .. import __version__
from ..envs.scenario import scenario_sha256
from .provenance import command_line, commit
from .shift_report import ShiftReport
from .shift_rows import LEAST_KEPT, MOST_DIRTIER, CaseResult, ShiftRow
from .words import amount, listed, percent, relative, share

SCHEMA = "carbonpilot/shift/1"
TABLE_WIDTH = 150
COLUMNS = ("shift", "policy", "SLO kept", "CO2 mg/req", "CO2 against the safe rule")


def heading(report: ShiftReport) -> list[str]:
    """What was played, and what the words of the table mean."""
    slo = report.scenario.slo
    return [
        f"{report.scenario.name}: {report.episodes} tapes of the evaluation part for each shift, seed {report.seed}. "
        "Device, rules and bundles believe what they believed before the shift.",
        f"Kept: share of the episodes in which hindsight (oracle-budget) has p{100 * slo.quantile:g} of at most "
        f"{slo.latency_ms:g} ms and the policy too. CO2 is of those episodes. Brackets: 95 % intervals.",
        f"The safe rule is {report.safe}. Limits, for what was asked for under the shield: kept in at least "
        f"{percent(LEAST_KEPT, 0)}, and at most {percent(MOST_DIRTIER, 0)} more CO2 than the safe rule.",
    ]


def cells(case: CaseResult, row: ShiftRow, safe: str) -> tuple[str, ...]:
    """Policy, share kept, carbon, carbon against the safe rule; a mark where a deployed policy is over a limit."""
    limited = row.asked and row.shielded
    kept = share(row.kept) + ("" if row.keeps or not limited else " !")
    against = "-" if row.against_safe.mean is None else relative(row.against_safe)
    against += "" if row.clean or not limited else " !"
    name = f"{row.name} (safe)" if row.name == safe else row.name
    return name, kept, amount(row.carbon_mg, ".3f"), against


def table(report: ShiftReport) -> Table:
    """The table for a terminal."""
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for title in COLUMNS:
        drawn.add_column(title, no_wrap=True)
    for case in report.cases:
        if case.skipped:
            drawn.add_row(case.case.name, case.skipped)
        for i, row in enumerate(case.rows):
            first = f"{case.case.name} ({case.feasible}/{report.episodes})" if i == 0 else ""
            drawn.add_row(first, *cells(case, row, report.safe), style="bold green" if row.asked else None)
    return drawn


def sentences(report: ShiftReport) -> list[str]:
    """The verdict, one sentence per policy, and what the reader must know of the safe rule."""
    said = [_about(report, name) for name in dict.fromkeys(row.name for _, row in report.deployed)]
    failing = [c.case.name for c in report.cases for r in c.rows if r.name == report.safe and not r.keeps]
    if failing:
        said.append(
            f"The safe rule itself misses the limit in {listed(failing)}: less CO2 than its there is no merit."
        )
    said += [f"{name} was left out: it {reason}." for name, reason in report.failed]
    return said


def _about(report: ShiftReport, name: str) -> str:
    rows = [(case, row) for case, row in report.deployed if row.name == name]
    late = [f"{case.case.name} ({share(row.kept)})" for case, row in rows if not row.keeps]
    dirty = [f"{case.case.name} ({relative(row.against_safe)})" for case, row in rows if not row.clean]
    if not late and not dirty:
        return f"{name} stays within both limits in all {len(rows)} cases."
    parts = []
    if late:
        parts.append(f"keeps the SLO too seldom in {listed(late)}")
    if dirty:
        parts.append(f"is dirtier than allowed in {listed(dirty)}")
    return f"{name} {' and '.join(parts)}."


def as_json(report: ShiftReport) -> dict[str, Any]:
    """Everything, with what is needed to repeat it."""
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": report.scenario.name,
        "scenario_sha256": scenario_sha256(report.scenario),
        "seed": report.seed,
        "episodes": report.episodes,
        "command": command_line(),
        "commit": commit(),
        "safe_rule": report.safe,
        "limits": {"least_kept": LEAST_KEPT, "most_dirtier": MOST_DIRTIER},
        "holds": report.holds,
        "verdict": sentences(report),
        "cases": {case.case.name: _case_json(case) for case in report.cases},
    }


def _case_json(case: CaseResult) -> dict[str, Any]:
    return {
        "meaning": case.case.meaning,
        "skipped": case.skipped or None,
        "scenario_sha256": None if case.scenario is None else scenario_sha256(case.scenario),
        "feasible_episodes": case.feasible,
        "policies": {row.name: _row_json(row) for row in case.rows},
        "excluded": [{"name": name, "reason": reason} for name, reason in case.excluded],
    }


def _row_json(row: ShiftRow) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "asked": row.asked,
        "kept_share": row.kept.as_json(),
        "carbon_mg_per_request": row.carbon_mg.as_json(),
        "carbon_against_safe": row.against_safe.as_json(),
        "keeps": row.keeps,
        "clean": row.clean,
        "members": list(row.members),
    }
