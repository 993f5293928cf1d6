"""The shift report as one HTML page that needs nothing else."""

from __future__ import annotations

import html

from .. import __version__
from ..envs.scenario import scenario_sha256
from .html_style import STYLE
from .provenance import command_line, commit
from .shift_report import ShiftReport
from .shift_rows import CaseResult
from .shift_words import COLUMNS, cells, heading, sentences


def shift_page(report: ShiftReport) -> str:
    """Write the whole page."""
    title = f"CarbonPilot shift report: {report.scenario.name}"
    said = "".join(f"<li>{html.escape(s)}</li>\n" for s in sentences(report))
    notes = "".join(f'<p class="muted">{html.escape(line)}</p>' for line in heading(report))
    cases = "".join(_case(report, case) for case in report.cases)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body><main>\n<h1>{html.escape(title)}</h1>\n"
        f'{_verdict(report)}<ul class="sentences">{said}</ul>\n{notes}{cases}'
        f"<h2>How this was made</h2>\n<pre>{html.escape(command_line())}</pre>\n"
        f'<p class="muted">Scenario SHA-256 {scenario_sha256(report.scenario)}; carbonpilot {__version__}, commit '
        f"{commit()}</p>\n</main></body></html>\n"
    )


def _verdict(report: ShiftReport) -> str:
    if not report.deployed:
        tone, word = "even", "No policy was asked for"
    else:
        tone, word = ("good", "The limits hold") if report.holds else ("bad", "A limit is broken")
    return f'<section class="verdict {tone}"><p class="word">{word}</p></section>\n'


def _case(report: ShiftReport, case: CaseResult) -> str:
    head = f"<h2>{html.escape(case.case.name)}</h2>\n<p>{html.escape(case.case.meaning)}</p>\n"
    if case.skipped:
        return f'{head}<p class="muted">{html.escape(case.skipped)}</p>\n'
    titles = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in COLUMNS[1:])
    body = ""
    for row in case.rows:
        name, *rest = cells(case, row, report.safe)
        style = ' class="learned"' if row.asked else ""
        tds = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        body += f'<tr{style}><th scope="row">{html.escape(name)}</th>{tds}</tr>\n'
    return (
        f'{head}<p class="muted">Hindsight keeps the objective in {case.feasible} of {report.episodes} episodes.</p>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(case.case.name)}"><table>'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )
