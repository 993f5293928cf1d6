"""The report as one HTML page that needs nothing else: the pictures are inside."""

from __future__ import annotations

import base64
import html

from .. import __version__
from ..envs.scenario import scenario_sha256
from .benchmark import BenchmarkResult
from .plots import draw_plots
from .scoreboard import COLUMNS, heading, rows
from .verdict import verdict

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem;
       margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.learned { font-weight: 600; background: #fdf1e7; }
img { max-width: 100%; height: auto; margin: 1rem 0; }
footer { color: #555; font-size: 13px; }
"""


def html_page(result: BenchmarkResult) -> str:
    """Write the whole page."""
    learned = {r.name for r in result.results if r.kind == "learned"}
    title = f"CarbonPilot benchmark: {result.scenario.name}"
    head = "".join(f"<th>{html.escape(h)}</th>" for h in ["policy", *(c.title for c in COLUMNS)])
    body = "".join(
        f"<tr{' class=learned' if row[0].removesuffix(' *') in learned else ''}>"
        + "".join(f"<td>{html.escape(text)}</td>" for text in row)
        + "</tr>\n"
        for row in rows(result, COLUMNS)
    )
    pictures = "".join(
        f'<img alt="{html.escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">\n'
        for name, png in draw_plots(result).items()
    )
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n"
        + _paragraphs("p", heading(result))
        + "<h2>Verdict</h2>\n<ul>"
        + _paragraphs("li", verdict(result))
        + f"</ul>\n<h2>Scores</h2>\n<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n"
        + f"<h2>Pictures</h2>\n{pictures}"
        + f"<footer>carbonpilot {__version__}, scenario {scenario_sha256(result.scenario)}</footer>\n"
        "</body></html>\n"
    )


def _paragraphs(tag: str, texts: list[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>\n" for text in texts)
