"""The risk head: a frozen network that tells for each placement how likely it misses the SLO.

NumPy alone, in the manner of `agents/frozen.py`: folded layers and results in buffers that were made once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..folding import divides_exactly, fold

Floats = npt.NDArray[np.float32]

ACTIVATION = "relu"  # a maximum costs a fifth of a tanh
# Rows of a batch that are worked on at once: few enough that BLAS starts no threads. On a busy machine they wait for
# each other, and 1600 rows at once took 14 ms where blocks take 0.4.
ROWS = 128


class RiskHead:
    """Observation to logits of "this placement would miss the SLO", placement 0 (local) included.

    One object serves one thread: its buffers are reused from call to call.

    Attributes:
        arrays: what it was made from: ``mean``, ``std`` (F,); ``weight_0`` (F, H), ``bias_0`` (H,), ... up to
            ``weight_n`` (H, P), ``bias_n`` (P,); float32, between the layers a relu.
        features: F, length of the encoded observation.
        actions: P, number of placements.
    """

    def __init__(self, arrays: Mapping[str, Floats]) -> None:
        """Check the arrays and prepare matrices and buffers; ``load`` is the usual way in.

        Raises:
            InputError: the arrays are no such network, or hold a number that is not finite.
        """
        check_arrays(arrays)
        self.arrays = dict(arrays)
        self._mean = arrays["mean"]
        self._std = None if divides_exactly(arrays["std"]) else arrays["std"]
        self._matrices = fold(arrays, ACTIVATION)
        self.features, self.actions = len(self._mean), self._matrices[-1].shape[1]
        self._buffers: dict[int, tuple[Floats, list[Floats], Floats]] = {}
        # Batch of one, with every method looked up beforehand: at this size a look-up is a cost.
        values = np.ones(self.features + 1, dtype=np.float32)
        self._centred, self._hidden = values[:-1], []
        for matrix in self._matrices:
            result = np.empty(matrix.shape[1], dtype=np.float32)
            self._hidden.append((values.dot, matrix, result, np.zeros_like(result)))
            values = result
        self._last_dot, self._last_matrix, self._output, _ = self._hidden.pop()

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, table_sha256: str | None = None) -> RiskHead:
        """Load the head of a risk folder (made by `carbonpilot risk train`).

        Args:
            folder: holds ``risk.npz`` and ``price.json``.
            table_sha256: hash of the observation table here, if it shall be checked.

        Raises:
            InputError: the folder is damaged or incomplete, or was made for another table.
        """
        from .folder import read_risk  # late: a device that gets the arrays from its bundle needs no pydantic

        return cls(read_risk(folder, table_sha256=table_sha256).arrays)

    @property
    def normalised(self) -> Floats:
        """The last single observation, normalised (F,): (observation - mean) / std. Valid until the next call.

        Only where every std is a power of two is the division folded; there this is (observation - mean).
        """
        return self._centred

    def logits(self, observation: Floats) -> Floats:
        """Logits of a miss by placement: (P,) for (F,), (B, P) for (B, F), in fresh arrays.

        A feature that is NaN or infinite makes every logit of its row NaN; the caller decides what that means.

        Raises:
            InputError: the shape is wrong.
        """
        if observation.shape == self._mean.shape:
            return self.forward_one(observation).copy()
        return self._forward_batch(observation)

    def forward_one(self, observation: Floats) -> Floats:
        """As `logits` of one observation (F,), unchecked, in a buffer that the next call writes over (P,)."""
        np.subtract(observation, self._mean, self._centred)
        if self._std is not None:
            np.divide(self._centred, self._std, self._centred)
        for dot, matrix, result, zeros in self._hidden:
            dot(matrix, result)
            np.maximum(result, zeros, out=result)  # a positional out warns here, and costs double
        self._last_dot(self._last_matrix, self._output)
        return self._output

    def _forward_batch(self, observations: Floats) -> Floats:
        if observations.ndim != 2 or observations.shape[1] != self.features:
            raise _input_error(
                f"Observation: expected shape ({self.features},) or (B, {self.features}), got {observations.shape}."
            )
        output = np.empty((len(observations), self.actions), dtype=np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # infinity becomes NaN, which the caller sees
            for start in range(0, len(output), ROWS):
                block = slice(start, start + ROWS)
                self._forward_rows(observations[block], output[block])
        return output

    def _forward_rows(self, observations: Floats, output: Floats) -> None:
        values, results, centred = self._row_buffers(len(observations))
        np.subtract(observations, self._mean, out=centred)
        if self._std is not None:
            np.divide(centred, self._std, out=centred)
        for matrix, result in zip(self._matrices, results, strict=False):  # the last layer has no buffer
            np.dot(values, matrix, out=result)
            values = np.maximum(result, np.float32(0.0), out=result)
        np.dot(values, self._matrices[-1], out=output)

    def _row_buffers(self, rows: int) -> tuple[Floats, list[Floats], Floats]:
        """Buffers for a block of rows: full blocks, and what is left over, come again and again."""
        if rows not in self._buffers:
            if len(self._buffers) > 1:
                self._buffers.clear()
            values = np.ones((rows, self.features + 1), dtype=np.float32)
            results = [np.empty((rows, m.shape[1]), dtype=np.float32) for m in self._matrices[:-1]]
            self._buffers[rows] = (values, results, values[:, :-1])
        return self._buffers[rows]


def check_arrays(arrays: Mapping[str, Floats], where: str = "Risk head") -> None:
    """Raise InputError unless the arrays are a finite float32 network with a normaliser.

    Args:
        arrays: by name, see `RiskHead.arrays`.
        where: the file's name, for the message.
    """
    layers = sum(name.startswith("weight_") for name in arrays)
    names = ["mean", "std", *(f"{kind}_{i}" for i in range(layers) for kind in ("weight", "bias"))]
    if layers == 0 or set(arrays) != set(names):
        raise _input_error(
            f"{where}: expected arrays mean, std, weight_0, bias_0, ... of at least one layer, got {sorted(arrays)}."
        )
    weights = [np.shape(arrays[f"weight_{i}"]) for i in range(layers)]
    if any(len(shape) != 2 for shape in weights) or any(a[1] != b[0] for a, b in pairwise(weights)):
        raise _input_error(f"{where}: layers of shapes {weights} do not follow on each other.")
    expected: dict[str, tuple[int, ...]] = {"mean": weights[0][:1], "std": weights[0][:1]}
    for i, shape in enumerate(weights):
        expected[f"weight_{i}"], expected[f"bias_{i}"] = shape, shape[1:]
    for name, shape in expected.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            raise _input_error(
                f"{where}: {name} must be finite float32 {shape}, got {array.dtype} {array.shape}"
                " or a number that is not finite."
            )
    if not (arrays["std"] > 0).all():
        raise _input_error(f"{where}: the normaliser's std must be above 0 everywhere.")


def _input_error(message: str) -> Exception:
    from ...envs.errors import InputError  # late: a device must not pay for envs before something goes wrong

    return InputError(message)
