"""What a policy's network is made of: the policy class, the features extractor and the layers above it.

The one place that knows; `algorithms.build_model` asks it for every algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..envs.schema import Scenario
from .dueling import DuelingPolicy
from .normalizer import FixedNormalizer
from .training_settings import DqnConfig, QrDqnConfig, RecurrentPpoConfig, TrainingConfig

F32 = npt.NDArray[np.float32]
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class NetworkParts:
    """What stable-baselines3 builds a policy from.

    Attributes:
        policy: a policy class, or an algorithm's own name for one.
        policy_kwargs: its arguments.
    """

    policy: str | type
    policy_kwargs: dict[str, Any]


def network_parts(settings: TrainingConfig, scenario: Scenario, mean: F32, std: F32) -> NetworkParts:
    """Choose policy class, features extractor and layers.

    Args:
        settings: of the algorithm.
        scenario: the site that the policy shall decide for.
        mean: of the normaliser (F,), of one observation.
        std: of the normaliser (F,).
    """
    kwargs: dict[str, Any] = {
        "net_arch": list(settings.hidden),
        "activation_fn": ACTIVATIONS[settings.activation],
        "features_extractor_class": FixedNormalizer,
        "features_extractor_kwargs": {
            "mean": np.tile(mean, settings.stack),
            "std": np.tile(std, settings.stack),
        },
    }
    if isinstance(settings, RecurrentPpoConfig):
        return NetworkParts("MlpLstmPolicy", {**kwargs, "lstm_hidden_size": settings.lstm_hidden})
    if isinstance(settings, QrDqnConfig):
        return NetworkParts("MlpPolicy", {**kwargs, "n_quantiles": settings.quantiles})
    if isinstance(settings, DqnConfig) and settings.dueling:
        return NetworkParts(DuelingPolicy, kwargs)
    return NetworkParts("MlpPolicy", kwargs)
