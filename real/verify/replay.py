"""Plays a recorded tape through the simulator with the placements really taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.outcome import LATENCY_TERMS, MARGINAL_ENERGY_TERMS
from ...envs.schema import Scenario
from ...envs.simulator import Simulator
from ...envs.tape import Tape

F64 = npt.NDArray[np.float64]
HEAD = ("device_wait_ms", "head_ms")  # terms that only split models have


@dataclass(frozen=True)
class Played:
    """What the simulator says of the same requests; a row per request, a column per draw of the noise (N, B).

    Attributes:
        latency_ms: from issue to answer.
        energy_j, carbon_mg: marginal account.
        account_mg: carbon in the scenario's account.
        device_j: the part of ``energy_j`` that the device itself draws.
        device_wait_ms, head_ms: of split models: waiting for the device, and the head; 0 of whole ones.
        terms: mean latency terms by name (N,), ms.
    """

    latency_ms: F64
    energy_j: F64
    carbon_mg: F64
    account_mg: F64
    device_j: F64
    device_wait_ms: F64
    head_ms: F64
    terms: dict[str, F64]

    def part(self, rows: slice) -> Played:
        """Some of the requests."""
        arrays = {name: values[rows] for name, values in vars(self).items() if name != "terms"}
        return Played(**arrays, terms={name: values[rows] for name, values in self.terms.items()})


def play(scenario: Scenario, tape: Tape, plan: npt.NDArray[np.int64]) -> Played:
    """Step through a tape of B episodes.

    Args:
        scenario: as `tape_of_log.replay_scenario` made it.
        tape: with as many requests.
        plan: placements (N,) for all draws, or (N, B).
    """
    draws = tape.words.shape[-1]
    plan = np.broadcast_to(plan[:, None] if plan.ndim == 1 else plan, (len(plan), draws))
    simulator = Simulator(scenario, draws)
    simulator.reset_tape(tape)
    shape = plan.shape
    kept = (
        "latency_ms",
        "energy_j_marginal",
        "carbon_mg_marginal",
        "carbon_mg",
        *MARGINAL_ENERGY_TERMS[:2],
        *HEAD,
    )
    out = {name: np.zeros(shape) for name in kept}
    terms = {name: np.zeros(shape[0]) for name in LATENCY_TERMS}
    try:
        for n, placements in enumerate(plan):
            outcome = simulator.step(placements).outcome
            for name, values in out.items():
                values[n] = getattr(outcome, name)
            for name, values in terms.items():
                values[n] = getattr(outcome, name).mean()
    finally:
        simulator.close()
    return Played(
        latency_ms=out["latency_ms"],
        energy_j=out["energy_j_marginal"],
        carbon_mg=out["carbon_mg_marginal"],
        account_mg=out["carbon_mg"],
        device_j=out["compute_energy_j"] + out["radio_energy_j"],
        device_wait_ms=out["device_wait_ms"],
        head_ms=out["head_ms"],
        terms=terms,
    )


def joined(parts: list[Played]) -> Played:
    """Stretches of the same number of draws, one after the other."""
    if len(parts) == 1:
        return parts[0]
    names = ("latency_ms", "energy_j", "carbon_mg", "account_mg", "device_j", *HEAD)
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    terms = {name: np.concatenate([p.terms[name] for p in parts]) for name in parts[0].terms}
    return Played(**arrays, terms=terms)
