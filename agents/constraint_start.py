"""What a miss costs when the SLO's constraint starts: as it was set, as the risk head's price has it, or a guess.

A policy over a risk head starts as that head with its price, which was tuned until it complied. So what a miss must
cost is known, and the controller starts there. But that price rises with the misses that are spent, steeper than the
multiplier does. What is taken is the multiplier at which the head would accept the same risk on the same requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..envs.dial import WISH_FEATURES, reward_weights
from ..envs.errors import InputError
from ..envs.observation import build_table
from ..envs.schema import Scenario
from ..envs.simulator import Simulator
from .constraint import budget_weight
from .risk.folder import Risk
from .risk.policy import LearnedRisk
from .risk.price import STEEPEST, Price
from .training_settings import ConstraintConfig

TAPES = 64
_STREAM = 0x7072696365  # of training tapes, apart from those of normaliser, teacher and training
_HALVINGS = 30

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Start:
    """The first multiplier.

    Attributes:
        multiplier: price of a miss, in units of reward.
        why: where it comes from, for people.
    """

    multiplier: float
    why: str


def constraint_start(
    settings: ConstraintConfig, scenario: Scenario, risk: Risk | None, seed: int, traces_dir: str | None
) -> Start:
    """Find the multiplier that the constraint starts at.

    Args:
        settings: its ``start`` holds where it is given, else the price of ``risk``, else ``start_guess``.
        scenario: the site.
        risk: head and price that the policy is laid over, or None.
        seed: of the run; the training tapes follow from it.
        traces_dir: trace folder of a scenario that reads files.
    """
    check_start(settings, scenario, risk is not None)
    if settings.start is not None:
        return Start(settings.start, "constraint.start")
    if risk is None or not scenario.reward.carbon_per_mg:
        assert settings.start_guess is not None, "checked"
        return Start(settings.start_guess, "constraint.start_guess, as no risk head tells a price")
    return Start(
        tuned_multiplier(settings, scenario, risk, seed, traces_dir),
        f"at this the risk head takes the risk that it takes at its tuned price ({TAPES} training tapes)",
    )


def check_start(settings: ConstraintConfig, scenario: Scenario, over_risk: bool) -> None:
    """Refuse settings that say nothing about the start.

    Raises:
        InputError: neither ``start`` nor ``start_guess`` is given, and no risk head tells a price: there is none, or
            the scenario's reward does not count the carbon that its price is in.
    """
    told = over_risk and scenario.reward.carbon_per_mg > 0
    if settings.start is None and settings.start_guess is None and not told:
        why = "the reward counts no carbon" if over_risk else "this training has none"
        raise InputError(
            f"constraint.start: null takes the tuned price of a risk head, and {why}. Give constraint.start or "
            "constraint.start_guess, or a head with --risk DIR."
        )


def tuned_multiplier(
    settings: ConstraintConfig, scenario: Scenario, risk: Risk, seed: int, traces_dir: str | None
) -> float:
    """The multiplier, within the constraint's bounds, at which a risk head accepts the risk of its own price."""
    seeds = np.random.SeedSequence([seed, _STREAM]).generate_state(TAPES).astype(np.int64)
    price = Price(scenario, risk.card.price)
    observation, mask = _met(LearnedRisk(scenario, risk.head, price), scenario, seeds, traces_dir)
    logits = risk.head.logits(observation)
    missing = 1 / (1 + np.exp(-np.clip(logits, -STEEPEST, STEEPEST)))
    accepted = _accepted(missing, price.scores(observation, logits), mask)
    # Scores of placements that never miss, where no shield looks at misses: what is left is what they emit.
    unshielded = Price(scenario, {**risk.card.price, "shield_misses": 0.0})
    emitted_mg = unshielded.scores(observation, np.full_like(logits, -STEEPEST))
    per_multiplier_mg, late_mg = _priced(observation, scenario, settings.budget_gain)
    emitted_mg += late_mg * missing
    low, high = np.log(settings.lowest), np.log(settings.highest)
    for _ in range(_HALVINGS):  # the dearer a miss, the less risk
        middle = (low + high) / 2
        taken = _accepted(missing, emitted_mg + np.exp(middle) * per_multiplier_mg * missing, mask)
        low, high = (middle, high) if taken > accepted else (low, middle)
    return float(np.exp((low + high) / 2))


def _accepted(missing: Floats, scores: Floats, mask: npt.NDArray[np.bool_]) -> float:
    """Mean probability of a miss of the placements with the lowest scores."""
    chosen = np.where(mask, scores, np.inf).argmin(axis=1)
    return float(np.take_along_axis(missing, chosen[:, None], axis=1).mean())


def _priced(observation: F32, scenario: Scenario, gain: float) -> tuple[F32, F32]:
    """What the reward takes for a miss, mg of carbon: by unit of the multiplier (N, 1), as lost accuracy (N, P)."""
    table = build_table(scenario)
    at = [table.index[name] for name in WISH_FEATURES]
    wishes = (observation[:, at] * table.scale[at]).T.astype(np.float64)
    carbon, miss, _, accuracy = reward_weights(scenario, wishes)[:, :, None]
    counted = miss / scenario.reward.slo_miss if scenario.reward.slo_miss > 0 else np.ones_like(miss)
    weight = budget_weight(observation, table, gain)[:, None]
    miou = np.array([p.accuracy_miou for p in scenario.placements])
    return (counted / carbon * weight).astype(np.float32), (accuracy / carbon * miou).astype(np.float32)


def _met(
    policy: LearnedRisk, scenario: Scenario, seeds: npt.NDArray[np.int64], traces_dir: str | None
) -> tuple[F32, npt.NDArray[np.bool_]]:
    """Observations (N, F) and masks (N, P) of the requests that a policy places on training tapes."""
    simulator = Simulator(scenario, len(seeds), part="training", traces_dir=traces_dir)
    observation, running = simulator.reset(seeds), np.ones(len(seeds), dtype=bool)
    rows, masks = [], []
    while running.any():
        mask = simulator.masks()
        rows.append(observation[running])
        masks.append(mask[running])
        result = simulator.step(np.asarray(policy.decide(observation, mask)))
        observation, running = result.observation, running & ~result.truncated
    simulator.close()
    return np.concatenate(rows), np.concatenate(masks)
