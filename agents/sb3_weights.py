"""Takes the deciding network out of a stable-baselines3 model: what is needed to act greedily, no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from ..envs.errors import InputError
from .bundle_arrays import RISK, Arrays
from .dueling import DuelingHead
from .normalizer import FixedNormalizer
from .risk_extractor import RiskExtractor
from .risk_policy_sb3 import SkipNet
from .risk_record import risk_part

ACTIVATION_NAMES: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh"}


@dataclass(frozen=True)
class Network:
    """A policy's network outside torch.

    Attributes:
        arrays: normaliser and weights, named as in ``policy.npz``.
        activation: "relu" or "tanh"; None where there is a risk head and its price alone.
        output: "logits" (before the softmax), "q_values" or "preferences" (scores of the price, negative).
        layers: sizes from observation to actions, without what a risk head adds to the inputs.
        risk: layers, activation and price of the risk head below, as the card of a bundle has them; None without one.
    """

    arrays: Arrays
    activation: str | None
    output: str
    layers: list[int]
    risk: dict[str, Any] | None = None


def extract_network(model: Any) -> Network:
    """Extract the network of a DQN, QR-DQN or PPO (also maskable) model with MLP layers.

    Raises:
        InputError: if the model is of a kind that a bundle cannot hold.
    """
    policy = model.policy
    space, actions = model.observation_space, model.action_space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise InputError(f"Only observations of one dimension can be frozen, this model sees {space}.")
    if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start != 0:
        raise InputError(f"Only Discrete actions from 0 can be frozen, this model has {actions}.")
    modules, extractor, output = _deciding_modules(policy)
    weights, activation = _linear_layers(modules)
    if isinstance(policy, QRDQNPolicy):
        weights[-1] = _mean_of_quantiles(*weights[-1], policy.quantile_net.n_quantiles)
    net = _q_module(policy)
    if isinstance(net, SkipNet):
        skip = net.skip.weight.detach().cpu().numpy().T
        weights[-1] = np.vstack([weights[-1][0], skip]), weights[-1][1]
    arrays = _normaliser(extractor, space.shape)
    for i, (weight, bias) in enumerate(weights):
        arrays[f"weight_{i}"], arrays[f"bias_{i}"] = weight, bias
    layers = [space.shape[0], *(len(bias) for _, bias in weights)]
    return Network(arrays, activation, output, layers, _risk(extractor))


def sb3_outputs(model: Any, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the SB3 model itself computes before its argmax, (B, P) for (B, F)."""
    policy: Any = model.policy
    with torch.no_grad():
        batch = torch.as_tensor(observations, device=model.device)
        if isinstance(model.policy, DQNPolicy):
            outputs = policy.q_net(batch)
        elif isinstance(model.policy, QRDQNPolicy):
            outputs = policy.quantile_net(batch).mean(dim=1)
        else:
            features = policy.pi_features_extractor(batch)
            outputs = policy.action_net(policy.mlp_extractor.forward_actor(features))
        return outputs.cpu().numpy()


def _deciding_modules(policy: Any) -> tuple[list[nn.Module], nn.Module, str]:
    """The modules between the features and the outputs, the features extractor, what the outputs are."""
    if (net := _q_module(policy)) is not None:
        owner = policy.q_net if isinstance(policy, DQNPolicy) else policy.quantile_net
        *hidden, last = net.net if isinstance(net, SkipNet) else net
        last = last.output_layer() if isinstance(last, DuelingHead) else last  # both streams as one layer
        return [*hidden, last], owner.features_extractor, "q_values"
    if isinstance(policy, RecurrentActorCriticPolicy):
        raise InputError(
            "A policy with a memory (recurrent-ppo) cannot be frozen: a bundle decides from one observation."
        )
    if isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy):
        modules = [*policy.mlp_extractor.policy_net, policy.action_net]
        return modules, policy.pi_features_extractor, "logits"
    raise InputError(
        f"A policy of kind {type(policy).__name__} cannot be frozen; DQN, QR-DQN and PPO with MlpPolicy can."
    )


def _q_module(policy: Any) -> Any:
    """The modules above the features of a Q-learner; None for other policies."""
    if isinstance(policy, DQNPolicy):
        return policy.q_net.q_net
    return policy.quantile_net.quantile_net if isinstance(policy, QRDQNPolicy) else None


def _linear_layers(modules: list[nn.Module]) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Weights (in, out) and biases of Linear layers with one kind of activation between all of them."""
    linear, between = modules[0::2], modules[1::2]
    kinds = {type(module) for module in between}
    known = all(kind in ACTIVATION_NAMES for kind in kinds) and len(kinds) <= 1
    if not known or not all(type(module) is nn.Linear for module in linear) or len(modules) % 2 == 0:
        names = [type(module).__name__ for module in modules]
        raise InputError(f"Only Linear layers with ReLU or Tanh between all can be frozen, got {names}.")
    layers = []
    for module in linear:
        state = {name: values.cpu().numpy() for name, values in module.state_dict().items()}
        weight = state["weight"].T.astype(np.float32, order="C")
        bias = state.get("bias", np.zeros(weight.shape[1]))
        layers.append((weight, bias.astype(np.float32)))
    return layers, ACTIVATION_NAMES[kinds.pop()] if kinds else "relu"


def _mean_of_quantiles(weight: np.ndarray, bias: np.ndarray, quantiles: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean over quantiles is linear, so it belongs into the last layer (outputs are quantile-major)."""
    mean_weight = weight.reshape(len(weight), quantiles, -1).mean(axis=1, dtype=np.float64)
    mean_bias = bias.reshape(quantiles, -1).mean(axis=0, dtype=np.float64)
    return mean_weight.astype(np.float32), mean_bias.astype(np.float32)


def _normaliser(extractor: nn.Module, shape: tuple[int, ...]) -> Arrays:
    if type(extractor) is FixedNormalizer:  # a subclass may compute something else
        return {"mean": extractor.mean.cpu().numpy().copy(), "std": extractor.std.cpu().numpy().copy()}
    if type(extractor) is FlattenExtractor:
        return {"mean": np.zeros(shape, np.float32), "std": np.ones(shape, np.float32)}
    if isinstance(extractor, RiskExtractor):
        head = extractor.head_arrays()
        return {name if name in ("mean", "std") else f"{RISK}{name}": values for name, values in head.items()}
    raise InputError(
        f"A features extractor of kind {type(extractor).__name__} cannot be frozen; FixedNormalizer can."
    )


def _risk(extractor: nn.Module) -> dict[str, Any] | None:
    return (
        risk_part(extractor.head_arrays(), extractor.record) if isinstance(extractor, RiskExtractor) else None
    )
