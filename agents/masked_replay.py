"""A replay buffer that knows what was allowed, and prices old misses as new ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer


class MaskedSamples(NamedTuple):
    """Transitions drawn from the buffer; fields (N, ...)."""

    observations: torch.Tensor
    actions: torch.Tensor
    next_observations: torch.Tensor
    dones: torch.Tensor
    rewards: torch.Tensor
    next_masks: torch.Tensor


class MaskedReplay(ReplayBuffer):
    """SB3's replay buffer with the next request's allowed placements and the cost of a miss kept apart.

    A reward is worked out when it is drawn, ``rest - multiplier x cost``: the constraint's multiplier moves during
    training, and a transition from before must not be judged by a price that holds no longer.

    Attributes:
        multiplier: present price of a miss.
    """

    ARRAYS = (
        "observations", "next_observations", "actions", "rewards", "dones", "timeouts", "costs", "next_masks",
    )  # fmt: skip

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        **options: Any,
    ) -> None:
        """Reserve the memory; arguments as SB3's."""
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, **options)
        self.multiplier = 0.0
        self.costs = np.zeros((self.buffer_size, n_envs), dtype=np.float32)
        self.next_masks = np.ones((self.buffer_size, n_envs, int(action_space.n)), dtype=np.bool_)

    def note(self, costs: npt.NDArray[np.float32] | float, next_masks: npt.NDArray[np.bool_]) -> None:
        """Say of the transitions that `add` gets next what they cost (B,) and what is allowed after them (B, P)."""
        self.costs[self.pos] = costs
        self.next_masks[self.pos] = next_masks

    def sample(self, batch_size: int, env: Any = None) -> MaskedSamples:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw transitions, each as likely as any other."""
        rows = np.random.randint(0, self.buffer_size if self.full else self.pos, size=batch_size)  # noqa: NPY002
        columns = np.random.randint(0, self.n_envs, size=batch_size)  # noqa: NPY002 (SB3 seeds it)
        at = (rows, columns)
        rewards = self.rewards[at] - np.float32(self.multiplier) * self.costs[at]
        ended = self.dones[at] * (1 - self.timeouts[at])  # an episode that is cut off goes on behind the cut
        drawn = (
            self.observations[at],
            self.actions[at],
            self.next_observations[at],
            ended[:, None],
            rewards[:, None],
            self.next_masks[at],
        )
        return MaskedSamples(*map(self.to_torch, drawn))
