"""The rows of the benchmark's table and the lines above it, as text for any medium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .benchmark import COMPLIANT_SHARE, BenchmarkResult, PolicyResult
from .statistics import RESAMPLES, Estimate


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

COLUMNS = (
    _CARBON,
    Column("J/req", "energy_j_per_request", "{:.2f}"),
    Column("p50 ms", "latency_p50_ms", "{:.0f}"),
    _P95,
    Column("p99 ms", "latency_p99_ms", "{:.0f}"),
    _MISSES,
    _MET,
    Column("mIoU", "accuracy_miou", "{:.1f}"),
    Column("gap closed %", "oracle_gap_closed", "{:.0%}", interval=True),
)
NARROW_COLUMNS = (_CARBON, _P95, _MISSES, _MET, Column("gap %", "oracle_gap_closed", "{:.0%}"))


def percent(share: float | None, digits: int = 1) -> str:
    """A share as it stands in a sentence: '12.3 %', or '-' where it does not exist."""
    if share is None:
        return "-"
    return f"{100 * share:.{digits}f} %"


def heading(result: BenchmarkResult) -> list[str]:
    """What was played, and what the words of the table mean."""
    s = result.scenario
    return [
        f"{s.name}: {result.episodes} tapes of the {result.part} part, seed {result.seed}, "
        f"{s.episode.requests} requests each, the same for every policy. CO2 in the {s.account} account.",
        f"An episode meets the SLO when its p{100 * s.slo.quantile:g} latency is at most "
        f"{s.slo.latency_ms:g} ms; a policy complies (*) when {percent(COMPLIANT_SHARE, 0)} of its episodes "
        f"do. Brackets: 95 % intervals over the tapes ({RESAMPLES} paired resamples; Wilson for SLO met).",
        f"Gap closed: 0 % is {result.reference.name}, 100 % is {result.oracle.name}; it means something "
        "among policies that comply.",
    ]


def rows(result: BenchmarkResult, columns: Sequence[Column]) -> list[list[str]]:
    """The cells of the table, one row per policy: complying ones first, each group by carbon."""
    ordered = sorted(result.results, key=lambda r: (not r.complies, r.carbon_mg))
    return [_row(result, policy, columns) for policy in ordered]


def _row(result: BenchmarkResult, policy: PolicyResult, columns: Sequence[Column]) -> list[str]:
    estimates = result.estimates[policy.name]
    cells = [cell(estimates[c.metric], c.form, c.interval) for c in columns]
    return [policy.name + (" *" if policy.complies else ""), *cells]


def cell(estimate: Estimate, form: str, interval: bool) -> str:
    """One cell: the number, and its interval in brackets where it is shown and exists. No % signs."""
    if estimate.mean is None:
        return "-"
    text = form.format(estimate.mean)
    if interval and estimate.low is not None:
        text += f" [{form.format(estimate.low)}, {form.format(estimate.high)}]"
    return text.replace("%", "")
