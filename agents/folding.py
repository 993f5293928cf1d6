"""Layers folded for speed: bias, and a constant that finds broken inputs, ride along in one matrix per layer.

Biases are one more input that is always 1, and that constant is computed by the products themselves (0 times every
feature, plus 1), so a feature that is NaN or infinite turns it, and with it every output, into NaN: that is how a
broken observation is noticed without looking at each feature.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

# tanh(20) is exactly 1 in float32, and so is max(0, 1): the constant survives the activation.
CONSTANT = {"tanh": 20.0, "relu": 1.0}

Floats = npt.NDArray[np.float32]


def divides_exactly(std: Floats) -> bool:
    """True if every std is a power of two: then dividing the weights instead changes no bit of the result.

    Otherwise it would: far from the mean, where terms are large and cancel, outputs would differ by 1e-4.
    """
    return bool((np.frexp(std)[0] == 0.5).all())


def fold(arrays: Mapping[str, Floats], activation: str) -> list[Floats]:
    """Fold biases, the constant channel and, where exact, the division by std into one matrix per layer.

    Layer i maps (inputs, 1) to (outputs, 1), the last layer to its outputs alone. The mean is not folded: it
    is subtracted while the observation is copied, which costs nothing more and loses no digits.

    Args:
        arrays: ``std`` (F,), ``weight_0`` (F, H), ``bias_0`` (H,), ... up to the last layer; others are not read.
        activation: "tanh" or "relu", between the layers.
    """
    count = sum(name.startswith("weight_") for name in arrays)
    folded = []
    for i in range(count):
        weight = arrays[f"weight_{i}"].astype(np.float64)
        if i == 0 and divides_exactly(arrays["std"]):
            weight /= arrays["std"].astype(np.float64)[:, None]
        last = i == count - 1
        matrix = np.zeros((weight.shape[0] + 1, weight.shape[1] + (not last)))
        matrix[:-1, : weight.shape[1]] = weight
        matrix[-1, : weight.shape[1]] = arrays[f"bias_{i}"]
        if not last:
            matrix[-1, -1] = CONSTANT[activation]
        folded.append(matrix.astype(np.float32))
    return folded
