"""DQN and QR-DQN of SB3 for many environments at once, with masks, double targets and priced misses."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from sb3_contrib import QRDQN
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3 import DQN
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch.nn import functional

from .masked_replay import MaskedReplay, MaskedSamples

Mask = npt.NDArray[np.bool_]


class MaskedQLearner(OffPolicyAlgorithm):
    """What DQN and QR-DQN share here.

    SB3's own ``predict`` tosses one coin for the whole batch: with 64 environments all of them would take a
    random placement in the same step and none in the next. Here each environment explores by itself, some never
    do, and neither the random nor the greedy placement, nor the best next one of a target, is ever a forbidden one.

    Attributes:
        double: the online network chooses the next placement, the target network judges it.
        greedy: environments that never explore (B,). Now and then a random placement brings news of a node that the
            policy itself would not have asked, so only they show where the policy gets to without.
        representative: whether the last placement of each environment tells of the policy that is learned (B,).
    """

    exploration_rate: float
    double = False
    greedy: Mask = np.zeros(0, dtype=bool)
    representative: Mask = np.zeros(0, dtype=bool)

    def action_values(self, observation: torch.Tensor, target: bool = False) -> torch.Tensor:
        """Q values (B, P) of the online or the target network."""
        raise NotImplementedError

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        observation: npt.NDArray[np.float32],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: Mask | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose greedily, then replace each choice by a random one with probability epsilon.

        Args:
            observation: (F,) or (B, F).
            state, episode_start: not used; there is no memory.
            deterministic: never explore.
            action_masks: allowed placements (B, P); all unless given.
        """
        single, batch = observation.ndim == 1, np.atleast_2d(observation)
        self.policy.set_training_mode(False)
        with torch.no_grad():
            values = self.action_values(torch.as_tensor(batch, device=self.device)).cpu().numpy()
        allowed = np.ones(values.shape, dtype=bool) if action_masks is None else np.atleast_2d(action_masks)
        action = np.where(allowed, values, -np.inf).argmax(axis=1)
        if not deterministic:
            explore = np.random.rand(len(action)) < self.exploration_rate  # noqa: NPY002 (SB3 seeds it)
            never = self.greedy if len(self.greedy) == len(action) else np.zeros(len(action), dtype=bool)
            explore &= ~never
            action = np.where(explore, random_allowed(allowed), action)
            self.representative = never if never.any() else ~explore
        return (action[0] if single else action), state

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next placements, random until learning starts."""
        allowed = self._masks()
        if self.num_timesteps < learning_starts:
            self.representative = np.zeros(n_envs, dtype=bool)
            action = random_allowed(allowed)
        else:
            action, _ = self.predict(cast(np.ndarray, self._last_obs), action_masks=allowed)
        return action, action

    def _store_transition(
        self, replay_buffer: Any, buffer_action: Any, new_obs: Any, reward: Any, dones: Any, infos: Any
    ) -> None:
        """Store the transition with the cost of its miss apart and with the next request's mask."""
        costs, rest = getattr(self.env, "costs", None), getattr(self.env, "rest", reward)
        replay_buffer.note(0.0 if costs is None else costs, self._masks())
        super()._store_transition(replay_buffer, buffer_action, new_obs, rest, dones, infos)

    def _masks(self) -> Mask:
        assert self.env is not None, "only a model with environments collects transitions"
        return np.stack(self.env.env_method("action_masks"))

    def _drawn(self, batch_size: int) -> MaskedSamples:
        buffer = cast(MaskedReplay, self.replay_buffer)
        buffer.multiplier = float(getattr(self.env, "multiplier", 0.0))
        return buffer.sample(batch_size)

    @torch.no_grad()
    def _next_actions(self, drawn: MaskedSamples) -> torch.Tensor:
        """The best allowed next placement (N, 1) by the network that chooses."""
        values = self.action_values(drawn.next_observations, target=not self.double)
        return values.masked_fill(~drawn.next_masks.bool(), -torch.inf).argmax(dim=1, keepdim=True)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Make gradient steps on transitions drawn from the buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = [self._gradient_step(self._drawn(batch_size)) for _ in range(gradient_steps)]
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _gradient_step(self, drawn: MaskedSamples) -> float:
        loss = self._loss(drawn)
        self.policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), cast(Any, self).max_grad_norm)
        self.policy.optimizer.step()
        return loss.item()

    def _loss(self, drawn: MaskedSamples) -> torch.Tensor:
        raise NotImplementedError


class VectorDQN(MaskedQLearner, DQN):
    """DQN; its target is r + gamma Q_target(s', best allowed a')."""

    def action_values(self, observation: torch.Tensor, target: bool = False) -> torch.Tensor:
        """Q values (B, P)."""
        return (self.q_net_target if target else self.q_net)(observation)

    @torch.no_grad()
    def targets(self, drawn: MaskedSamples) -> torch.Tensor:
        """Targets of the Q values (N, 1)."""
        best = self.action_values(drawn.next_observations, target=True).gather(1, self._next_actions(drawn))
        return drawn.rewards + (1 - drawn.dones) * self.gamma * best

    def _loss(self, drawn: MaskedSamples) -> torch.Tensor:
        present = self.q_net(drawn.observations).gather(1, drawn.actions.long())
        return functional.smooth_l1_loss(present, self.targets(drawn))


class VectorQRDQN(MaskedQLearner, QRDQN):
    """QR-DQN; the next placement is the best by the mean of its quantiles."""

    def action_values(self, observation: torch.Tensor, target: bool = False) -> torch.Tensor:
        """Means of the quantiles (B, P)."""
        return (self.quantile_net_target if target else self.quantile_net)(observation).mean(dim=1)

    @torch.no_grad()
    def targets(self, drawn: MaskedSamples) -> torch.Tensor:
        """Targets of the quantiles (N, Q)."""
        quantiles = _of_action(self.quantile_net_target(drawn.next_observations), self._next_actions(drawn))
        return drawn.rewards + (1 - drawn.dones) * self.gamma * quantiles

    def _loss(self, drawn: MaskedSamples) -> torch.Tensor:
        present = _of_action(self.quantile_net(drawn.observations), drawn.actions.long())
        return quantile_huber_loss(present, self.targets(drawn), sum_over_quantiles=True)


def spread_evenly(share: float, count: int) -> Mask:
    """Mark a share of ``count`` environments (B,), as evenly spread as can be."""
    marks = np.floor(np.arange(count + 1) * share + 1e-9)
    return np.diff(marks) > 0


def random_allowed(allowed: Mask) -> npt.NDArray[np.int64]:
    """One allowed placement for each environment (B,), each as likely as any other."""
    return np.where(allowed, np.random.rand(*allowed.shape), -1.0).argmax(axis=1)  # noqa: NPY002 (SB3 seeds it)


def _of_action(quantiles: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """The quantiles (N, Q) of one action each (N, 1), out of (N, Q, P)."""
    return quantiles.gather(2, actions[:, None, :].expand(-1, quantiles.shape[1], 1)).squeeze(2)
