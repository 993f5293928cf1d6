"""Classification networks with random weights of a seed, or with those of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...envs.errors import InputError
from ..torchvision_operators import declare_missing_operators
from .architectures import Architecture

declare_missing_operators()

import timm  # noqa: E402


@dataclass(frozen=True)
class Network:
    """A network with weights.

    Attributes:
        model: in evaluation mode; (N, 3, H, W) normalised -> (N, classes).
        source: where the weights come from.
        mean, deviation: by which RGB values in [0, 1] are normalised.
        classes: how many.
    """

    model: nn.Module
    source: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    classes: int


def random_network(architecture: Architecture, seed: int) -> Network:
    """The network before any training: the same times, meaningless classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(architecture.timm_name, pretrained=False)
    return _network(model, f"random, seed {seed}")


def load_network(architecture: Architecture, file: str | Path) -> Network:
    """The network with a state dictionary of the same architecture in timm.

    Args:
        architecture: what it must be of.
        file: ``.safetensors``, or what torch.save wrote; only tensors are read, no code.

    Raises:
        InputError: it is not there, none, or of another network.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(
            f"--weights {file}: no such file. Give a state dictionary of timm's {architecture.timm_name}."
        )
    try:
        state = _read(path)
    except Exception as err:  # a torn file has an exception of its own in each library below
        raise InputError(
            f"Cannot load weights from {path}: {(str(err).strip() or type(err).__name__).splitlines()[0][:200]}. "
            "Expected a state dictionary, as .safetensors or as torch.save writes it."
        ) from err
    classes = _classes(state, path)
    model = timm.create_model(architecture.timm_name, pretrained=False, num_classes=classes)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(getattr(tensor, "shape", ())) for name, tensor in state.items()}
    if given != wanted:
        raise InputError(_of_another(path, architecture, wanted, given))
    model.load_state_dict(state)
    return _network(model, f"file {path.name}")


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}")
    return state.get("state_dict", state)


def _classes(state: dict[str, Any], path: Path) -> int:
    """How many classes the last layer has; all three networks call it classifier."""
    bias = state.get("classifier.bias")
    if bias is None or getattr(bias, "ndim", 0) != 1:
        raise InputError(f"{path} has no classifier.bias; expected a state dictionary of a timm classifier.")
    return len(bias)


def _of_another(path: Path, architecture: Architecture, wanted: dict[str, Any], given: dict[str, Any]) -> str:
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    other = [n for n in wanted.keys() & given.keys() if wanted[n] != given[n]]
    return (
        f"The weights of {path} are not those of timm's {architecture.timm_name}: {len(missing)} are missing "
        f"({', '.join(missing[:3]) or 'none'}), {len(unknown)} unknown ({', '.join(unknown[:3]) or 'none'}), "
        f"{len(other)} of another shape. Give another --model or --weights."
    )


def _network(model: nn.Module, source: str) -> Network:
    given: Any = model
    config = given.pretrained_cfg
    return Network(model.eval(), source, tuple(config["mean"]), tuple(config["std"]), given.num_classes)


def timm_version() -> str:
    """Of the library that has the architectures."""
    return timm.__version__
