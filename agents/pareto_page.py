"""The front of a dial as pictures and as one HTML page that needs nothing else."""

from __future__ import annotations

import html

from .. import __version__
from ..envs.scenario import scenario_sha256
from .dial_lines import PRESET_LINE, Position
from .html_style import STYLE
from .html_svg import WIDTH, Frame, Picture, linear, mark, ticks
from .pareto import ACCURACY, MISSES, ParetoResult
from .pareto_report import COLUMNS, by_preset, heading, label, preset_names, sentences
from .policy_result import CARBON, PolicyResult
from .provenance import command_line, commit
from .scoreboard import cell

HEIGHT = 362


def front_picture(result: ParetoResult, metric: str) -> str:
    """CO2 against accuracy or misses: the line of the presets, the other positions, and what does not know the dial."""
    of_dial = list(result.played.values())
    shown = [*of_dial, *_near(result)]
    factor = 100.0 if metric == MISSES else 1.0
    across = [r.carbon_mg for r in shown]
    up = [factor * float(r.metrics[metric].mean()) for r in shown]
    names = {MISSES: "requests that miss the SLO, %", ACCURACY: "expected accuracy, mIoU %"}
    low = 0.0 if metric == MISSES else _padded(up)[0]
    frame = Frame(44, 24, WIDTH - 12, 318, linear(*_padded(across)), linear(low, _padded(up)[1]))
    picture = Picture(f"{names[metric]} against CO2 per request", HEIGHT)
    picture.y_axis(frame, [(t, f"{t:g}") for t in ticks(low, _padded(up)[1])], names[metric])
    picture.x_axis(frame, [(t, f"{t:g}") for t in ticks(*_padded(across))], "CO2, mg per request")
    if metric == MISSES:
        allowed = 100 * (1 - result.scenario.slo.quantile)
        ends = [frame.at(v, allowed) for v in _padded(across)]
        if low < allowed < _padded(up)[1]:
            picture.line(ends, "rule-line")
    at = lambda r: frame.at(r.carbon_mg, factor * float(r.metrics[metric].mean()))  # noqa: E731
    picture.line([at(result.played[p.key]) for p in result.line(PRESET_LINE)], "front")
    for other in _near(result):
        picture.mark(*at(other), other.kind, other.complies, tip=_tip(other.name, other))
    named = preset_names(result)
    for position in _once(result):
        played = result.played[position.key]
        x, y = at(played)
        size = 7.0 if position.key in named else 4.5
        picture.mark(x, y, "learned", played.complies, size, _tip(label(result, position), played))
        if position.key in named:
            right = x > 0.75 * WIDTH  # a name at the edge is written to the left of its mark
            picture.text(
                x - 8 if right else x + 8, y - 6, named[position.key], "strong", "end" if right else "start"
            )
    return picture.svg()


def _near(result: ParetoResult) -> list[PolicyResult]:
    """Others within reach of the dial; what is far off would press it into a corner."""
    dirtiest = max(r.carbon_mg for r in result.played.values())
    worst = max(0.1, 2.0 * max(float(r.metrics[MISSES].mean()) for r in result.played.values()))
    return [
        r for r in result.others if r.carbon_mg <= 1.3 * dirtiest and float(r.metrics[MISSES].mean()) <= worst
    ]


def _padded(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return max(0.0, low - pad), high + pad


def _once(result: ParetoResult) -> list[Position]:
    """Each position once, named ones last, so that they lie on top."""
    named = preset_names(result)
    found = {p.key: p for p in result.positions}
    return sorted(found.values(), key=lambda p: p.key in named)


def _tip(name: str, played: PolicyResult) -> str:
    return (
        f"{name}: {played.carbon_mg:.3f} mg, {100 * float(played.metrics[MISSES].mean()):.1f} % missed, "
        f"mIoU {float(played.metrics[ACCURACY].mean()):.1f}"
    )


def shares_picture(result: ParetoResult) -> str:
    """Where the requests went at the site's own position and at the presets, as bars."""
    rows = by_preset(result)
    height = 34 + 40 * len(rows)
    picture = Picture("Share of each placement at the presets", height)
    left, right = 112.0, WIDTH - 12
    for i, (name, played) in enumerate(rows):
        top, x = 12.0 + 40 * i, left
        picture.text(left - 6, top + 17, name, "tick", "end")
        for k, share in enumerate(played.shares.mean(axis=1)):
            wide = float(share) * (right - left)
            placement = result.scenario.placements[k].name
            picture.parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}" height="24" style="fill:var(--p{k % 8})">'
                f"<title>{html.escape(placement)}: {100 * float(share):.1f} %</title></rect>"
            )
            x += wide
    return picture.svg()


