"""The table, the sentences and the JSON of `carbonpilot oracle`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..envs.scenario import scenario_sha256
from ..envs.schema import Scenario
from .coupled import SmallestReachable
from .result import OracleResult

F64 = npt.NDArray[np.float64]


def table(scenario: Scenario, results: dict[str, OracleResult], episodes: int, seed: int) -> Any:
    """A rich table, one row an oracle."""
    from rich.box import SIMPLE
    from rich.table import Table

    slo = scenario.slo
    title = (
        f"{scenario.name}: hindsight on {episodes} tapes of the evaluation part, seed {seed}, "
        f"{scenario.episode.requests} requests each. CO2 in mg per request, {scenario.account} account; "
        f"SLO p{100 * slo.quantile:g} <= {slo.latency_ms:g} ms; "
        "gap to the bound: mean, 95 % quantile and largest; seconds per episode"
    )
    out = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    out.add_column("oracle", no_wrap=True)
    for heading in ("CO2", "bound", "gap %", "q95", "max", "miss", "met %", "s"):
        out.add_column(heading, justify="right", no_wrap=True)
    for name, result in results.items():
        out.add_row(name, *_cells(result))
    return out


def _cells(result: OracleResult) -> list[str]:
    gap = 100 * result.gap[~np.isnan(result.gap)]
    certified = not np.isnan(result.lower_bound_mg).any()
    gaps = [f"{x:.2f}" for x in (gap.mean(), np.quantile(gap, 0.95), gap.max())] if gap.size else ["-"] * 3
    return [
        f"{result.value_mg.mean():.4f}",
        f"{result.lower_bound_mg.mean():.4f}" if certified else "-",
        *gaps,
        f"{result.misses.mean():.1f}",
        f"{100 * result.feasible.mean():.0f}",
        f"{result.seconds / len(result.misses):.2f}",
    ]


def sentences(results: dict[str, OracleResult]) -> list[str]:
    """How to read the bound, and what weakens it."""
    lines = [f"{r.name}: {r.note}." for r in results.values() if r.note]
    if any(not np.isnan(r.lower_bound_mg).any() for r in results.values()):
        lines.append("Bound: no plan that keeps the SLO emits less, whatever it knows. Gap: 1 - bound / CO2.")
    return lines


def unreachable_sentence(scenario: Scenario, reachable: SmallestReachable, tapes: int) -> str:
    """What to say of tapes on which no plan was found that keeps the SLO."""
    slo, found, bound = scenario.slo, reachable.found_ms, reachable.bound_ms
    name = f"p{100 * slo.quantile:g}"
    proved = int((bound > slo.latency_ms).sum())
    return (
        f"No oracle found a plan that keeps {name} <= {slo.latency_ms:g} ms on {found.size} of {tapes} tapes; on "
        f"{proved} of them it is certain that there is none. The smallest {name} found there is {found.min():.0f} to "
        f"{found.max():.0f} ms, and none can be below {bound.min():.0f} ms. Raise slo.latency_ms or lower the load."
    )


def as_json(scenario: Scenario, results: dict[str, OracleResult], seed: int) -> dict[str, Any]:
    """The content of the JSON file."""
    return {
        "schema": "carbonpilot/oracle/1",
        "carbonpilot_version": __version__,
        "scenario": scenario.name,
        "scenario_sha256": scenario_sha256(scenario),
        "seed": seed,
        "part": "evaluation",
        "episodes": len(next(iter(results.values())).misses),
        "account": scenario.account,
        "policies": {name: _figures(r, len(scenario.placements)) for name, r in results.items()},
    }


def _figures(result: OracleResult, placements: int) -> dict[str, Any]:
    certified = not np.isnan(result.lower_bound_mg).any()
    gap = result.gap[~np.isnan(result.gap)]
    shares = np.bincount(result.plan.ravel(), minlength=placements) / result.plan.size
    return {
        "carbon_mg_per_request": _estimate(result.value_mg),
        "lower_bound_mg": _estimate(result.lower_bound_mg) if certified else None,
        "gap": {**_estimate(gap), "max": float(gap.max())} if gap.size else None,
        "slo_miss_rate": _estimate(result.misses / result.requests),
        "episodes_meeting_slo": _estimate(result.feasible.astype(np.float64)),
        "slo_quantile_ms": _estimate(result.latency_ms),
        "placement_share": shares.tolist(),
        "seconds": result.seconds,
        "note": result.note,
        "tapes": {
            "carbon_mg_per_request": result.value_mg.tolist(),
            "lower_bound_mg": result.lower_bound_mg.tolist() if certified else None,
            "misses": result.misses.tolist(),
            "feasible": result.feasible.tolist(),
        },
    }


def _estimate(values: F64) -> dict[str, Any]:
    """Mean and its 95 % interval over the tapes (normal approximation); no interval for a single tape."""
    mean, count = float(np.mean(values)), values.size
    if count < 2:
        return {"mean": mean, "ci95": None}
    half = 1.96 * float(np.std(values, ddof=1)) / count**0.5
    return {"mean": mean, "ci95": [mean - half, mean + half]}
