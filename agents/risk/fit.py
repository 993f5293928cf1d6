"""Fit the risk head: cross-entropy on what every placement would have come to, stopped on tapes that it never saw.

Cross-entropy of unweighted samples is a proper score: its minimum is the true probability. So classes are not
balanced, however rare a miss of the device is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..baselines import LOCAL_INDEX
from ..normalizer import SMALLEST_STD, measure
from .collect import Samples
from .folder import Arrays
from .head import RiskHead
from .settings import RiskSettings

WARMING_UP = 0.1  # share of the fit in which the learning rate rises


@dataclass(frozen=True)
class Fit:
    """A fitted head.

    Attributes:
        arrays: of the head.
        loss: cross-entropy of each placement on held-out tapes (P,), nats.
        constant_loss: the same of the best constant probability (P,): what a head that sees nothing reaches.
        epoch, epochs: epoch of the best held-out loss, and how many there were.
        samples: labelled requests that it saw.
        seconds: what it took.
    """

    arrays: Arrays
    loss: npt.NDArray[np.float64]
    constant_loss: npt.NDArray[np.float64]
    epoch: int
    epochs: int
    samples: int
    seconds: float


def fit_head(samples: Samples, seen: npt.NDArray[np.bool_], settings: RiskSettings, seed: int) -> Fit:
    """Fit a head.

    Args:
        samples: labelled requests of at least two tapes.
        seen: features that it may look at (F,); the weights of others are zero.
        settings: network and optimiser.
        seed: of the split, the first weights and the order of the samples; the same seed gives the same head.
    """
    started = time.perf_counter()
    rng = np.random.default_rng([seed, len(samples)])
    ours, theirs = split_tapes(samples, settings.held_out, rng)
    mean, std = measure(ours.observation)
    # What hardly moved was not learned from either: elsewhere it may move a lot.
    moved = ours.observation.std(axis=0, dtype=np.float64) > SMALLEST_STD / 2
    looks = torch.from_numpy((seen & moved).astype(np.float32))
    fitter = _Fitter(settings, ours, theirs, mean, std, looks, seed)
    epoch, loss = fitter.run(rng)
    return Fit(
        arrays={"mean": mean, "std": std, **fitter.weights()},
        loss=loss,
        constant_loss=_constant_loss(theirs),
        epoch=epoch,
        epochs=settings.epochs,
        samples=len(ours),
        seconds=time.perf_counter() - started,
    )


def split_tapes(samples: Samples, held_out: float, rng: np.random.Generator) -> tuple[Samples, Samples]:
    """Samples to fit on, and those of some whole tapes to judge on."""
    tapes = rng.permutation(np.unique(samples.tape))
    count = min(len(tapes) - 1, max(1, round(held_out * len(tapes))))
    return samples.of_tapes(tapes[count:]), samples.of_tapes(tapes[:count])


class _Fitter:
    """One fit: the network, its optimiser, and the best state so far."""

    def __init__(
        self,
        settings: RiskSettings,
        ours: Samples,
        theirs: Samples,
        mean: npt.NDArray[np.float32],
        std: npt.NDArray[np.float32],
        looks: torch.Tensor,
        seed: int,
    ) -> None:
        torch.manual_seed(seed)
        self._settings, self._looks = settings, looks
        sizes = [len(mean), *settings.hidden, ours.missed.shape[1]]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self._net = nn.Sequential(*layers[:-1])
        self._data = [_tensors(part, mean, std, looks) for part in (ours, theirs)]
        self._batch = min(settings.batch_size, len(ours))
        self._steps = len(ours) // self._batch

    def run(self, rng: np.random.Generator) -> tuple[int, npt.NDArray[np.float64]]:
        """Fit, keep the best epoch, and return it with its held-out loss by placement."""
        s = self._settings
        optimiser = torch.optim.AdamW(self._net.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, s.learning_rate, total_steps=s.epochs * self._steps, pct_start=WARMING_UP
        )
        best, best_loss, state = 0, np.array([np.inf]), {}
        for epoch in range(1, s.epochs + 1):
            for rows in self._batches(rng):
                x, missed, allowed = (tensor[rows] for tensor in self._data[0])
                optimiser.zero_grad(set_to_none=True)
                _loss(self._net(x), missed, allowed).sum().backward()
                optimiser.step()
                schedule.step()
            loss = self._held_out()
            if loss.sum() < best_loss.sum():
                best, best_loss = epoch, loss
                state = {key: value.clone() for key, value in self._net.state_dict().items()}
        self._net.load_state_dict(state)
        return best, best_loss

    def _batches(self, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        order = torch.from_numpy(rng.permutation(len(self._data[0][0])))
        yield from (order[i * self._batch : (i + 1) * self._batch] for i in range(self._steps))

    def _held_out(self) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            x, missed, allowed = self._data[1]
            return _loss(self._net(x), missed, allowed).double().numpy()

    def weights(self) -> Arrays:
        """The layers as NumPy arrays; inputs that it must not look at have weights of zero."""
        arrays: Arrays = {}
        layers = [layer for layer in self._net if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(layers):
            weight = layer.weight.detach().numpy().T
            weight = weight * self._looks.numpy()[:, None] if i == 0 else weight
            arrays[f"weight_{i}"] = np.ascontiguousarray(weight, np.float32)
            arrays[f"bias_{i}"] = layer.bias.detach().numpy().astype(np.float32)
        return arrays


def _tensors(
    samples: Samples, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32], looks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    normalised = torch.from_numpy((samples.observation - mean) / std) * looks
    labels = (samples.missed, samples.allowed)
    missed, allowed = (torch.from_numpy(a.astype(np.float32)) for a in labels)
    return normalised, missed, allowed


def _loss(logits: torch.Tensor, missed: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Cross-entropy by placement (P,), over the samples where it was allowed."""
    each = nn.functional.binary_cross_entropy_with_logits(logits, missed, reduction="none") * allowed
    return each.sum(dim=0) / allowed.sum(dim=0).clamp(min=1.0)


def _constant_loss(samples: Samples) -> npt.NDArray[np.float64]:
    count = np.maximum(samples.allowed.sum(axis=0), 1)
    p = np.clip((samples.missed & samples.allowed).sum(axis=0) / count, 1e-9, 1 - 1e-9)
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))


def rescaled(arrays: Arrays, slope: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> Arrays:
    """A head whose logits are ``slope x logit + shift`` by placement (P,); the last layer takes both in."""
    bias = _last_bias(arrays)
    weight = bias.replace("bias", "weight")
    changed = {
        weight: (arrays[weight] * slope).astype(np.float32),
        bias: (arrays[bias] * slope + shift).astype(np.float32),
    }
    return {**arrays, **changed}


def _last_bias(arrays: Arrays) -> str:
    return f"bias_{max(int(name.removeprefix('bias_')) for name in arrays if name.startswith('bias_'))}"


def cautious(arrays: Arrays, slope: float, shift: float) -> Arrays:
    """A head whose logits of the device are `slope x logit + shift` (`parameters.CAUTION`), others as before."""
    count = len(arrays[_last_bias(arrays)])
    slopes, shifts = np.ones(count), np.zeros(count)
    slopes[LOCAL_INDEX], shifts[LOCAL_INDEX] = slope, shift
    return rescaled(arrays, slopes, shifts)


def logits_of(arrays: Arrays, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Logits of a batch (N, P)."""
    return RiskHead(arrays).logits(observation)
