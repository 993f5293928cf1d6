"""Value targets of unit size for the PPO family, whatever the reward's unit and the price of a miss.

The reward changes its size during a run (the constraint moves the price of a miss), and one gradient norm is clipped
for policy and value network together: a value loss in the hundreds drowns the policy's. So the value network learns
(return - mean) / spread, and when mean or spread move, its last layer is changed such that its predictions stay
(PopArt: van Hasselt et al. 2016, "Learning values across many orders of magnitude", section 2).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

MEMORY = 0.9  # assumed: weight of the earlier rollouts in mean and spread, about ten rollouts
SMALLEST_SPREAD = 1e-3  # assumed: of returns in reward units; less is rounding, not information


class ScaledValue(nn.Module):
    """A value head that learns in normalised and answers in reward units.

    Like batch normalisation it has two modes: SB3 switches a policy to training mode for its gradient steps, where
    this head gives normalised values, and to evaluation mode wherever a value is used.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    square: torch.Tensor
    seen: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        """Wrap the value network's last layer, whose parameters stay the optimiser's."""
        super().__init__()
        self.linear = linear
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("square", torch.ones(1))
        self.register_buffer("spread", torch.ones(1))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Values (B, 1)."""
        values = self.linear(latent)
        return values if self.training else values * self.spread + self.mean

    def normalised(self, values: Any) -> Any:
        """Values in reward units as those that are learned."""
        return (values - self.mean.item()) / self.spread.item()

    @torch.no_grad()
    def observe(self, returns: Any) -> None:
        """Take a rollout's returns into mean and spread without changing any prediction."""
        memory = MEMORY if self.seen.item() else 0.0  # the first rollout counts whole
        old_mean, old_spread = self.mean.clone(), self.spread.clone()
        self.mean.mul_(memory).add_((1 - memory) * float(returns.mean()))
        self.square.mul_(memory).add_((1 - memory) * float((returns.astype("float64") ** 2).mean()))
        self.spread.copy_((self.square - self.mean**2).clamp(min=0).sqrt().clamp(min=SMALLEST_SPREAD))
        self.seen += 1
        self.linear.weight.mul_(old_spread / self.spread)
        self.linear.bias.mul_(old_spread).add_(old_mean - self.mean).div_(self.spread)


class ScaledValues:
    """Mixin of SB3's PPO algorithms: the buffer's returns and values are normalised before the gradient steps."""

    def _setup_model(self) -> None:
        cast(Any, super())._setup_model()
        policy = cast(Any, self).policy
        policy.value_net = ScaledValue(policy.value_net)

    def collect_rollouts(
        self, env: Any, callback: Any, rollout_buffer: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Collect as always, then normalise; advantages stay as they are, SB3 normalises them per batch."""
        go_on = cast(Any, super()).collect_rollouts(env, callback, rollout_buffer, *args, **kwargs)
        if go_on:
            head: ScaledValue = cast(Any, self).policy.value_net
            head.observe(rollout_buffer.returns)
            rollout_buffer.returns = head.normalised(rollout_buffer.returns)
            rollout_buffer.values = head.normalised(rollout_buffer.values)
        return go_on
