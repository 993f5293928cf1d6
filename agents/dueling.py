"""The dueling network of Wang et al. (2016): Q(s, a) = V(s) + A(s, a) - mean over a' of A(s, a')."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn


class DuelingNetwork(QNetwork):
    """Shared layers, then two streams of the last hidden layer's size: one for the value, one for advantages.

    Both streams' hidden layers are one Linear of twice the size, and the two outputs are linear in it. So the
    whole is a plain MLP whose last layer is `output_layer`, and a bundle can hold it like any other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the layers; arguments as those of SB3's ``QNetwork``."""
        super().__init__(*args, **kwargs)
        *shared, last = self.net_arch
        layers = create_mlp(self.features_dim, -1, [*shared, 2 * last], self.activation_fn)
        self.q_net = nn.Sequential(*layers, DuelingHead(last, int(self.action_space.n)))

    def plain_modules(self) -> list[nn.Module]:
        """The modules of the plain MLP that computes the same Q values."""
        *hidden, head = self.q_net
        assert isinstance(head, DuelingHead)
        return [*hidden, head.output_layer()]


class DuelingHead(nn.Module):
    """The outputs of both streams, put together."""

    def __init__(self, stream: int, actions: int) -> None:
        """Two Linear layers, each on its own half of the input (B, 2 x stream)."""
        super().__init__()
        self.stream = stream
        self.value = nn.Linear(stream, 1)
        self.advantage = nn.Linear(stream, actions)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Q values (B, P)."""
        value = self.value(hidden[:, : self.stream])
        advantage = self.advantage(hidden[:, self.stream :])
        return value + advantage - advantage.mean(dim=1, keepdim=True)

    @torch.no_grad()
    def output_layer(self) -> nn.Linear:
        """The Linear layer (2 x stream to P) that gives the same; worked out in double precision."""
        weight, bias = self.advantage.weight.double(), self.advantage.bias.double()
        value, constant = self.value.weight.double(), self.value.bias.double()
        layer = nn.Linear(2 * self.stream, len(bias))
        layer.weight.copy_(torch.cat([value.expand(len(bias), -1), weight - weight.mean(dim=0)], dim=1))
        layer.bias.copy_(constant + bias - bias.mean())
        return layer


class DuelingPolicy(DQNPolicy):
    """SB3's DQN policy with dueling networks."""

    def make_q_net(self) -> QNetwork:
        """Build one network (the online one or the target)."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return DuelingNetwork(**arguments).to(self.device)
