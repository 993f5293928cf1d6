"""No opinion about a feature that training hardly moves: its weights begin at zero.

Random weights on a feature that stands still are never corrected. Where it moves after all, as the age of a grid feed
that falls silent, a network that never saw it jump does what those weights happen to say: five agents of `metro`
emitted 9.5 % more carbon then. From zero a weight grows only as far as the feature moves in training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .normalizer import SMALLEST_STD

Q_NETWORKS = ("q_net", "quantile_net")  # where a Q-learner's policy keeps what an actor-critic has itself


def unmoved(std: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which features a normaliser found (nearly) still (F,)."""
    return np.asarray(std) <= SMALLEST_STD


def begin_at_zero(policy: Any, std: npt.NDArray[np.float32], stack: int = 1) -> None:
    """Set the weights on still features to zero in the first layer of every network of an untrained SB3 policy.

    Args:
        policy: of any algorithm without a memory; its features begin with the normalised observation.
        std: of the normaliser (F,), of one observation.
        stack: observations that the policy sees side by side.
    """
    still = torch.from_numpy(np.flatnonzero(np.tile(unmoved(std), stack)))
    for layer in _first_layers(policy):
        with torch.no_grad():
            layer.weight[:, still] = 0.0


def _first_layers(policy: Any) -> list[nn.Linear]:
    """The layers that read the features, of actor, critic, Q-network and target."""
    owner = next((getattr(policy, name) for name in Q_NETWORKS if hasattr(policy, name)), policy)
    found = []
    for module in policy.modules():
        first = module[0] if isinstance(module, nn.Sequential) and len(module) else None
        if isinstance(first, nn.Linear) and first.in_features == owner.features_dim:
            found.append(first)
    return found
