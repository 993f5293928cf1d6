"""The frozen policy: a bundle's network in NumPy, fast enough to ask for every request.

A decision is little more than its matrix products (``benchmarks/bench_frozen.py`` measures it): biases ride
along as one more input that is always 1, the normaliser's division sits in the first layer's weights where
that is exact, and every result lands in a buffer that was made once. The constant input is computed by the
products themselves (0 times every feature, plus 1), so a feature that is NaN or infinite turns it, and with
it every output, into NaN: that is how a broken observation is noticed without looking at each feature.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Arrays, read_bundle
from .compatibility import check_family, check_table
from .folding import divides_exactly, fold

Floats = npt.NDArray[np.float32]

_subtract, _tanh, _maximum = np.subtract, np.tanh, np.maximum  # a look-up less, four times per decision

# Infinity times 0 makes NumPy warn. To silence it would cost a tenth of every decision, so the warning is let
# through; where warnings or floating-point errors are set to raise, they end as the same InputError.
WARNING_AS_ERROR = (RuntimeWarning, FloatingPointError)


def freeze(name: str, card: dict[str, Any], arrays: Arrays) -> FrozenPolicy:
    """The policy that a bundle's card and arrays describe: a network, or one with a risk head, or that alone."""
    if card.get("risk") is None:
        return FrozenPolicy(name, card, arrays)
    from .frozen_risk import FrozenPrice, FrozenRisk  # they build on this module

    return (FrozenPrice if card["network"] is None else FrozenRisk)(name, card, arrays)


class FrozenPolicy:
    """Decides with NumPy alone. Implements the ``Policy`` protocol.

    One object serves one thread: its buffers are reused from call to call.

    Attributes:
        name: the name of the bundle's folder.
        card: the bundle's card.
    """

    def __init__(self, name: str, card: dict[str, Any], arrays: Arrays) -> None:
        """Prepare the matrices and the buffers for single decisions; ``load`` is the usual way in."""
        self.name, self.card = name, card
        self._mean = arrays["mean"]
        self._std = None if divides_exactly(arrays["std"]) else arrays["std"]
        self._shape = self._mean.shape
        self._tanh = card["network"]["activation"] == "tanh"
        self._matrices = fold(arrays, card["network"]["activation"])
        self._buffers: dict[int, tuple[Floats, list[Floats], Floats]] = {}
        # Batch of one, with every method looked up beforehand: at this size a look-up is a cost.
        values = np.ones(self._shape[0] + 1, dtype=np.float32)
        self._centred, self._hidden = values[:-1], []
        for matrix, laid in zip(self._matrices, laid_out(self._matrices), strict=True):
            result = np.empty(laid.shape[1], dtype=np.float32)
            self._hidden.append((values.dot, laid, result, np.zeros_like(result)))
            values = result[: matrix.shape[1]]
        self._last_dot, self._last_matrix, self._output, _ = self._hidden.pop()
        self._choices = values.shape
        self._argmax, self._item = values.argmax, values.item

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, table_sha256: str | None = None, family: str | None = None
    ) -> FrozenPolicy:
        """Load a bundle.

        Args:
            path: the bundle's folder.
            table_sha256: hash of the observation table here, if it shall be checked.
            family: scenario family here, if it shall be checked.

        Returns:
            The policy, ready to decide.

        Raises:
            BundleError: if the bundle is damaged, incomplete, of another schema, table or family.
        """
        card, arrays = read_bundle(path)
        if family is not None:
            check_family(card, family)
        if table_sha256 is not None:
            check_table(card, table_sha256)
        return freeze(os.path.basename(os.path.abspath(path)), card, arrays)

    @property
    def knows_dial(self) -> bool:
        """Whether it heeds the wishes, so that it may be played at every position of the dial."""
        return bool((self.card.get("wishes") or {}).get("sampled", False))

    def reset(self, batch: int) -> None:
        """Nothing to forget: every decision follows from its observation alone."""

    def decide(
        self, observation: Floats, mask: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64] | int:
        """Choose the allowed placement with the highest output.

        Args:
            observation: encoded observation (F,), or (B, F) for a batch.
            mask: allowed placements (P,) or (B, P) of bool; None allows all.

        Returns:
            An int for (F,), an int64 array (B,) for (B, F).

        Raises:
            InputError: if an observation holds NaN or infinity, a mask allows nothing, or a shape is wrong.
        """
        if observation.shape != self._shape:
            return self._decide_batch(observation, mask)
        try:
            self._forward_one(observation)
        except WARNING_AS_ERROR:
            raise bad_observation(self.card, observation) from None
        action = int(self._argmax())
        value = self._item(action)
        if value - value != 0.0:  # NaN or infinite
            raise bad_observation(self.card, observation)
        # The best of all is the best of those allowed, if it is one of them: no need to look at the others.
        if mask is None or (mask.shape == self._choices and mask[action]):
            return action
        return int(allowed_outputs(self._output, mask).argmax())

    def logits(self, observation: Floats) -> Floats:
        """Return the network's outputs, (P,) for (F,) or (B, P) for (B, F): logits or Q values, see card.

        Raises:
            InputError: if an observation holds NaN or infinity or its shape is wrong.
        """
        if observation.shape != self._shape:
            return self._forward_batch(observation).copy()
        with np.errstate(invalid="ignore", over="ignore"):
            self._forward_one(observation)
        if not np.isfinite(self._output).all():
            raise bad_observation(self.card, observation)
        return self._output.copy()

    def largest_inside(self, observations: Floats) -> Floats:
        """Size of the largest number between observation and outputs that rounding is relative to (B, 1); 0: none."""
        return np.zeros((len(observations), 1), dtype=np.float32)

    def _forward_one(self, observation: Floats) -> None:
        _subtract(observation, self._mean, self._centred)
        if self._std is not None:
            np.divide(self._centred, self._std, out=self._centred)
        if self._tanh:
            for dot, matrix, result, _ in self._hidden:
                dot(matrix, result)
                _tanh(result, result)
        else:
            for dot, matrix, result, zeros in self._hidden:
                dot(matrix, result)
                _maximum(result, zeros, out=result)  # a positional out warns here, and costs double
        self._last_dot(self._last_matrix, self._output)

    def _decide_batch(
        self, observations: Floats, masks: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.int64]:
        outputs = self._forward_batch(observations)
        if masks is not None and not masks.all():
            outputs = allowed_outputs(outputs, masks)
        return outputs.argmax(axis=1)

    def _forward_batch(self, observations: Floats) -> Floats:
        if observations.ndim != 2 or observations.shape[1:] != self._shape:
            raise _input_error(
                f"Observation: expected shape {self._shape} or (B, {self._shape[0]}), "
                f"got {observations.shape}."
            )
        with np.errstate(invalid="ignore", over="ignore"):  # the check below says it better
            values = self._outputs_of(observations)
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values).all(axis=1)))
            raise bad_observation(self.card, observations[row], f" (row {row})")
        return values

    def _outputs_of(self, observations: Floats) -> Floats:
        """Outputs of a batch (B, P), with NaN where a feature is none; the next call may write over them."""
        values, results, centred = self._batch_buffers(observations.shape[0])
        np.subtract(observations, self._mean, out=centred)
        if self._std is not None:
            np.divide(centred, self._std, out=centred)
        for matrix, result in zip(self._matrices, results, strict=True):
            np.dot(values, matrix, out=result)
            if result is not results[-1]:
                np.tanh(result, out=result) if self._tanh else np.maximum(result, 0.0, out=result)
            values = result
        return values

    def _batch_buffers(self, batch: int) -> tuple[Floats, list[Floats], Floats]:
        """Buffers of the last batch size: rollouts ask for the same size again and again."""
        if batch not in self._buffers:
            values = np.ones((batch, self._shape[0] + 1), dtype=np.float32)
            results = [np.empty((batch, m.shape[1]), dtype=np.float32) for m in self._matrices]
            self._buffers = {batch: (values, results, values[:, :-1])}
        return self._buffers[batch]


