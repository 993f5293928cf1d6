"""Shows that a frozen network and its ONNX file decide as the SB3 model that they come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from ..envs.errors import MissingExtraError
from .frozen import FrozenPolicy
from .onnx_graph import INPUT
from .sb3_weights import sb3_outputs

# Float32 carries 7 digits, so outputs beyond 1 (Q values may be in the hundreds) are compared relative to the
# largest output of their observation (or logit of its risk head); up to 1 the tolerance is absolute.
# Processors sum in other orders: over a risk head, whose logits are exponentiated, an AMD EPYC came to 1.3e-5.
TOLERANCE = 5e-5
TIE = 1e-6  # outputs closer than this (on the same scale) are a tie: either action is right

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """How far NumPy and ONNX are from SB3 on the same observations.

    Attributes:
        observations: how many were compared.
        numpy_error, onnx_error: largest difference of an output, over max(1, largest output or logit there).
        actions_differing: decisions other than SB3's where it was not a tie.
        ties: observations whose best two outputs lie within 1e-6.
    """

    observations: int
    numpy_error: float
    onnx_error: float
    actions_differing: int
    ties: int

    @property
    def holds(self) -> bool:
        """True if all three agree within the tolerance."""
        return max(self.numpy_error, self.onnx_error) <= TOLERANCE and self.actions_differing == 0

    def records(self) -> dict[str, float]:
        """For the card."""
        return {**asdict(self), "tolerance": TOLERANCE}


def compare(model: Any, policy: FrozenPolicy, graph: bytes, observations: Floats) -> Parity:
    """Compare SB3 model, frozen policy (batch path) and ONNX file on observations (N, F)."""
    return compare_outputs(sb3_outputs(model, observations), policy, graph, observations)


def compare_outputs(expected: Floats, policy: FrozenPolicy, graph: bytes, observations: Floats) -> Parity:
    """As `compare`, with torch's outputs (N, P) for the observations."""
    outputs = {"numpy": policy.logits(observations), "onnx": run_onnx(graph, observations)}
    inside = np.maximum(1.0, policy.largest_inside(observations))
    scale = np.maximum(inside, np.abs(expected).max(axis=1, keepdims=True))
    errors = {name: float((np.abs(got - expected) / scale).max()) for name, got in outputs.items()}
    if expected.shape[1] > 1:
        best_two = np.sort(expected, axis=1)[:, -2:]
        ties = (best_two[:, 1] - best_two[:, 0]) <= TIE * scale[:, 0]
    else:
        ties = np.zeros(len(expected), dtype=bool)
    chosen = expected.argmax(axis=1)
    differing = sum(int(((got.argmax(axis=1) != chosen) & ~ties).sum()) for got in outputs.values())
    return Parity(len(observations), errors["numpy"], errors["onnx"], differing, int(ties.sum()))


def random_observations(
    space: gymnasium.spaces.Box, mean: Floats, std: Floats, count: int, seed: int
) -> Floats:
    """Half of them uniform over the space, half around the training's mean; (count, F)."""
    rng = np.random.default_rng(seed)
    bounded = np.isfinite(space.low) & np.isfinite(space.high)
    low, high = np.where(bounded, space.low, mean - 5 * std), np.where(bounded, space.high, mean + 5 * std)
    uniform = rng.uniform(low, high, (count - count // 2, len(mean)))
    near = rng.normal(mean, 2 * std, (count // 2, len(mean)))
    return np.clip(np.concatenate([uniform, near]), space.low, space.high).astype(np.float32)


def run_onnx(graph: bytes, observations: Floats) -> Floats:
    """Run the ONNX file with onnxruntime on the CPU, one thread."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("Checking a bundle's ONNX file", "train") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {INPUT: observations})[0])
