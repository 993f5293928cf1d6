"""The picture of how far each policy is from hindsight, and from what no plan can go below."""

from __future__ import annotations

from .benchmark_result import BenchmarkResult
from .certified import lower_bound, tightest
from .comparison import best_matched, opponent
from .html_svg import WIDTH, Frame, Picture, linear, shortened, ticks
from .metrics import SLO_LATENCY
from .policy_result import CARBON, PolicyResult
from .words import fixed

ROW = 31.0  # height of one policy
MOST, FEWEST = 12, 5  # policies of the picture


def distance_from_hindsight(result: BenchmarkResult) -> str:
    """Carbon of the policies that count, with intervals, hindsight and what no plan can go below."""
    shown = _shown_in_distance(result)
    picture, frame = _rows(result, shown, CARBON, "CO2, mg per request")
    bound = tightest(result)
    least = None if bound is None else lower_bound(result, bound).mean
    if least is not None:
        x, _ = frame.at(least, 0)
        picture.box(frame.left, frame.top, x - frame.left, frame.bottom - frame.top, "shade")
        picture.line([(x, frame.top), (x, frame.bottom)], "rule-line")
        picture.text(max(x, 60), 14, "no plan below", "note", "middle")
    if result.oracle is not None:
        x, _ = frame.at(result.oracle.carbon_mg, 0)
        picture.line([(x, frame.top), (x, frame.bottom)], "curve", "stroke:var(--oracle)")
        picture.text(max(x, 40), 28, "hindsight", "note", "middle" if least is None else "start")
        _compared(picture, frame, [r.carbon_mg for r in shown], result.oracle.carbon_mg)
    return picture.svg()


def distance_from_objective(result: BenchmarkResult) -> str:
    """The same of the latency at the objective's quantile, for a site where nobody keeps the objective."""
    slo = result.scenario.slo
    shown = _shown_in_distance(result)
    picture, frame = _rows(result, shown, SLO_LATENCY, f"p{100 * slo.quantile:g} latency, ms", slo.latency_ms)
    x, _ = frame.at(slo.latency_ms, 0)
    picture.line([(x, frame.top), (x, frame.bottom)], "rule-line")
    picture.text(max(x, 40), 28, f"SLO {slo.latency_ms:g} ms", "note", "middle")
    _compared(picture, frame, [r.slo_latency_ms for r in shown], slo.latency_ms)
    return picture.svg()


def _rows(
    result: BenchmarkResult, shown: list[PolicyResult], metric: str, name: str, least: float = 0.0
) -> tuple[Picture, Frame]:
    """One row per policy: its name, and its mark at the metric with the interval."""
    top = 1.12 * max([float(r.metrics[metric].mean()) for r in shown] + [least, 1e-9])
    height = 34 + ROW * len(shown)
    frame = Frame(8, 34, WIDTH - 64, height, linear(0, top), linear(0, 1))
    picture = Picture(f"{name} of each policy, with 95 % intervals", height + 42)
    picture.x_axis(frame, [(t, f"{t:g}") for t in ticks(0, top)], name)
    for i, policy in enumerate(shown):
        estimate = result.mean(policy, metric)
        y = frame.top + ROW * i + 23
        if estimate.low is not None and estimate.high is not None:
            ends = [(frame.at(v, 0)[0], y) for v in (estimate.low, estimate.high)]
            picture.line(ends, f"whisker {policy.kind}")
        picture.mark(frame.at(estimate.mean or 0.0, 0)[0], y, policy.kind, policy.complies)
        look = "strong" if policy.kind == "learned" else ""
        picture.text(frame.left + 4, y - 8, shortened(policy.name), look)
    return picture, frame


def _compared(picture: Picture, frame: Frame, values: list[float], to: float) -> None:
    """Write behind each row how far it is above the line that it is measured from."""
    for i, value in enumerate(values):
        if to > 0:
            text = "0 %" if value == to else f"{fixed(100 * (value / to - 1), 0, sign=True)} %"
            picture.text(WIDTH - 4, frame.top + ROW * i + 27.5, text, "tick", "end")


def _shown_in_distance(result: BenchmarkResult) -> list[PolicyResult]:
    """Learned ones and whom they are measured against first, then what complies, then the next in the table."""
    hidden = {name for group in result.groups for name in group.members}
    ranked = [r for r in result.ranked() if r.name not in hidden]
    matched = [best_matched(result, r) for r in result.contenders] if result.feasible else []
    first = [r for r in (result.oracle, opponent(result), result.reference, *matched) if r is not None]
    complying = [r for r in ranked if r.complies]
    wanted = list(dict.fromkeys([*result.contenders, *first, *complying]))
    rest = [r for r in ranked if r not in wanted][: max(0, FEWEST - len(wanted))]
    metric = CARBON if result.feasible else SLO_LATENCY
    return sorted([*wanted[:MOST], *rest], key=lambda r: float(r.metrics[metric].mean()))
