"""What a teacher needs from an SB3 model, whatever its kind: choices, what is trained, and the loss of a lesson.

Any policy with ``get_distribution`` and ``predict_values`` over placements (PPO's and MaskablePPO's, subclasses
included) or with a Q-network (DQN's, QR-DQN's) can be taught.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy
from torch.nn import functional

from ...envs.errors import InputError
from ..value_scaling import ScaledValue
from .settings import FitConfig, LossName

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
FORBIDDEN = -1e8  # logit of a masked placement, as sb3-contrib's
LEAST_SPREAD_MG = (
    1e-6  # lessons in which all placements cost the same teach nothing and must not be divided by
)


class Student(ABC):
    """An SB3 model that is being taught.

    Attributes:
        model: the model.
    """

    def __init__(self, model: BaseAlgorithm, fit: FitConfig) -> None:
        """Take the model and how it is to learn."""
        self.model: Any = model
        self._fit = fit

    @abstractmethod
    def scores(self, observation: torch.Tensor) -> torch.Tensor:
        """Logits or Q values (B, P); the highest is chosen."""

    @abstractmethod
    def loss(self, batch: Batch, name: LossName) -> torch.Tensor:
        """What a gradient step lessens, ``name`` for an actor."""

    def value_targets(self, values: F32) -> F32:
        """Values to learn for discounted scaled rewards (S,)."""
        return values

    def finish(self) -> None:  # noqa: B027 (most have nothing to do)
        """Bring everything else in the model into line with what was learned."""

    def choose(self, observation: F32, mask: Mask) -> npt.NDArray[np.int64]:
        """Greedy allowed placements (B,)."""
        with torch.no_grad():
            scores = self.scores(torch.as_tensor(observation, device=self.model.device)).cpu().numpy()
        return np.where(mask, scores, -np.inf).argmax(axis=1)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What is trained."""
        return (p for p in self._module().parameters() if p.requires_grad)

    def _module(self) -> torch.nn.Module:
        return self.model.policy


class Batch:
    """Some lessons as tensors.

    Attributes:
        observation: (B, F).
        mask: allowed placements (B, P).
        cost: of every placement above that of the cheapest allowed one, in units of the lessons' mean spread (B, P).
        label: the cheapest placement (B,).
        q: discounted scaled reward of every placement (B, P).
        value: the same of the placement that was played, in the critic's units (B,).
    """

    def __init__(self, rows: dict[str, npt.NDArray], device: Any) -> None:
        """Make tensors of arrays by attribute name."""
        tensors = {name: torch.as_tensor(array, device=device) for name, array in rows.items()}
        self.observation, self.mask, self.cost = tensors["observation"], tensors["mask"], tensors["cost"]
        self.label, self.q, self.value = tensors["label"], tensors["q"], tensors["value"]


class ActorStudent(Student):
    """An actor with its critic."""

    def scores(self, observation: torch.Tensor) -> torch.Tensor:
        """Log-probabilities without a mask (B, P)."""
        return self.model.policy.get_distribution(observation).distribution.logits

    def loss(self, batch: Batch, name: LossName) -> torch.Tensor:
        """Loss of the actor plus the critic's squared error."""
        actor = _ACTOR_LOSSES[name](self.scores(batch.observation), batch, self._fit)
        if self._fit.value_coef == 0.0:
            return actor
        value = self.model.policy.predict_values(batch.observation).flatten()
        return actor + self._fit.value_coef * functional.mse_loss(value, batch.value)

    def value_targets(self, values: F32) -> F32:
        """In the units in which our PPO's critic learns (`agents.value_scaling`)."""
        head = self.model.policy.value_net
        if not isinstance(head, ScaledValue):
            return values
        head.observe(values)
        return head.normalised(values)


def _expected_cost(logits: torch.Tensor, batch: Batch, fit: FitConfig) -> torch.Tensor:
    """Cost under the actor's own probabilities, a mean over the lessons."""
    probabilities = torch.where(batch.mask, logits, FORBIDDEN).softmax(dim=1)
    return (probabilities * batch.cost).sum(dim=1).mean()


def _cross_entropy(logits: torch.Tensor, batch: Batch, fit: FitConfig) -> torch.Tensor:
    """Surprise at the cheapest placements."""
    return functional.cross_entropy(torch.where(batch.mask, logits, FORBIDDEN), batch.label)


def _cost_regression(logits: torch.Tensor, batch: Batch, fit: FitConfig) -> torch.Tensor:
    """Squared error of costs predicted by logits: cost = -temperature x logit, up to a number for each lesson."""
    allowed = batch.mask.to(logits.dtype)
    error = (fit.temperature * logits + batch.cost) * allowed
    error = error - allowed * error.sum(dim=1, keepdim=True) / allowed.sum(dim=1, keepdim=True)
    return error.square().sum(dim=1).mean()


_ACTOR_LOSSES = {"cost": _expected_cost, "label": _cross_entropy, "regress": _cost_regression}


class QStudent(Student):
    """A Q-network of DQN or QR-DQN; every quantile of the latter starts at the mean."""

    def _network(self) -> torch.nn.Module:
        policy = self.model.policy
        return policy.quantile_net if isinstance(policy, QRDQNPolicy) else policy.q_net

    def _module(self) -> torch.nn.Module:
        return self._network()  # the target network is copied, not trained

    def scores(self, observation: torch.Tensor) -> torch.Tensor:
        """Q values (B, P)."""
        outputs = self._network()(observation)
        return outputs.mean(dim=1) if outputs.dim() == 3 else outputs

    def loss(self, batch: Batch, name: LossName) -> torch.Tensor:
        """Huber loss of the Q values of all allowed placements; of all quantiles alike."""
        outputs = self._network()(batch.observation)
        if outputs.dim() == 2:
            outputs = outputs[:, None]
        error = functional.smooth_l1_loss(outputs, batch.q[:, None].expand_as(outputs), reduction="none")
        return (error * batch.mask[:, None]).sum() / (batch.mask.sum() * outputs.shape[1])

    def finish(self) -> None:
        """Copy the online network to the target."""
        policy = self.model.policy
        target = policy.quantile_net_target if isinstance(policy, QRDQNPolicy) else policy.q_net_target
        target.load_state_dict(self._network().state_dict())


def student_of(model: BaseAlgorithm, features: int, fit: FitConfig) -> Student:
    """Wrap a model.

    Args:
        model: what is to be taught.
        features: of one observation.
        fit: how it is to learn.

    Raises:
        InputError: the model has a memory, or is of a kind that cannot be taught.
    """
    policy, shape = model.policy, model.observation_space.shape
    if isinstance(policy, RecurrentActorCriticPolicy) or shape != (features,):
        raise InputError(
            f"`teacher` teaches single observations of {features} features, this model sees {shape} and "
            f"is a {type(model).__name__}. Use ppo, maskable-ppo, dqn or qrdqn with `stack: 1`."
        )
    if isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy):
        return ActorStudent(model, fit)
    if isinstance(policy, DQNPolicy | QRDQNPolicy):
        return QStudent(model, fit)
    raise InputError(f"`teacher` cannot teach a policy of kind {type(policy).__name__}.")
