"""Greedy plans with hindsight: one pass through the real dynamics, each request on its own merits.

Several rules run abreast on copies of the tapes, because a batch of episodes costs little more than one: prices of a
miss (from nothing to prohibitive), with and without the radio's energy in the choice. A price on misses spends the
budget where it saves most, as the partial sort does; which price uses it up is found by narrowing the range.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from ..envs.tape import Tape
from .replay import columns_of, start

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
NEVER = np.inf  # price of a miss under which none is bought


def greedy_plans(
    scenario: Scenario, tape: Tape, price_mg: npt.ArrayLike, count_radio: npt.ArrayLike
) -> npt.NDArray[np.int64]:
    """Take at each request the lowest carbon + price x miss that the queues left by earlier choices allow.

    Args:
        scenario: the site.
        tape: episodes (B).
        price_mg: carbon that avoiding a miss may cost, mg (B,); `NEVER` misses only where nothing meets the SLO, and
            then as briefly as possible.
        count_radio: whether the radio's energy counts in the choice (B,).

    Returns:
        Plans (N, B).
    """
    price, counted = np.asarray(price_mg, dtype=np.float64), np.asarray(count_radio, dtype=bool)
    never = np.isinf(price)
    simulator = start(scenario, tape)
    slo_ms = scenario.slo.latency_ms
    plans = np.zeros((scenario.episode.requests, price.size), dtype=np.int64)
    for n in range(len(plans)):
        outcomes = simulator.preview()
        carbon = np.stack([o.carbon_mg for o in outcomes])
        latency = np.stack([o.latency_ms for o in outcomes])
        carbon -= np.where(counted, 0.0, radio_carbon_mg(outcomes))
        missed = latency > slo_ms
        # No finite price may outweigh the SLO where misses are forbidden; among misses the fastest is taken.
        cost = np.where(missed, np.where(never, 1e9 + latency, carbon + np.where(never, 0.0, price)), carbon)
        plans[n] = cost.argmin(axis=0)
        if simulator.step(plans[n]).truncated.all():
            break
    return plans


def radio_carbon_mg(outcomes: list) -> F64:
    """Carbon of each placement's radio energy, mg (P, B)."""
    local = outcomes[0]
    # All energy of a local request is drawn from the device's grid, so it tells that grid's mg per joule.
    energy_j = np.asarray(local.energy_j_marginal)
    mg_per_j = np.divide(local.carbon_mg_marginal, energy_j, out=np.zeros_like(energy_j), where=energy_j > 0)
    return np.stack([o.radio_energy_j * mg_per_j for o in outcomes])


def abreast(tape: Tape, copies: int) -> Tape:
    """Each episode ``copies`` times, side by side."""
    return columns_of(tape, np.repeat(np.arange(tape.words.shape[-1]), copies))
