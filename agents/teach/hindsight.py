"""What hindsight says about whole tapes: the oracle's plan, and what a miss is worth on each tape.

The only module of the teacher that asks the oracle; it is handed training tapes by `tapes.TeachingTapes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.schema import Scenario
from ...envs.simulator import Simulator
from ...envs.tape import Tape
from ...oracle.replay import start
from ...oracle.result import allowed_misses
from ...oracle.solvers import make_oracle

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
BUDGET = "oracle-budget"


@dataclass(frozen=True)
class Hindsight:
    """An oracle's plan of some tapes, and the price of a miss that it implies.

    Attributes:
        plan: placements (N, B).
        dual_mg: carbon that the last affordable miss of each tape saves, mg (B,); NaN where requests that nothing
            can save use the whole budget up, so that no miss is bought at any price.
    """

    plan: I64
    dual_mg: F64


def hindsight(scenario: Scenario, tape: Tape, oracle: str) -> Hindsight:
    """Solve tapes.

    Args:
        scenario: the site.
        tape: training tapes (B).
        oracle: name of one of the oracles (`oracle.solvers.ORACLES`).
    """
    simulator = Simulator(scenario, tape.words.shape[-1])
    simulator.reset_tape(tape)
    policy = make_oracle(oracle, scenario)
    policy.bind(simulator)
    policy.reset(simulator.batch)
    policy.decide(np.zeros((simulator.batch, 1), np.float32), simulator.masks())  # this is when it solves
    assert policy.plan is not None, "an oracle has its plan once it was asked to decide"
    return Hindsight(policy.plan, duals_mg(scenario, tape, policy.plan))


def duals_mg(scenario: Scenario, tape: Tape, plan: I64) -> F64:
    """Dual of the budget of misses along a plan's own trajectory, mg (B,); see `Hindsight`."""
    simulator, count = start(scenario, tape), tape.words.shape[-1]
    saving = np.zeros((scenario.episode.requests, count))
    running, requests = np.ones(count, dtype=bool), np.zeros(count, dtype=np.int64)
    for n, placements in enumerate(plan):
        outcomes = simulator.preview()
        carbon = np.stack([o.carbon_mg for o in outcomes])
        missed = np.stack([o.missed for o in outcomes])
        keeping = np.where(missed, np.inf, carbon).min(axis=0)
        saving[n] = np.where(running, keeping - carbon.min(axis=0), 0.0)
        requests += running
        running &= ~simulator.step(placements).truncated
        if not running.any():
            break
    return budget_dual_mg(saving, allowed_misses(requests, scenario.slo.quantile))


def budget_dual_mg(saving_mg: F64, allowed: I64) -> F64:
    """Price at which the misses that pay are as many as the budget allows (B,), mg.

    Args:
        saving_mg: carbon that missing a request saves (N, B), mg; infinite where it cannot be kept.
        allowed: misses that the budget allows (B,).

    Returns:
        The largest saving that the budget does not reach any more; NaN where it is infinite.
    """
    ordered = -np.sort(-saving_mg, axis=0)
    first_left = np.minimum(allowed, len(saving_mg) - 1)
    dual = np.take_along_axis(ordered, first_left[None], axis=0)[0]
    return np.where(np.isfinite(dual), dual, np.nan)
