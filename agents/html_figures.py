"""The pictures of policies against each other: carbon and misses, latencies, distance from hindsight."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

import numpy as np

from .benchmark_result import BenchmarkResult
from .comparison import opponent
from .html_svg import WIDTH, Frame, Picture, half_log, linear, mark, tail_log, ticks
from .policy_result import CARBON, PolicyResult
from .statistics import Estimate

KINDS = {"learned": "learned", "rule": "rule", "static": "static placement", "oracle": "hindsight"}
# The lines that stand out in the latencies: colour and dashes, so that neither alone has to tell them apart.
LEARNED_LINES = (("--learned", ""), ("--p4", "9 3"), ("--p2", "3 3"))
OTHER_LINES = {
    "opponent": ("--rule", "7 3"),
    "reference": ("--static", "2 2.5"),
    "oracle": ("--oracle", "11 3 2 3"),
}


@dataclass(frozen=True)
class Line:
    """How a policy is drawn where few stand out."""

    policy: PolicyResult
    colour: str
    dashes: str

    @property
    def style(self) -> str:
        """As CSS."""
        return f"stroke:var({self.colour});stroke-dasharray:{self.dashes or 'none'}"


def outstanding(result: BenchmarkResult) -> list[Line]:
    """The policies that a reader wants to tell apart: learned, their opponent, the reference and hindsight."""
    learned = sorted(result.contenders, key=lambda r: (not r.complies, r.carbon_mg))[: len(LEARNED_LINES)]
    lines = [Line(r, *look) for r, look in zip(learned, LEARNED_LINES, strict=False)]
    others = {"opponent": opponent(result), "reference": result.reference, "oracle": result.oracle}
    seen = {r.name for r in learned}
    for role, policy in others.items():
        if policy is not None and policy.name not in seen:
            lines.append(Line(policy, *OTHER_LINES[role]))
            seen.add(policy.name)
    return lines


def carbon_against_misses(result: BenchmarkResult) -> str:
    """Carbon per request against the share of requests that miss the SLO, with intervals and the front."""
    allowed = 100 * (1 - result.scenario.slo.quantile)
    worst = max(_misses(result, r).high or _misses(result, r).mean or 0.0 for r in result.entries)
    dirtiest = max(_carbon(result, r).high or _carbon(result, r).mean or 0.0 for r in result.entries)
    right, knee = max(2 * allowed, 105 * worst, 1.0), carbon_limit(result)
    top = max(knee, 1.05 * dirtiest)
    frame = Frame(44, 24, WIDTH - 12, 318, half_log(allowed, right), half_log(knee, top))
    picture = Picture("Carbon per request against the share of requests that miss the SLO", 362)
    heights = ticks(0, knee) + [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if 1.3 * knee < t <= top]
    picture.y_axis(frame, [(t, f"{t:g}") for t in heights], "CO2, mg per request")
    marks = [t for t in (0, 1, 2, 3, 5, 10, 20, 50, 100) if t <= right and (t < 5 or t >= allowed)]
    picture.x_axis(frame, [(t, f"{t:g}") for t in marks], "requests that miss the SLO, %")
    edge, _ = frame.at(allowed, 0)
    picture.box(edge, frame.top, frame.right - edge, frame.bottom - frame.top, "shade")
    picture.line([(edge, frame.top), (edge, frame.bottom)], "rule-line")
    picture.text(edge + 5, frame.bottom - 7, f"more than {allowed:g} % miss", "note")
    picture.line(_front(result, frame), "front")
    labels = []
    for rank, policy in reversed(list(enumerate(result.ranked(), start=1))):
        x, y = _point(picture, frame, result, policy)
        labels.append((x, y, str(rank), policy.kind))
    _labels(picture, frame, labels)
    return picture.svg()


def _point(
    picture: Picture, frame: Frame, result: BenchmarkResult, policy: PolicyResult
) -> tuple[float, float]:
    """Draw a policy with its intervals; returns where."""
    carbon, misses = _carbon(result, policy), _misses(result, policy)
    value, missed = carbon.mean or 0.0, 100 * (misses.mean or 0.0)
    x, y = frame.at(missed, value)
    if carbon.low is not None and carbon.high is not None:
        picture.line([frame.at(missed, carbon.low), frame.at(missed, carbon.high)], f"whisker {policy.kind}")
    if misses.low is not None and misses.high is not None:
        ends = [frame.at(100 * misses.low, value), frame.at(100 * misses.high, value)]
        picture.line(ends, f"whisker {policy.kind}")
    tip = f"{policy.name}: {value:.3f} mg, {missed:.1f} % missed"
    picture.mark(x, y, policy.kind, policy.complies, tip=tip)
    return x, y


def _labels(picture: Picture, frame: Frame, labels: list[tuple[float, float, str, str]]) -> None:
    """Write a label near each point (x, y, text, kind), clear of points and other labels where there is room."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y, _, _ in labels]
    for x, y, text, kind in labels:
        wide = 8.0 * len(text)
        spots = [_around(x, y, wide, radius, angle) for radius in RADII for angle in range(DIRECTIONS)]
        inside = [
            s
            for s in spots
            if frame.left < s[0] and s[2] < WIDTH and frame.top - 8 < s[1] and s[3] < frame.bottom
        ]
        spot = next((s for s in inside if not any(_touch(s, t) for t in taken)), (inside or spots)[0])
        taken.append(spot)
        middle = ((spot[0] + spot[2]) / 2, (spot[1] + spot[3]) / 2)
        if math.dist(middle, (x, y)) > 22 + wide / 2:
            picture.line([(x, y), middle], "grid leader")
        picture.text(spot[0], spot[3] - 2, text, "strong" if kind == "learned" else "tick")


