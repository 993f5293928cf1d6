"""The report as one HTML page that needs nothing else: no script, no file, no network."""

from __future__ import annotations

import html
import re

from .. import __version__
from ..envs.scenario import scenario_sha256
from .benchmark_result import BenchmarkResult
from .comparison import opponent
from .html_distance import distance_from_hindsight, distance_from_objective
from .html_figures import carbon_against_misses, latency_cdf, latency_legend, mark_legend
from .html_reliability import reliability
from .html_style import STYLE
from .html_table import score_table, table_notes
from .html_time import all_tapes, most_disputed, one_tape, placement_legend, shown_policies, world_legend
from .policy_result import CARBON, COMPLIANT_SHARE, PolicyResult
from .provenance import command_line, commit
from .report_extras import Extras
from .scoreboard import heading, time_line
from .verdict import headline, verdict
from .words import bracket, percent

# Outcome -> the big word of the page, and its tone.
WORDS = {
    "wins": ("The agent wins", "good"),
    "loses": ("The agent loses", "bad"),
    "no clear difference": ("No clear difference", "even"),
    "buys carbon with misses": ("Carbon bought with misses", "bad"),
    "does not comply": ("The agent misses the objective", "bad"),
    "infeasible": ("Nobody can keep the objective", "bad"),
    "no agent": ("No learned policy was played", "even"),
}
# Areas are told apart by this as well as by their colour.
HATCH = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><pattern id="hatch" width="5" '
    'height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="5" '
    'style="stroke:var(--hatch);stroke-width:2.5"/></pattern></defs></svg>'
)


def html_page(result: BenchmarkResult, extras: Extras | None = None) -> str:
    """Write the whole page.

    Args:
        result: the benchmark.
        extras: what is shown beside it.
    """
    extras = extras or Extras()
    title = f"CarbonPilot benchmark: {result.scenario.name}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body>{HATCH}<main>\n<h1>{html.escape(title)}</h1>\n"
        + _top(result, extras)
        + _verdict(result)
        + _scores(result)
        + _policies(result)
        + _time(result)
        + reliability(extras.calibrations)
        + _break_even(extras)
        + _made(result)
        + "</main></body></html>\n"
    )


def _top(result: BenchmarkResult, extras: Extras) -> str:
    outcome, sentence = headline(result)
    word, tone = WORDS[outcome]
    before = f"<p>{html.escape(extras.conclusion)}</p>" if extras.conclusion else ""
    return (
        f'<section class="verdict {tone}"><p class="word">{word}</p><p>{html.escape(sentence)}</p>{before}</section>\n'
        + _facts(result)
    )


def _facts(result: BenchmarkResult) -> str:
    """The few numbers that the verdict rests on."""
    learned = sorted(result.contenders, key=lambda r: (not r.complies, r.carbon_mg))[:1]
    wanted = [("learned", learned[0] if learned else None), ("best without learning", opponent(result))]
    wanted += [("hindsight", result.oracle)]
    facts = [_fact(result, role, policy) for role, policy in wanted if policy is not None]
    return f'<dl class="facts">{"".join(facts)}</dl>\n'


def _fact(result: BenchmarkResult, role: str, policy: PolicyResult) -> str:
    carbon = result.estimates[policy.name][CARBON]
    met = f"SLO met in {percent(policy.compliance)} of the episodes"
    latency = f"p{100 * result.scenario.slo.quantile:g} {policy.slo_latency_ms:.0f} ms"
    value = f"{policy.carbon_mg:.3f} mg" if result.feasible else latency
    more = f"CO2 per request{bracket(carbon, 1, 3)}" if result.feasible else f"{policy.carbon_mg:.3f} mg CO2"
    return (
        f"<div><dt>{role}: {html.escape(policy.name)}</dt><dd>{value}<small>{html.escape(more)}</small>"
        f"<small>{html.escape(met)}</small></dd></div>"
    )


def _verdict(result: BenchmarkResult) -> str:
    said = headline(result)[1]
    rest = [sentence for sentence in verdict(result) if sentence != said]
    if not rest:
        return ""
    return f'<h2>Verdict</h2>\n<ul class="sentences">{_paragraphs("li", rest)}</ul>\n'


