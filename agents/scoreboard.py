"""The rows of the benchmark's table and the lines above it, as text for any medium."""

from __future__ import annotations

from .benchmark import COMPLIANT_SHARE, BenchmarkResult, PolicyResult
from .statistics import RESAMPLES, Estimate

# (heading, metric, how a value is written, whether the interval is shown)
COLUMNS = (
    ("CO2 mg/req", "carbon_mg_per_request", "{:.3f}", True),
    ("J/req", "energy_j_per_request", "{:.2f}", False),
    ("p50 ms", "latency_p50_ms", "{:.0f}", False),
    ("p95 ms", "latency_p95_ms", "{:.0f}", False),
    ("p99 ms", "latency_p99_ms", "{:.0f}", False),
    ("misses %", "slo_miss_rate", "{:.1%}", False),
    ("SLO met %", "episodes_meeting_slo", "{:.0%}", True),
    ("mIoU", "accuracy_miou", "{:.1f}", False),
    ("gap closed %", "oracle_gap_closed", "{:.0%}", True),
)


def heading(result: BenchmarkResult) -> list[str]:
    """What was played, and what the words of the table mean."""
    s = result.scenario
    return [
        f"{s.name}: {result.episodes} tapes of the {result.part} part, seed {result.seed}, "
        f"{s.episode.requests} requests each, the same for every policy. CO2 in the {s.account} account.",
        f"An episode meets the SLO when its p{100 * s.slo.quantile:g} latency is at most "
        f"{s.slo.latency_ms:g} ms; a policy complies (*) when {COMPLIANT_SHARE:.0%} of its episodes do. "
        f"Brackets: 95 % intervals over the tapes ({RESAMPLES} paired resamples; Wilson for SLO met).",
        f"Gap closed: 0 % is {result.reference.name}, 100 % is {result.oracle.name}; it means something "
        "among policies that comply.",
    ]


def rows(result: BenchmarkResult) -> list[list[str]]:
    """The cells of the table, one row per policy: complying ones first, each group by carbon."""
    ordered = sorted(result.results, key=lambda r: (not r.complies, r.carbon_mg))
    return [_row(result, policy) for policy in ordered]


def _row(result: BenchmarkResult, policy: PolicyResult) -> list[str]:
    estimates = result.estimates[policy.name]
    cells = [cell(estimates[name], form, interval) for _, name, form, interval in COLUMNS]
    return [policy.name + (" *" if policy.complies else ""), *cells]


def cell(estimate: Estimate, form: str, interval: bool) -> str:
    """One cell: the number, and its interval in brackets where it is shown and exists. No % signs."""
    if estimate.mean is None:
        return "-"
    text = form.format(estimate.mean)
    if interval and estimate.low is not None:
        text += f" [{form.format(estimate.low)}, {form.format(estimate.high)}]"
    return text.replace("%", "")