# Where a label may stand around its point: how far, and in how many directions.
RADII, DIRECTIONS = (9, 14, 20, 27, 35, 44, 54, 66, 80, 96, 114, 134, 156, 180), 24
Box = tuple[float, float, float, float]  # left, top, right, bottom


def _around(x: float, y: float, wide: float, radius: float, angle: int) -> Box:
    """The box of a label so far from a point in one of the directions, the upper right first."""
    turned = math.radians(360 / DIRECTIONS * angle - 45)
    across, down = math.cos(turned), math.sin(turned)
    middle_x, middle_y = x + across * (radius + wide / 2), y + down * (radius + 5)
    return (middle_x - wide / 2, middle_y - 7, middle_x + wide / 2, middle_y + 7)


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _front(result: BenchmarkResult, frame: Frame) -> list[tuple[float, float]]:
    """The steps below which no policy lies that does not know the future."""
    points = pareto_front([r for r in result.entries if r.kind != "oracle"])
    steps: list[tuple[float, float]] = []
    for i, policy in enumerate(points):
        x, y = frame.at(100 * float(policy.metrics["slo_miss_rate"].mean()), policy.carbon_mg)
        steps += [(x, frame.top if i == 0 else steps[-1][1]), (x, y)]
    return [*steps, (frame.right, steps[-1][1])] if steps else []


def pareto_front(policies: list[PolicyResult]) -> list[PolicyResult]:
    """Policies than which no other has both fewer misses and less carbon, by misses."""
    ordered = sorted(policies, key=lambda r: (float(r.metrics["slo_miss_rate"].mean()), r.carbon_mg))
    front: list[PolicyResult] = []
    for policy in ordered:
        if not front or policy.carbon_mg < front[-1].carbon_mg:
            front.append(policy)
    return front


def carbon_limit(result: BenchmarkResult) -> float:
    """Up to where the carbon axis is even; above it are far dirtier policies, and it is logarithmic."""
    shown = [r for r in result.entries if r.complies or r.kind in ("learned", "oracle")]
    shown += [r for r in (result.reference,) if r is not None]
    least = min(r.carbon_mg for r in result.entries)
    highest = max((r.carbon_mg for r in shown), default=least)
    return 1.25 * max(highest, least, 1e-9)