def _placements_legend(result: ParetoResult) -> str:
    items = [
        f'<li><svg viewBox="0 0 28 12" aria-hidden="true"><rect x="2" y="1" width="24" height="10" '
        f'style="fill:var(--p{k % 8})"/></svg>{html.escape(p.name)}</li>'
        for k, p in enumerate(result.scenario.placements)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _marks_legend() -> str:
    items = [
        f'<li><svg viewBox="-14 -9 28 18" aria-hidden="true">{mark(0, 0, kind, filled)}</svg>{name}</li>'
        for kind, filled, name in (
            ("learned", True, "a position of the dial"),
            ("rule", True, "rule"),
            ("static", True, "static placement"),
            ("learned", False, "open: does not comply"),
        )
    ]
    items.append(
        '<li><svg viewBox="0 0 28 12" aria-hidden="true"><line x1="0" y1="6" x2="28" y2="6" class="front"/></svg>'
        "from green to performance</li>"
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def pareto_page(result: ParetoResult) -> str:
    """Write the whole page."""
    title = f"CarbonPilot dial: {result.policy} on {result.scenario.name}"
    tone, word = ("good", "The dial holds") if result.holds else ("bad", "The dial does not hold")
    said = "".join(f"<li>{html.escape(s)}</li>\n" for s in sentences(result))
    notes = "".join(f'<p class="muted">{html.escape(line)}</p>' for line in heading(result))
    figures = "".join(
        f"<figure><h3>{name}</h3>{content}<figcaption>{caption}</figcaption></figure>\n"
        for name, content, caption in (
            ("CO2 against accuracy", front_picture(result, ACCURACY) + _marks_legend(), "Up and right: what it costs."),
            ("CO2 against misses", front_picture(result, MISSES), "The line across is what the objective allows."),
            ("Where the requests went", shares_picture(result) + _placements_legend(result), "Means over the tapes."),
        )
    )  # fmt: skip
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body><main>\n<h1>{html.escape(title)}</h1>\n"
        f'<section class="verdict {tone}"><p class="word">{word}</p></section>\n'
        f'<h2>What the dial does</h2>\n<ul class="sentences">{said}</ul>\n{notes}'
        f'<h2>The front</h2>\n<div class="figures">{figures}</div>\n'
        f"<h2>Scores</h2>\n{_table(result)}"
        f"<h2>How this was made</h2>\n<pre>{html.escape(command_line())}</pre>\n"
        f'<p class="muted">Scenario SHA-256 {scenario_sha256(result.scenario)}; carbonpilot {__version__}, commit '
        f"{commit()}</p>\n</main></body></html>\n"
    )


def _table(result: ParetoResult) -> str:
    titles = ["position", *(c[1] for c in COLUMNS), *(f"{p.name} %" for p in result.scenario.placements)]
    head = "".join(f'<th scope="col">{html.escape(t)}</th>' for t in titles)
    rows = [(label(result, p), result.played[p.key]) for p in result.positions]
    rows += [
        (r.name, r) for r in sorted(result.others, key=lambda r: (not r.complies, r.metrics[CARBON].mean()))
    ]
    body = ""
    for name, played in rows:
        estimates = result.estimates(played)
        cells = [cell(estimates[metric], form, shown) for metric, _, form, shown in COLUMNS]
        cells += [f"{100 * share:.0f}" for share in played.shares.mean(axis=1)]
        star = " *" if played.complies else ""
        tds = "".join(f"<td>{html.escape(c)}</td>" for c in cells)
        body += f'<tr><th scope="row">{html.escape(name)}{star}</th>{tds}</tr>\n'
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Scores at every position"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )
