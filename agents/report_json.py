"""The benchmark as JSON: the contract's keys, and what is needed to repeat and to judge it."""

from __future__ import annotations

from typing import Any

from .. import __version__
from ..envs.scenario import scenario_sha256
from .benchmark_result import BenchmarkResult
from .certified import certainly_infeasible, certified_gap, lower_bound
from .comparison import best_complying, best_matched, comparisons, improvement, opponent
from .metrics import SLO_LATENCY
from .policy_result import COMPLIANT_SHARE, PolicyResult, SeedGroup
from .provenance import command_line, commit
from .report_extras import Extras
from .verdict import verdict

SCHEMA = "carbonpilot/benchmark/1"
# Metrics whose interquartile mean is given beside the mean.
ROBUST = ("carbon_mg_per_request", "energy_j_per_request", "latency_p95_ms", "slo_miss_rate")


def as_json(result: BenchmarkResult, extras: Extras | None = None) -> dict[str, Any]:
    """The result under the keys of the JSON contract (DESIGN.md), with what is needed to repeat it."""
    against, best = opponent(result), result.smallest_p95
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": result.scenario.name,
        "scenario_sha256": scenario_sha256(result.scenario),
        "seed": result.seed,
        "part": result.part,
        "episodes": result.episodes,
        "command": command_line(),
        "commit": commit(),
        "account": result.scenario.account,
        "wishes": result.scenario.wishes.features,
        "compliant_share": COMPLIANT_SHARE,
        "feasible": result.feasible,
        "certainly_infeasible": certainly_infeasible(result),
        "ranked_by": "carbon_mg_per_request" if result.feasible else SLO_LATENCY,
        "smallest_p95": {"policy": best.name, **result.mean(best, SLO_LATENCY).as_json()},
        "reference": None if result.reference is None else result.reference.name,
        "oracle": None if result.oracle is None else result.oracle.name,
        "opponent": None if against is None else against.name,
        "break_even": None if extras is None else extras.conclusion or None,
        "risk_calibration": {} if extras is None else extras.calibrations,
        "policies": {r.name: _policy_json(result, r) for r in result.results},
        "groups": {g.name: _group_json(result, g) for g in result.groups},
        "excluded": [e.as_json() for e in result.excluded],
        "bounds": {name: {"lower_bound_mg": lower_bound(result, name).as_json()} for name in result.bounds},
        "comparisons": [c.as_json() for c in comparisons(result)],
        "verdict": verdict(result),
        "seconds": {**result.seconds, "preparation": result.preparation_s},
    }


def _group_json(result: BenchmarkResult, group: SeedGroup) -> dict[str, Any]:
    about = {"members": list(group.members), "training_seeds": list(group.seeds)}
    return {**about, **_policy_json(result, group)}


def _policy_json(result: BenchmarkResult, policy: PolicyResult) -> dict[str, Any]:
    estimates = {name: estimate.as_json() for name, estimate in result.estimates[policy.name].items()}
    names = [p.name for p in result.scenario.placements]
    shares = policy.shares.mean(axis=1)
    accounts = {
        name: result.mean(policy, name).as_json()
        for name in ("carbon_mg_marginal_per_request", "carbon_mg_attributional_per_request")
    }
    return {
        **estimates,
        "placement_share": {name: float(share) for name, share in zip(names, shares, strict=True)},
        "kind": policy.kind,
        "complies": policy.complies,
        "tuned": policy.tuned,
        "note": policy.note,
        "requests": policy.requests,
        **accounts,
        SLO_LATENCY: result.mean(policy, SLO_LATENCY).as_json(),
        "iqm": {name: result.iqm(policy, name).as_json() for name in ROBUST},
        "probability_of_improvement": _improvement(result, policy),
        "best_at_equal_or_higher_compliance": _matched(result, policy),
        "certified_gap": {name: certified_gap(result, policy, name).as_json() for name in result.bounds},
        "training": _training(result, policy),
    }


def _improvement(result: BenchmarkResult, policy: PolicyResult) -> dict[str, Any] | None:
    """Share of the episodes in which it is cleaner than the best complying policy without learning."""
    best = best_complying(result)
    if best is None:
        return None
    return {"against": best.name, **improvement(result, policy, best).as_json()}


def _matched(result: BenchmarkResult, policy: PolicyResult) -> str | None:
    matched = best_matched(result, policy) if policy.kind == "learned" else None
    return None if matched is None else matched.name


def _training(result: BenchmarkResult, policy: PolicyResult) -> dict[str, Any] | None:
    training = result.trainings.get(policy.name)
    if training is None:
        return None
    return {"algorithm": training.algorithm, "seed": training.seed, "sha256": training.sha256}
