"""The scores as an HTML table: one row per policy, intervals below their numbers, excluded policies named."""

from __future__ import annotations

import html

from .benchmark_result import BenchmarkResult
from .comparison import best_complying, improvement
from .html_svg import mark
from .policy_result import CARBON, PolicyResult, SeedGroup
from .scoreboard import COLUMNS, Column, cell
from .statistics import Estimate

# Metrics whose intervals are shown; the rest has them in the JSON.
WITH_INTERVAL = (
    "carbon_mg_per_request",
    "latency_p95_ms",
    "slo_miss_rate",
    "episodes_meeting_slo",
    "oracle_gap_closed",
)


def score_table(result: BenchmarkResult) -> str:
    """The table in a box that scrolls by itself."""
    titles = ["policy", *(c.title for c in COLUMNS), "IQM mg/req", "cleaner %"]
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    head += '<th scope="col" class="screen">time s</th>'
    ranked = result.ranked()
    body = "".join(_row(result, i, policy, _first_dirty(ranked, i)) for i, policy in enumerate(ranked))
    body += "".join(
        f'<tr><th scope="row"><span class="rank"></span>{html.escape(e.name)}</th>'
        f'<td colspan="{len(titles)}" style="text-align:left;white-space:normal">excluded: '
        f"{html.escape(e.reason)}</td></tr>"
        for e in result.excluded
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Scores of all policies"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def _first_dirty(ranked: list[PolicyResult], i: int) -> bool:
    """Whether the policies that do not comply begin with this row."""
    return i > 0 and ranked[i - 1].complies and not ranked[i].complies


def _row(result: BenchmarkResult, index: int, policy: PolicyResult, cut: bool) -> str:
    classes = [name for name, here in (("learned", policy.kind == "learned"), ("cut", cut)) if here]
    icon = f'<svg viewBox="-10 -10 20 20" aria-hidden="true">{mark(0, 0, policy.kind, policy.complies)}</svg>'
    word = "complies" if policy.complies else "does not comply"
    cells = "".join(_cell(result, policy, column) for column in COLUMNS)
    cells += _interval(result.iqm(policy, CARBON), "{:.3f}") + _cleaner(result, policy)
    about = " (mean of its seeds)" if isinstance(policy, SeedGroup) else ""
    return (
        f'<tr class="{" ".join(classes)}"><th scope="row"><span class="rank">{index + 1}</span>'
        f'<span title="{word}">{icon}</span>{html.escape(policy.name)}{" *" if policy.complies else ""}{about}</th>'
        f'{cells}<td class="screen">{policy.seconds:.1f}</td></tr>\n'
    )


def _cell(result: BenchmarkResult, policy: PolicyResult, column: Column) -> str:
    estimate = result.estimates[policy.name][column.metric]
    if column.metric in WITH_INTERVAL:
        return _interval(estimate, column.form)
    return f"<td>{html.escape(cell(estimate, column.form, False))}</td>"


def _cleaner(result: BenchmarkResult, policy: PolicyResult) -> str:
    """In how many of the episodes the policy is cleaner than the one to beat."""
    best = best_complying(result)
    if best is None or best is policy:
        return "<td>-</td>"
    return _interval(improvement(result, policy, best), "{:.0%}")


def _interval(estimate: Estimate, form: str) -> str:
    """A number with its interval below it."""
    text = html.escape(cell(estimate, form, False))
    if estimate.low is None or estimate.high is None:
        return f"<td>{text}</td>"
    low, high = (form.format(v).replace("%", "") for v in (estimate.low, estimate.high))
    return f"<td>{text}<small>{low} – {high}</small></td>"


def table_notes(result: BenchmarkResult) -> str:
    """What the columns mean that the terminal does not have."""
    best = best_complying(result)
    text = "IQM: CO2 per request without the lowest and the highest quarter of the tapes."
    if best is not None:
        text += f" Cleaner: share of the tapes with less CO2 than {best.name}; ties count half."
    return text