def _scores(result: BenchmarkResult) -> str:
    notes = "".join(
        f'<p class="muted">{html.escape(line)}</p>' for line in [*heading(result), table_notes(result)]
    )
    return f"<h2>Scores</h2>\n{score_table(result)}{notes}\n"


def _policies(result: BenchmarkResult) -> str:
    figures = [
        _figure(
            "Carbon against misses",
            carbon_against_misses(result) + mark_legend(),
            "Numbers as in the table; bars are 95 % intervals. Both axes are even up to their first part and "
            "logarithmic beyond, so that the dirtiest policies are in the picture too.",
        ),
        _figure(
            "Latency of all requests",
            latency_cdf(result) + latency_legend(result),
            "A policy whose line runs through the shaded corner answers too late too often. The last few per cent "
            "are spread out.",
        ),
        _distance(result),
    ]
    return f'<h2>How the policies stand</h2>\n<div class="figures">{"".join(figures)}</div>\n'


def _distance(result: BenchmarkResult) -> str:
    if not result.feasible:
        return _figure(
            "Distance from the objective",
            distance_from_objective(result),
            "Nobody keeps the objective here, so what counts is how near they come to it. On the right: latency "
            "above the SLO.",
        )
    return _figure(
        "Distance from hindsight",
        distance_from_hindsight(result),
        "On the right: carbon above hindsight. Shaded, where a bound was computed: what no plan that meets "
        "the SLO can reach. Hindsight itself is a plan that was found, not a bound.",
    )


def _time(result: BenchmarkResult) -> str:
    if not shown_policies(result):
        return ""
    figures = [
        _figure(
            f"Mean of all {result.episodes} tapes",
            all_tapes(result),
            "Lines: medians of the tapes; a band, where drawn, holds eight tapes in ten.",
        )
    ]
    if result.world is not None and any(r.placement is not None for r in shown_policies(result)):
        episode = most_disputed(result)
        figures.append(
            _figure(
                f"One tape: number {episode + 1}",
                one_tape(result, episode),
                "The tape on which the policies shown disagree most about single requests, whoever is right.",
            )
        )
    return (
        "<h2>Placements over time</h2>\n"
        f'{placement_legend(result)}{world_legend(result)}<div class="figures two">{"".join(figures)}</div>\n'
    )


def _break_even(extras: Extras) -> str:
    if not extras.map_svg:
        return ""
    return (
        "<h2>Where carbon can be saved at all</h2>\n"
        f'<div class="map" tabindex="0" role="region" aria-label="Break-even map">{_element(extras.map_svg)}</div>\n'
    )


def _element(svg: str) -> str:
    """The <svg> element of an SVG document, without the XML declaration before it."""
    start = re.search(r"<svg\b", svg)
    return svg[start.start() :] if start else ""


def _made(result: BenchmarkResult) -> str:
    rows = [
        ("scenario", f"{result.scenario.name}, SHA-256 {scenario_sha256(result.scenario)}"),
        ("tapes", f"{result.episodes} of the {result.part} part, seed {result.seed}"),
        ("complies", f"SLO met in at least {percent(COMPLIANT_SHARE, 0)} of the episodes"),
        ("version", f"carbonpilot {__version__}, commit {commit()}"),
    ]
    rows += [
        (name, f"{t.algorithm}, training seed {t.seed}, weights SHA-256 {t.sha256}")
        for name, t in result.trainings.items()
    ]
    rows += [(r.name, r.note) for r in result.results if r.note]
    rows.append(("time", time_line(result).removeprefix("Time: ")))
    listed = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in rows)
    return f'<h2>How this was made</h2>\n<pre>{html.escape(command_line())}</pre>\n<dl class="made">{listed}</dl>\n'


def _figure(title: str, content: str, caption: str) -> str:
    return f"<figure><h3>{html.escape(title)}</h3>{content}<figcaption>{html.escape(caption)}</figcaption></figure>\n"


def _paragraphs(tag: str, texts: list[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>\n" for text in texts)