def laid_out(matrices: list[Floats]) -> list[Floats]:
    """The matrices as products take them in least time: columns of zeros up to a multiple of four, the last by columns.

    With 65 columns a product takes 0.58 microseconds, with 68 it takes 0.52; the last one, of few columns, 0.49 by rows
    and 0.40 by columns.
    """
    padded = [np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % 4))) for matrix in matrices[:-1]]
    return [*padded, np.asfortranarray(matrices[-1])]


def allowed_outputs(outputs: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """Outputs with minus infinity where the mask forbids."""
    if mask.shape != outputs.shape:
        raise _input_error(f"Mask: expected shape {outputs.shape}, got {mask.shape}.")
    if not mask.any(axis=-1).all():
        raise _input_error("Mask: it allows no placement at all; local must always be allowed.")
    return np.where(mask, outputs, -np.inf)


def bad_observation(card: dict[str, Any], observation: Floats, where: str = "") -> Exception:
    """Name the features that are not numbers; deciding on them would be choosing blindly."""
    names = [f["name"] for f in card["observation"]["features"]]
    bad = [f"{n} = {v}" for n, v in zip(names, observation, strict=True) if not np.isfinite(v)]
    what = ", ".join(bad) if bad else "every feature is finite, but the outputs are too large for float32"
    return _input_error(
        f"Observation{where}: expected finite features, got {what}. Likely cause: a probe or feed without "
        "a value that was not replaced by its last known one. Use a static placement until it is back."
    )


def _input_error(message: str) -> Exception:
    from ..envs.errors import InputError  # late: see bundle.py

    return InputError(message)
