"""What verify prints and writes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import __version__
from ...envs.scenario import scenario_sha256
from ...envs.schema import Scenario
from ..calibrate.renewal import parts_of
from .checks import Check
from .compare import Comparison, Figure
from .meter_windows import MeterFigure
from .regret import Regret
from .verification import Verification

SCHEMA = "carbonpilot/verify/1"
WIDTH = 200  # columns where there is no terminal


def print_verification(found: Verification, log: str) -> None:
    """Print tables and the verdict on standard output."""
    from ...envs.console import table_console

    console = table_console(WIDTH)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    say(
        f"[bold]{found.scenario.name}[/bold]: {log}, {len(found.requests)} requests played with their own placements"
    )
    console.print(_latency_table(found.cells, "By link condition"))
    console.print(_latency_table(found.totals, "On the calibrated link"))
    console.print(_energy_table(found.totals))
    for line in [*_meters(found.meters), *_regret(found.regret, found.scenario), *found.notes]:
        say(line)
    for check in found.checks:
        say(f"{'ok     ' if check.ok else 'FAILED '} {check.what}: {check.detail} ({check.part})")
    say(verdict(found))


def verdict(found: Verification) -> str:
    """The last line: what to do."""
    if not found.checks or not any(t.judged for t in found.totals):
        return (
            "Nothing could be judged: too few requests on the calibrated link. Run longer, or calibrate "
            "for this link."
        )
    if found.ok:
        return "The site file fits this run."
    keys = found.recalibrate
    again = " ".join(f"--part {part}" for part in parts_of(keys))
    return (
        f"Calibrate again: {', '.join(keys)} no longer fit{'s' if len(keys) == 1 else ''}: "
        f"carbonpilot calibrate --renew SITE.yaml {again} --images FRAMES --out SITE.yaml"
    )


def _latency_table(cells: list[Comparison], title: str) -> Any:
    from rich.table import Table

    table = Table(title=title, box=None, padding=(0, 2, 0, 0), title_justify="left")
    for heading in ("placement", "condition", "loss and rate", "requests"):
        table.add_column(heading)
    for name in ("mean", "p50", "p95"):
        table.add_column(f"{name} ms")
        table.add_column("predicted", no_wrap=True)
        table.add_column("error", no_wrap=True)
    for c in cells:
        numbers = [text for f in (c.mean_ms, c.p50_ms, c.p95_ms) for text in _cells(f)]
        table.add_row(c.placement, c.condition, c.basis, str(c.count), *numbers)
    return table


def _cells(f: Figure) -> tuple[str, str, str]:
    return (
        f"{f.measured:.4g}",
        f"{f.predicted:.4g} \\[{f.low:.4g}, {f.high:.4g}]",
        f"{100 * f.relative_error:+.1f} %",
    )


def _energy_table(totals: list[Comparison]) -> Any:
    from rich.table import Table

    table = Table(
        title="Energy per request, marginal, J", box=None, padding=(0, 2, 0, 0), title_justify="left"
    )
    for heading in ("placement", "as the run counted", "predicted", "error"):
        table.add_column(heading)
    for c in totals:
        table.add_row(c.placement, *(("unknown", "", "") if c.energy_j is None else _cells(c.energy_j)))
    return table


def _meters(figures: list[MeterFigure]) -> list[str]:
    if not figures:
        return [
            "No meter watched the device in this run: its energy is the calibrated one, not a measurement."
        ]
    return [
        f"{m.meter} ({m.scope}): {m.net_j:.4g} J above idle in {m.windows} windows, the simulator says "
        f"{m.predicted_j:.4g} J for the same {m.requests} requests"
        for m in figures
    ]


def _regret(found: Regret | None, scenario: Scenario) -> list[str]:
    if found is None:
        return []
    r, missed = found.regret_mg, found.misses
    return [
        f"On the recorded tape ({scenario.account} account) the placements taken emit {found.taken_mg.mean():.4g} mg "
        f"per request and miss {100 * missed['taken']:.1f} %; the device alone {found.local_mg.mean():.4g} mg and "
        f"{100 * missed['local']:.1f} %; the best plan in hindsight {found.hindsight_mg.mean():.4g} mg and "
        f"{100 * missed['hindsight']:.1f} %.",
        f"Regret: {r.mean():.4g} mg per request [{r.min():.4g}, {r.max():.4g}] over {r.size} draws of the noise.",
    ]


def as_json(found: Verification, log: str, seed: int) -> dict[str, Any]:
    """The content of the JSON file."""
    scenario = found.scenario
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": scenario.name,
        "scenario_sha256": scenario_sha256(scenario),
        "seed": seed,
        "log": log,
        "ok": found.ok,
        "recalibrate": found.recalibrate,
        "verdict": verdict(found),
        "requests": len(found.requests),
        "unanswered": found.requests.unanswered,
        "failed_calls": found.requests.failed,
        "placements": [_comparison(c) for c in found.totals],
        "conditions": [_comparison(c) for c in found.cells],
        "checks": [_check(c) for c in found.checks],
        "meters": [vars(m) for m in found.meters],
        "policies": _policies(found),
        "notes": found.notes,
    }


def _comparison(c: Comparison) -> dict[str, Any]:
    names = ("mean_ms", "p50_ms", "p95_ms", "energy_j", "head_ms", "rest_ms")
    figures = {name: _figure(getattr(c, name)) for name in names}
    head = {"placement": c.placement, "condition": c.condition, "basis": c.basis, "count": c.count}
    return {**head, "judged": c.judged, **figures}


def _figure(f: Figure | None) -> dict[str, Any] | None:
    if f is None:
        return None
    error = f.relative_error
    return {
        "measured": f.measured,
        "predicted": {"mean": f.predicted, "ci95": [f.low, f.high]},
        "relative_error": error if np.isfinite(error) else None,
    }


def _check(c: Check) -> dict[str, Any]:
    return {"part": c.part, "what": c.what, "ok": c.ok, "detail": c.detail}


def _policies(found: Verification) -> dict[str, Any]:
    """The run as it was, as it is predicted, and the hindsight plan."""
    r, names = found.requests, [p.name for p in found.scenario.placements]
    share = np.bincount(r.placement, minlength=len(names)) / len(r)
    slo = found.scenario.slo.latency_ms
    carbon = None if np.isnan(r.carbon_mg).any() else _one(float(r.carbon_mg.mean()))
    joules = r.energy_j[~np.isnan(r.energy_j)]
    out: dict[str, Any] = {
        "as-run": {
            "carbon_mg_per_request": carbon,
            "energy_j_per_request": _one(float(joules.mean())) if joules.size else None,
            **{f"latency_p{q}_ms": _one(float(np.quantile(r.latency_ms, q / 100))) for q in (50, 95, 99)},
            "slo_miss_rate": _one(float((r.latency_ms > slo).mean())),
            "placement_share": dict(zip(names, share.tolist(), strict=True)),
        }
    }
    if found.regret is not None:
        for name, values in (
            ("as-simulated", found.regret.taken_mg),
            ("hindsight", found.regret.hindsight_mg),
            ("always-local", found.regret.local_mg),
        ):
            key = {"as-simulated": "taken", "hindsight": "hindsight", "always-local": "local"}[name]
            out[name] = {
                "carbon_mg_per_request": _spread(values),
                "slo_miss_rate": _one(found.regret.misses[key]),
            }
        out["as-simulated"]["regret_mg_per_request"] = _spread(found.regret.regret_mg)
    return out


def _one(value: float) -> dict[str, Any]:
    return {"mean": value, "ci95": None}


def _spread(values: np.ndarray) -> dict[str, Any]:
    low, high = np.quantile(values, [0.025, 0.975])
    return {"mean": float(values.mean()), "ci95": [float(low), float(high)]}
