"""The rows of the benchmark's table and the lines above it, as text for any medium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .benchmark_result import BenchmarkResult
from .dial_knowledge import position_text
from .policy_result import COMPLIANT_SHARE, PolicyResult
from .statistics import RESAMPLES, Estimate
from .words import percent

__all__ = ["COLUMNS", "NARROW_COLUMNS", "Column", "cell", "heading", "percent", "rows", "time_line"]


@dataclass(frozen=True)
class Column:
    """A column: its heading, the metric, how the value is written, and whether its interval is shown."""

    title: str
    metric: str
    form: str
    interval: bool = False


_CARBON = Column("CO2 mg/req", "carbon_mg_per_request", "{:.3f}", interval=True)
_P95 = Column("p95 ms", "latency_p95_ms", "{:.0f}")
_MISSES = Column("misses %", "slo_miss_rate", "{:.1%}")
_MET = Column("SLO met %", "episodes_meeting_slo", "{:.0%}", interval=True)

# What a comparison is made of comes first, so that a phone shows it without scrolling.
COLUMNS = (
    _CARBON,
    _MET,
    _MISSES,
    _P95,
    Column("gap closed %", "oracle_gap_closed", "{:.0%}", interval=True),
    Column("J/req", "energy_j_per_request", "{:.2f}"),
    Column("p50 ms", "latency_p50_ms", "{:.0f}"),
    Column("p99 ms", "latency_p99_ms", "{:.0f}"),
    Column("mIoU", "accuracy_miou", "{:.1f}"),
)
NARROW_COLUMNS = (_CARBON, _P95, _MISSES, _MET, Column("gap %", "oracle_gap_closed", "{:.0%}"))


def heading(result: BenchmarkResult) -> list[str]:
    """What was played, and what the words of the table mean."""
    s = result.scenario
    lines = [
        f"{s.name}: {result.episodes} tapes of the {result.part} part, seed {result.seed}, "
        f"{s.episode.requests} requests each, the same for every policy. CO2 in the {s.account} account.",
        f"An episode meets the SLO when its p{100 * s.slo.quantile:g} latency is at most "
        f"{s.slo.latency_ms:g} ms; a policy complies (*) when {percent(COMPLIANT_SHARE, 0)} of its episodes "
        f"do. Brackets: 95 % intervals over the tapes ({RESAMPLES} paired resamples; Wilson for SLO met"
        + ("; Student's t over training seeds, for groups)." if result.groups else ")."),
    ]
    if s.wishes.accuracy > 0:
        lines.append(
            f"The dial stands at {position_text(s.wishes)}. Rules and hindsight heed carbon and the SLO alone: where "
            "accuracy is wished for, look at mIoU beside CO2 (`carbonpilot pareto` draws both)."
        )
    if result.feasible and result.reference is not None and result.oracle is not None:
        lines.append(
            f"Gap closed: 0 % is {result.reference.name}, 100 % is {result.oracle.name}; it means something "
            "among policies that comply."
        )
    return lines


def rows(result: BenchmarkResult, columns: Sequence[Column]) -> list[list[str]]:
    """The cells of the table, one row per policy and group, in the order of `BenchmarkResult.ranked`."""
    return [row(result, policy, columns) for policy in result.ranked()]


def row(result: BenchmarkResult, policy: PolicyResult, columns: Sequence[Column]) -> list[str]:
    """The cells of one policy; a star behind the name says that it complies."""
    estimates = result.estimates[policy.name]
    cells = [cell(estimates[c.metric], c.form, c.interval) for c in columns]
    return [policy.name + (" *" if policy.complies else ""), *cells]


def time_line(result: BenchmarkResult) -> str:
    """Where the time went, slowest policies first."""
    slowest = sorted(result.results, key=lambda r: -r.seconds)[:4]
    told = ", ".join(f"{r.name} {r.seconds:.1f} s" for r in slowest)
    return (
        f"Time: {sum(result.seconds.values()):.1f} s for playing {len(result.results)} policies ({told}), "
        f"{result.preparation_s:.1f} s for loading and compiling the simulator."
    )


def cell(estimate: Estimate, form: str, interval: bool) -> str:
    """One cell: the number, and its interval in brackets where it is shown and exists. No % signs."""
    if estimate.mean is None:
        return "-"
    text = form.format(estimate.mean)
    if interval and estimate.low is not None:
        text += f" [{form.format(estimate.low)}, {form.format(estimate.high)}]"
    return text.replace("%", "")
