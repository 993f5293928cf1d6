"""The risk heads' reliability in the report: predicted against observed shares of misses, and the counts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from .html_svg import WIDTH, Frame, Picture, linear, ticks

COLOURS = 8  # of the page's style, --p0 to --p7
LEAST_SAMPLES = 30  # of a bin that is drawn; the share of fewer says little
SIDE = WIDTH - 60.0


def reliability(calibrations: Mapping[str, Mapping[str, Any]]) -> str:
    """The section of the page; nothing where no policy has a risk head.

    Args:
        calibrations: of each policy, as in a risk folder's ``price.json``.
    """
    if not calibrations:
        return ""
    figures = "".join(_figure(name, found) for name, found in calibrations.items())
    return (
        "<h2>Is the predicted risk the risk?</h2>\n"
        "<p>Probabilities that the risk head gave on fresh training tapes, and how many misses followed. On the line "
        "both are the same. Of all placements the label is what they would have come to; <em>chosen</em> are those "
        f'that were placed.</p>\n<div class="figures">{figures}</div>\n'
    )


def _figure(name: str, found: Mapping[str, Any]) -> str:
    return (
        f"<figure><h3>{html.escape(name)}</h3>{_curves(name, found)}{_table(found)}"
        f"<figcaption>Bins with fewer than {LEAST_SAMPLES} samples are not drawn. The error is the mean distance "
        "between predicted and observed, by samples.</figcaption></figure>\n"
    )


def _curves(name: str, found: Mapping[str, Any]) -> str:
    frame = Frame(48, 28, 48 + SIDE, 28 + SIDE * 0.7, linear(0, 1), linear(0, 1))
    picture = Picture(f"Reliability of the risk head of {name}", frame.bottom + 42)
    shares = [(t, f"{100 * t:g}") for t in ticks(0, 1)]
    picture.x_axis(frame, shares, "predicted, %")
    picture.y_axis(frame, shares, "observed, %")
    picture.line([frame.at(0, 0), frame.at(1, 1)], "rule-line")
    for i, curve in enumerate(found.values()):
        drawn = [b for b in curve["bins"] if b["samples"] >= LEAST_SAMPLES]
        points = [frame.at(b["predicted"], b["observed"]) for b in drawn]
        picture.line(points, "curve", f"stroke:{_colour(i)};stroke-width:2")
        for b, (x, y) in zip(drawn, points, strict=True):
            tip = (
                f"{b['samples']} samples: {100 * b['predicted']:.1f} % predicted, {100 * b['observed']:.1f} %"
            )
            picture.parts.append(
                f'<g><title>{tip}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{_colour(i)}"/></g>'
            )
    return picture.svg()


def _table(found: Mapping[str, Any]) -> str:
    head = "".join(f'<th scope="col">{t}</th>' for t in ("samples", "predicted %", "observed %", "error %"))
    rows = "".join(
        f'<tr><th scope="row"><svg viewBox="0 0 28 12" width="28" height="12" aria-hidden="true"><rect width="28" '
        f'height="12" style="fill:{_colour(i)}"/></svg> {html.escape(name)}</th><td>{c["samples"]}</td>'
        f"<td>{100 * c['miss_share_predicted']:.2f}</td><td>{100 * c['miss_share_observed']:.2f}</td>"
        f"<td>{100 * c['expected_calibration_error']:.2f}</td></tr>"
        for i, (name, c) in enumerate(found.items())
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Calibration"><table><thead><tr>'
        f'<th scope="col">placement</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _colour(index: int) -> str:
    return f"var(--p{index % COLOURS})"
