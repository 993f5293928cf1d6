"""Let the critic learn alone at first: a taught actor must not follow a critic that knows nothing yet."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from torch import nn


class FrozenActor(BaseCallback):
    """Keeps all but the critic of an actor-critic as it is for the first environment steps of a run."""

    def __init__(self, steps: int) -> None:
        """Freeze until ``steps`` environment steps have been made, all sessions of the run together."""
        super().__init__()
        self._steps = steps
        self._frozen: list[nn.Parameter] = []

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._steps:
            self._release()
        elif not self._frozen:
            self._frozen = actor_parameters(self.model.policy)
            for parameter in self._frozen:
                parameter.requires_grad_(False)

    def _on_training_end(self) -> None:
        self._release()

    def _on_step(self) -> bool:
        return True

    def _release(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []


def actor_parameters(policy: Any) -> list[nn.Parameter]:
    """What is trained in an actor-critic and does not belong to its critic alone."""
    critic = [policy.value_net, policy.mlp_extractor.value_net]
    if not policy.share_features_extractor:
        critic.append(policy.vf_features_extractor)
    ids = {id(p) for module in critic for p in module.parameters()}
    return [p for p in policy.parameters() if p.requires_grad and id(p) not in ids]