def _carbon(result: BenchmarkResult, policy: PolicyResult) -> Estimate:
    return result.estimates[policy.name][CARBON]


def _misses(result: BenchmarkResult, policy: PolicyResult) -> Estimate:
    return result.estimates[policy.name]["slo_miss_rate"]


def latency_cdf(result: BenchmarkResult) -> str:
    """Share of the requests answered within a latency, the tail spread out, with the SLO."""
    slo = result.scenario.slo
    right, least = 2.5 * slo.latency_ms, 0.004
    if not result.feasible:
        right = max(right, 1.5 * result.smallest_p95.slo_latency_ms)
    frame = Frame(58, 24, WIDTH - 12, 318, linear(0, right), tail_log(least))
    picture = Picture("Share of the requests answered within a latency, for each policy, and the SLO", 362)
    shares = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    picture.y_axis(frame, [(s, f"{100 * s:g} %") for s in shares], "requests answered")
    picture.x_axis(frame, [(t, f"{t:g}") for t in ticks(0, right)], "latency, ms")
    x, y = frame.at(slo.latency_ms, slo.quantile)
    lines = outstanding(result)
    names = {line.policy.name for line in lines}
    for policy in result.results:
        if policy.name not in names:
            picture.line(_curve(policy, frame, right, least), "others")
    for line in reversed(lines):
        picture.line(_curve(line.policy, frame, right, least), "curve", line.style)
    picture.box(x, y, frame.right - x, frame.bottom - y, "shade")
    picture.line([(x, frame.top), (x, frame.bottom)], "rule-line")
    picture.line([(frame.left, y), (frame.right, y)], "rule-line")
    picture.text(
        x + 5, frame.bottom - 7, f"SLO: p{100 * slo.quantile:g} within {slo.latency_ms:g} ms", "note"
    )
    return picture.svg()


def _curve(policy: PolicyResult, frame: Frame, right: float, least: float) -> list[tuple[float, float]]:
    shares = np.linspace(0, 1, len(policy.latency_cdf_ms))
    wanted = np.unique(1 - np.geomspace(1.0, least, 120))
    latency = np.interp(wanted, shares, policy.latency_cdf_ms)
    kept = latency <= right
    points = [frame.at(float(v), float(s)) for v, s in zip(latency[kept], wanted[kept], strict=True)]
    if points and not kept.all():
        points.append(frame.at(right, float(np.interp(right, latency, wanted))))
    return points


def latency_legend(result: BenchmarkResult) -> str:
    """The key of the lines that stand out, as a list beside the picture."""
    items = [
        f'<li><svg viewBox="0 0 28 12" aria-hidden="true"><line x1="0" y1="6" x2="28" y2="6" class="curve" '
        f'style="{line.style};stroke-width:2.5"/></svg>{html.escape(line.policy.name)}</li>'
        for line in outstanding(result)
    ]
    rest = len(result.results) - sum(line.policy in result.results for line in outstanding(result))
    if rest > 0:
        items.append(
            '<li><svg viewBox="0 0 28 12" aria-hidden="true"><line x1="0" y1="6" x2="28" y2="6" class="others"/>'
            f"</svg>the other {rest}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def mark_legend() -> str:
    """The key of the marks."""
    items = [
        f'<li><svg viewBox="-14 -9 28 18" aria-hidden="true">{mark(0, 0, kind, True)}</svg>{name}</li>'
        for kind, name in KINDS.items()
    ]
    items.append(
        f'<li><svg viewBox="-14 -9 28 18" aria-hidden="true">{mark(0, 0, "rule", False)}</svg>'
        "open: does not comply</li>"
    )
    items.append(
        '<li><svg viewBox="0 0 28 12" aria-hidden="true"><line x1="0" y1="6" x2="28" y2="6" class="front"/></svg>'
        "Pareto front without hindsight</li>"
    )
    return f'<ul class="legend">{"".join(items)}</ul>'
