"""How far a price on misses could get that knows what every placement of the waiting request would come to.

Prediction, telemetry and probing can give a policy that decides request by request no more than that: the true outcome
of each placement in this moment. So this plays the price of the site's shipped risk head with certainty in place of the
head's probabilities, beside the tuned rule and hindsight, on training tapes, with and without shifts of the world. The
price was searched for probabilities, so multiples of its price of a miss can be played too: with certainty a miss is a
purchase and no accident.

With ``--head`` that head plays too, with its probabilities as they are, at the same multiples of its own price of a
miss, and once with the risk alone: what caution can buy where nothing more is known.

The last row knows the carbon of each placement as well, as hindsight does. In whose batch a request will ride is luck
that nothing observable tells of (`predictable_carbon.py`).

    .venv/bin/python benchmarks/known_outcomes.py metro --shift busy --shift slow-device
    .venv/bin/python benchmarks/known_outcomes.py metro --miss-price 0.1 --miss-price 0.3 --miss-price 1
    .venv/bin/python benchmarks/known_outcomes.py metro --shift busy --head agents/pretrained/risk/metro-wide
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from carbonpilot.agents.policy_registry import contestants
from carbonpilot.agents.predictive_view import PlacementView, View
from carbonpilot.agents.risk.parameters import PRICE
from carbonpilot.agents.risk.policy import LearnedRisk, shipped
from carbonpilot.agents.risk.price import Price
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.shift_cases import CASES, UNCHANGED
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import LOCAL, Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.units import MG_PER_J_PER_G_PER_KWH

HINDSIGHT, RULE = "oracle-budget", "slo-predictive-budget"
CERTAIN = 12.0  # log-odds
MISS = ("miss_price_mg", "miss_price_locals")
Played = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # misses and mg a request by episode (B,)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenario")
    parser.add_argument("--shift", action="append", choices=[c.name for c in CASES], help="repeatable")
    parser.add_argument("--episodes", type=int, default=150)
    parser.add_argument("--seed", type=int, default=79)
    parser.add_argument("--miss-price", type=float, action="append", help="times the head's own; repeatable")
    parser.add_argument("--head", help="risk folder that plays with its own probabilities as well")
    options = parser.parse_args()
    site = load_scenario(options.scenario)
    seeds = np.random.default_rng(options.seed).integers(0, 2**62, options.episodes)
    price = shipped(site).price.parameters
    cases = {case.name: case for case in CASES}
    allowed = (1 - site.slo.quantile) * site.episode.requests
    print(f"{'shift':14} {'policy':22} {'mg':>7} {'SLO met':>8} {'where hindsight does':>21} {'missed':>7}")
    for name in (UNCHANGED, *(options.shift or ())):
        shifted = cases[name].of(site)
        rows = {e.name: by_rule(e.policy, shifted, seeds) for e in contestants([HINDSIGHT, RULE], site)}
        for times in options.miss_price or [1.0]:
            rows[f"known misses x {times:g}"] = by_known(shifted, multiplied(price, times), seeds)
        if options.head:
            rows |= by_head(shifted, options.head, options.miss_price or [1.0], seeds)
        rows["known misses, carbon"] = by_known(shifted, price, seeds, carbon=True)
        feasible = rows[HINDSIGHT][0] <= allowed
        for policy, (missed, carbon_mg) in rows.items():
            met = missed <= allowed
            print(
                f"{name:14} {policy:22} {carbon_mg.mean():7.4f} {met.mean():8.1%} {met[feasible].mean():21.1%} "
                f"{missed.mean() / site.episode.requests:7.2%}"
            )


def multiplied(price: dict[str, float], times: float) -> dict[str, float]:
    """The price with misses at a multiple, no farther than the range of its numbers."""
    limits = {t.name: (t.low, t.high) for t in PRICE}
    changed = {name: float(np.clip(times * price[name], *limits[name])) for name in MISS}
    return {**price, **changed}


def by_rule(policy, site: Scenario, seeds: npt.NDArray[np.int64]) -> Played:
    record = run_policy(policy, site, seeds, "training")
    return record.missed.sum(axis=0).astype(float), record.carbon_mg.mean(axis=0)


def by_head(
    site: Scenario, folder: str, prices: list[float], seeds: npt.NDArray[np.int64]
) -> dict[str, Played]:
    """The head with multiples of its own price of a miss, and with nothing but the risk."""
    rows = {}
    for times in prices:
        policy = LearnedRisk.load(folder, site)
        policy.price = Price(site, multiplied(policy.price.parameters, times))
        rows[f"head x {times:g}"] = by_rule(policy, site, seeds)
    policy = LearnedRisk.load(folder, site)
    policy.price.scores = lambda observation, logits: logits  # type: ignore[method-assign]  # whatever it emits
    return {**rows, "head, least risk": by_rule(policy, site, seeds)}


def by_known(
    site: Scenario, price: dict[str, float], seeds: npt.NDArray[np.int64], carbon: bool = False
) -> Played:
    """Each request at the lowest price, with what the simulator says of every placement."""
    simulator, prices = Simulator(site, len(seeds), part="training"), Price(site, price)
    knowledge = CarbonKnowledge(site, price)
    observation, requests = simulator.reset(seeds), 0
    missed, carbon_mg, running = np.zeros(len(seeds)), np.zeros(len(seeds)), np.ones(len(seeds), bool)
    while running.any():
        outcomes = simulator.preview()
        late = np.stack([outcome.missed for outcome in outcomes], axis=1)
        seen = knowledge.put_into(observation, outcomes) if carbon else observation
        scores = prices.scores(seen, np.where(late, CERTAIN, -CERTAIN).astype(np.float32))
        result = simulator.step(np.where(simulator.masks(), scores, np.inf).argmin(axis=1))
        missed += result.outcome.missed * running
        carbon_mg += np.asarray(result.outcome.carbon_mg) * running
        requests += 1
        observation, running = result.observation, running & ~result.truncated
    simulator.close()
    return missed, carbon_mg / requests


class CarbonKnowledge:
    """Puts each placement's true carbon where an observation has the believed one."""

    def __init__(self, site: Scenario, price: dict[str, float]) -> None:
        """Find the columns; ``price`` corrects beliefs, which the truth does not need."""
        table, self._site = build_table(site), site
        columns = [table.index[f"{p.name}_carbon_mg"] for p in site.placements]
        self._columns = [(column, table.features[column].scale) for column in columns]
        self._view, self._price = PlacementView(site), price

    def put_into(self, observation: npt.NDArray[np.float32], outcomes) -> npt.NDArray[np.float32]:
        """A copy of observations (B, F) that the price corrects to the truth, but for the radio's tail, its own."""
        seen, view = observation.copy(), self._view.of(observation)
        tail_mg = self._tail_mg(view)
        for i, ((column, scale), outcome) in enumerate(zip(self._columns, outcomes, strict=True)):
            true_mg = np.asarray(outcome.carbon_mg)
            if self._site.placements[i].node != LOCAL:
                share = 1 + self._price["load_carbon_share"] * view.load[i]
                true_mg = (true_mg - tail_mg) / (self._price["remote_carbon_factor"] * share)
            seen[:, column] = true_mg / scale
        return seen

    def _tail_mg(self, view: View) -> npt.NDArray[np.floating]:
        """Carbon of the radio's tail that an offload adds now (B,), mg; it is in an offload's own carbon."""
        radio = self._site.device.radio
        if radio is None:
            return np.zeros_like(view.radio_tail_s)
        mg_per_s = radio.tail_power_w * MG_PER_J_PER_G_PER_KWH * view.device_carbon_g_per_kwh
        return (radio.tail_s - view.radio_tail_s) * mg_per_s


if __name__ == "__main__":
    main()
