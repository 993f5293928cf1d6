"""Policy class and arguments of a policy that is laid over a frozen risk head, by algorithm."""

from __future__ import annotations

from typing import Any

from ..envs.errors import InputError
from ..envs.observation import build_table
from ..envs.schema import Scenario
from .network_parts import ACTIVATIONS, NetworkParts
from .risk.folder import Risk
from .risk_extractor import RiskExtractor
from .risk_policy_sb3 import (
    RiskActorCriticPolicy,
    RiskDqnPolicy,
    RiskDuelingPolicy,
    RiskMaskablePolicy,
    RiskQrDqnPolicy,
)
from .risk_record import price_record
from .training_settings import (
    DqnConfig,
    QConfig,
    QrDqnConfig,
    RecurrentPpoConfig,
    TrainingConfig,
)


def risk_parts(algo: str, settings: TrainingConfig, scenario: Scenario, risk: Risk) -> NetworkParts:
    """Choose policy class and arguments.

    Args:
        algo: name of the algorithm.
        settings: of the algorithm.
        scenario: the site that the policy shall decide for.
        risk: the head and its price.

    Raises:
        InputError: these settings cannot be laid over a risk head.
    """
    check_no_memory(algo, settings)
    record = price_record(scenario, risk.card.price, risk.arrays["mean"])
    kwargs: dict[str, Any] = {
        "net_arch": list(settings.hidden),
        "activation_fn": ACTIVATIONS[settings.activation],
        "features_extractor_class": RiskExtractor,
        "features_extractor_kwargs": {
            "head": risk.arrays,
            "price": record.as_json(),
            "features": [{"name": f.name, "scale": f.scale} for f in build_table(scenario).features],
        },
    }
    if isinstance(settings, QrDqnConfig):
        kwargs["n_quantiles"] = settings.quantiles
    if isinstance(settings, QConfig):
        # Of a score of one unit, in the reward that the agent sees.
        kwargs["gain"] = record.numbers["unit_mg"] * scenario.reward.carbon_per_mg * settings.reward_scale
    return NetworkParts(_policy(algo, settings), kwargs)


def check_no_memory(algo: str, settings: TrainingConfig) -> None:
    """Refuse a policy with a memory.

    Raises:
        InputError: these settings cannot be laid over a risk head.
    """
    if settings.stack != 1 or isinstance(settings, RecurrentPpoConfig):
        raise InputError(
            "A risk head sees one observation, so the policy over it can have no memory: expected stack 1 and another "
            f"algorithm than recurrent-ppo, got stack {settings.stack} and {algo}. Leave --risk out, or change them."
        )


def _policy(algo: str, settings: TrainingConfig) -> type:
    if isinstance(settings, QrDqnConfig):
        return RiskQrDqnPolicy
    if isinstance(settings, DqnConfig):
        return RiskDuelingPolicy if settings.dueling else RiskDqnPolicy
    return RiskMaskablePolicy if algo == "maskable-ppo" else RiskActorCriticPolicy
