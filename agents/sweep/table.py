"""The results table of a sweep as Markdown, for a terminal, as HTML and as JSON."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from ... import __version__
from ..html_style import STYLE
from ..policy_result import CARBON, COMPLIANT_SHARE, PolicyResult
from ..provenance import command_line, commit
from ..report_json import as_json
from ..scoreboard import cell
from ..statistics import Estimate
from ..verdict import verdict
from .report import SEEDS_ASKED, SiteReport, explanation

SCHEMA = "carbonpilot/sweep-report/1"


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        heading: what it holds; "shielded: " stands before it where it is of the policy under the shield.
        value: the number of a policy.
        form: how it is written.
        interval: whether its interval is shown.
        shielded: whether it is of the policy under the shield.
    """

    heading: str
    value: Callable[[SiteReport, PolicyResult], Estimate]
    form: str
    interval: bool = False
    shielded: bool = False

    @property
    def title(self) -> str:
        """The whole heading."""
        return f"shielded: {self.heading}" if self.shielded else self.heading


def _mean(metric: str) -> Callable[[SiteReport, PolicyResult], Estimate]:
    return lambda report, policy: report.field.result.mean(policy, metric)


def _met(report: SiteReport, policy: PolicyResult) -> Estimate:
    return report.field.result.share_meeting(policy)


def _gap(report: SiteReport, policy: PolicyResult) -> Estimate:
    return report.gap_closed(policy) if policy.complies else Estimate(None)


def _saving(report: SiteReport, policy: PolicyResult) -> Estimate:
    return report.saving_share(policy) if policy.complies else Estimate(None)


COLUMNS = (
    Column("CO2 mg per request", _mean(CARBON), "{:.3f}", interval=True),
    Column("episodes within the SLO %", _met, "{:.0%}", interval=True),
    Column("gap closed %", _gap, "{:.0%}", interval=True),
    Column("saving %", _saving, "{:.0%}"),
    Column("misses %", _mean("slo_miss_rate"), "{:.1%}"),
    Column("p95 ms", _mean("latency_p95_ms"), "{:.0f}"),
    Column("CO2 mg", _mean(CARBON), "{:.3f}", interval=True, shielded=True),
    Column("within the SLO %", _met, "{:.0%}", interval=True, shielded=True),
    Column("gap closed %", _gap, "{:.0%}", interval=True, shielded=True),
)


def cells(report: SiteReport, policy: PolicyResult) -> list[str]:
    """The cells of one policy; what does not exist is a dash."""
    under = report.field.shielded.get(policy.name)
    found = []
    for column in COLUMNS:
        of = under if column.shielded else policy
        found.append("-" if of is None else cell(column.value(report, of), column.form, column.interval))
    return found


def label(policy: PolicyResult) -> str:
    """A policy's name; a star says that it complies, and a word that its parameters were tuned."""
    tuned = ", tuned" if policy.tuned and not policy.name.endswith("-tuned") else ""
    return f"{policy.name}{tuned}{' *' if policy.complies else ''}"


def markdown(reports: Sequence[SiteReport]) -> str:
    """The tables of all sites, ready for a README."""
    parts = []
    for report in reports:
        lines = [f"### {report.name}", "", *explanation(report), ""]
        lines += [f"| policy | {' | '.join(c.title for c in COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
        for policy in report.rows():
            name = label(policy).replace("*", "\\*")
            bold = "**" if policy.kind == "learned" else ""
            lines.append(f"| {bold}{name}{bold} | {' | '.join(cells(report, policy))} |")
        lines += ["", *(f"- {note}" for note in [*report.notes, *verdict(report.field.result)]), ""]
        parts.append("\n".join(lines))
    return "\n".join([*parts, f"Made by `{command_line()}`.", ""])


def terminal(report: SiteReport) -> Table:
    """The table of one site for a terminal."""
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    drawn.add_column("policy", no_wrap=True)
    for column in COLUMNS:
        drawn.add_column(column.title, justify="right", no_wrap=True)
    for policy in report.rows():
        drawn.add_row(
            label(policy), *cells(report, policy), style="bold green" if policy.kind == "learned" else None
        )
    return drawn


def page(reports: Sequence[SiteReport]) -> str:
    """All sites as one HTML page that needs nothing else."""
    sites = "".join(_site(report) for report in reports)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>CarbonPilot sweep</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body><main>\n<h1>CarbonPilot sweep</h1>\n{sites}"
        f"<h2>How this was made</h2>\n<pre>{html.escape(command_line())}</pre>\n"
        f'<p class="muted">carbonpilot {__version__}, commit {html.escape(commit())}</p>\n</main></body></html>\n'
    )


def _site(report: SiteReport) -> str:
    head = "".join(f'<th scope="col">{html.escape(t)}</th>' for t in ("policy", *(c.title for c in COLUMNS)))
    rows = ""
    for policy in report.rows():
        marked = ' class="learned"' if policy.kind == "learned" else ""
        values = "".join(f"<td>{html.escape(text)}</td>" for text in cells(report, policy))
        rows += f'<tr{marked}><th scope="row">{html.escape(label(policy))}</th>{values}</tr>\n'
    told = "".join(f'<p class="muted">{html.escape(line)}</p>' for line in explanation(report))
    notes = "".join(f"<li>{html.escape(n)}</li>" for n in [*report.notes, *verdict(report.field.result)])
    name = html.escape(report.name)
    return (
        f'<h2>{name}</h2>\n{told}<div class="scroll" tabindex="0" role="region" aria-label="Results on {name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
        f'<ul class="sentences">{notes}</ul>\n'
    )


def as_plain(reports: Sequence[SiteReport]) -> dict[str, Any]:
    """All sites as plain data: the benchmark's contract for each, and what a sweep adds."""
    first = reports[0].field.result
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "command": command_line(),
        "commit": commit(),
        "seed": first.seed,
        "episodes": first.episodes,
        "compliant_share": COMPLIANT_SHARE,
        "seeds_asked": SEEDS_ASKED,
        "sites": {report.name: _plain_site(report) for report in reports},
    }


def _plain_site(report: SiteReport) -> dict[str, Any]:
    result, rule = report.field.result, report.rule
    rows = report.rows()
    return {
        **as_json(result),
        "agents": {f.name: {"members": list(f.members), "seeds": list(f.seeds)} for f in result.families},
        "best_rule": None if rule is None else rule.name,
        "rule_gap_closed": {r.name: report.gap_closed(r).as_json() for r in rows},
        "oracle_saving_share": {r.name: report.saving_share(r).as_json() for r in rows},
        "shielded": {name: _shielded(report, policy) for name, policy in report.field.shielded.items()},
        "over_risk_heads": {one.agent: one.as_json() for one in report.over_heads},
        "failed": report.field.failed,
        "notes": report.notes,
    }


def _shielded(report: SiteReport, policy: PolicyResult) -> dict[str, Any]:
    result = report.field.result
    return {
        CARBON: result.mean(policy, CARBON).as_json(),
        "slo_miss_rate": result.mean(policy, "slo_miss_rate").as_json(),
        "latency_p95_ms": result.mean(policy, "latency_p95_ms").as_json(),
        "episodes_meeting_slo": result.share_meeting(policy).as_json(),
        "rule_gap_closed": report.gap_closed(policy).as_json(),
        "complies": policy.complies,
        "note": policy.note,
    }
