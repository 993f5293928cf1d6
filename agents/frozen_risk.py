"""Frozen policies with a risk head: head, price and learned part in one decision.

    observation -> normalised -> risk head -> logits -> price -> relative scores -> learned part -> outputs

The learned part sees the normalised observation, the clipped logits and the relative scores; its last layer sees the
relative scores once more, which is how it begins as the price alone. Without a learned part (`learned-risk`) the
outputs are the relative scores, negative.

All that is linear in the observation rides along in the head's first product: the price's terms, and the constant that
turns into NaN where a feature is none. `numpy.fmax`, which is quicker here than `maximum`, makes 0 of NaN; so one look
at the constant that comes out of the last hidden layer tells whether anything on the way was no number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle_arrays import RISK, Arrays
from .folding import divides_exactly, fold
from .frozen import WARNING_AS_ERROR, FrozenPolicy, allowed_outputs, bad_observation
from .risk_single import inputs_one, relative_one, within_doubles
from .risk_terms import PriceRecord, Terms, clipped, read_record, relative

Floats = npt.NDArray[np.float32]


class FrozenPrice(FrozenPolicy):
    """Chooses the placement of the lowest score, with NumPy alone: `learned-risk`. See `FrozenPolicy`."""

    _make_one = staticmethod(relative_one)

    def __init__(self, name: str, card: dict[str, Any], arrays: Arrays) -> None:
        """Prepare the matrices and the buffers for single decisions."""
        self.name, self.card = name, card
        self._record = read_record(card["risk"]["price"])
        self._count = len(self._record.placements)
        self._mean, exact = arrays["mean"], divides_exactly(arrays["std"])
        self._std = None if exact else arrays["std"]
        self._shape, self._choices = self._mean.shape, (self._count,)
        head = fold(head_arrays(arrays), "relu")
        terms = _terms_matrix(Terms(self._record, card["observation"]["features"]), arrays, exact)
        self._head = [np.concatenate([head[0], terms], axis=1), *head[1:]]
        self._split = head[0].shape[1]
        self._prepare_head(np.ones(self._shape[0] + 1, dtype=np.float32))

    def _prepare_head(self, values: Floats) -> None:
        """Make ``_price_one`` with its buffers; ``values`` are the head's inputs, a one at their end."""
        result = np.empty(self._head[0].shape[1], dtype=np.float32)
        hidden, first = [], (values[:-1], values.dot, self._head[0], result)
        values, terms = result[: self._split], result[self._split :].tolist
        for matrix in self._head[1:]:
            result = np.empty(matrix.shape[1], dtype=np.float32)
            hidden.append((values, np.zeros_like(values), values.dot, matrix, result))
            constant, values = values[-1:].item, result
        self._price_one = self._price_function(*first, hidden, constant, terms, values.tolist)

    def _price_function(
        self, centred: Floats, first_dot: Any, first: Floats, result: Floats, hidden: list[Any],
        constant: Any, terms: Any, logits: Any,
    ) -> Callable[[Floats], tuple[float, ...]]:  # fmt: skip
        """The function from one observation to relative scores (P,), behind the clipped logits where they are read.

        Every array and method is looked up beforehand, which at this size is a tenth of the whole.
        """
        card, mean, std, one, subtract, divide, fmax = (
            self.card, self._mean, self._std, self._make_one(self._record), np.subtract, np.divide, np.fmax,
        )  # fmt: skip

        def price_one(observation: Floats) -> tuple[float, ...]:
            try:
                subtract(observation, mean, centred)
                if std is not None:
                    divide(centred, std, centred)
                first_dot(first, result)
                for values, zeros, dot, matrix, output in hidden:
                    fmax(values, zeros, values)
                    dot(matrix, output)
            except WARNING_AS_ERROR:
                raise bad_observation(card, observation) from None
            if constant() != 1.0:
                raise bad_observation(card, observation)
            try:
                return one(terms(), logits())
            except OverflowError:
                return one(*within_doubles(terms(), logits()))

        return price_one

    def decide(
        self, observation: Floats, mask: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64] | int:
        """Choose the allowed placement with the highest output; see `FrozenPolicy.decide`."""
        if observation.shape != self._shape:
            return self._decide_batch(observation, mask)
        outputs = self._price_one(observation)
        total = sum(outputs)
        if total - total != 0.0:  # NaN or infinite
            raise bad_observation(self.card, observation)
        action = outputs.index(min(outputs))
        if mask is None or (mask.shape == self._choices and mask[action]):
            return action
        return int(allowed_outputs(-np.array(outputs), mask).argmax())

    def logits(self, observation: Floats) -> Floats:
        """Return the relative scores, negative, (P,) for (F,) or (B, P) for (B, F)."""
        if observation.shape != self._shape:
            return self._forward_batch(observation)
        with np.errstate(invalid="ignore", over="ignore"):
            outputs = -np.array(self._price_one(observation), dtype=np.float32)
        if not np.isfinite(outputs).all():
            raise bad_observation(self.card, observation)
        return outputs

    def _outputs_of(self, observations: Floats) -> Floats:
        return -self._price_batch(observations)[2]

    def _price_batch(self, observations: Floats) -> tuple[Floats, Floats, Floats]:
        """Normalised observations and a one (B, F + 1), logits and relative scores (B, P); NaN where a feature is."""
        inputs = np.ones((len(observations), self._shape[0] + 1), dtype=np.float32)
        np.subtract(observations, self._mean, out=inputs[:, :-1])
        if self._std is not None:
            np.divide(inputs[:, :-1], self._std, out=inputs[:, :-1])
        found = inputs @ self._head[0]
        logits, terms = found[:, : self._split], found[:, self._split :]
        for matrix in self._head[1:]:
            logits = np.maximum(logits, np.float32(0)) @ matrix
        return inputs, logits, relative(np, terms, logits, self._record)


class FrozenRisk(FrozenPrice):
    """Head, price and a learned part; see `FrozenPolicy`.

    What one decision reads lies in one buffer, in the order in which it is read:

        normalised observation (F) | 1 | clipped logits (P) | relative scores (P) | last hidden layer (H) | 1
        |---------------- read by the first layer ----------------------------|
                                                            |----------- read by the last layer ----------|
    """

    _make_one = staticmethod(inputs_one)

    def __init__(self, name: str, card: dict[str, Any], arrays: Arrays) -> None:
        """Prepare the matrices and the buffers for single decisions."""
        super().__init__(name, card, arrays)
        activation = card["network"]["activation"]
        self._tanh = activation == "tanh"
        self._layers = _learned_matrices(arrays, activation, self._record)
        count, first, last = self._count, self._shape[0] + 1, self._layers[-2].shape[1]
        whole = np.ones(first + 2 * count + last, dtype=np.float32)
        self._prepare_head(whole[:first])
        values, learned = whole[: first + 2 * count], []
        for i, matrix in enumerate(self._layers[:-1], 2):
            end = i == len(self._layers)
            result = whole[-last:] if end else np.empty(matrix.shape[1], dtype=np.float32)
            learned.append((values.dot, matrix, result, np.zeros_like(result)))
            values = result
        self._output = np.empty(count, dtype=np.float32)
        last_dot = whole[first + count :].dot
        buffer = memoryview(whole.data).cast("B"), whole[:first].nbytes
        self._learn_one = self._learned_function(*buffer, learned, last_dot)
        self._argmax, self._item = self._output.argmax, self._output.item

    def decide(
        self, observation: Floats, mask: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64] | int:
        """Choose the allowed placement with the highest output; see `FrozenPolicy.decide`."""
        if observation.shape != self._shape:
            return self._decide_batch(observation, mask)
        self._learn_one(self._price_one(observation))
        action = int(self._argmax())
        value = self._item(action)
        if value - value != 0.0:  # NaN or infinite
            raise bad_observation(self.card, observation)
        if mask is None or (mask.shape == self._choices and mask[action]):
            return action
        return int(allowed_outputs(self._output, mask).argmax())

    def _learned_function(
        self, buffer: memoryview, at: int, learned: list[Any], last_dot: Any
    ) -> Callable[[tuple[float, ...]], None]:
        """The function from clipped logits and relative scores (2 P,), and what lies before them, to the outputs."""
        pack = struct.Struct(f"{2 * self._count}f").pack_into
        last, output, use_tanh, tanh, maximum = (
            self._layers[-1],
            self._output,
            self._tanh,
            np.tanh,
            np.maximum,
        )

        def learn_one(found: tuple[float, ...]) -> None:
            pack(buffer, at, *found)
            for dot, matrix, result, zeros in learned:
                dot(matrix, result)
                if use_tanh:
                    tanh(result, result)
                else:
                    maximum(result, zeros, out=result)
            last_dot(last, output)

        return learn_one

    def logits(self, observation: Floats) -> Floats:
        """Return the outputs, (P,) for (F,) or (B, P) for (B, F); see `FrozenPolicy.logits`."""
        if observation.shape != self._shape:
            return self._forward_batch(observation)
        with np.errstate(invalid="ignore", over="ignore"):
            self._learn_one(self._price_one(observation))
        if not np.isfinite(self._output).all():
            raise bad_observation(self.card, observation)
        return self._output.copy()

    def _outputs_of(self, observations: Floats) -> Floats:
        inputs, logits, scores = self._price_batch(observations)
        hidden = np.concatenate([inputs, clipped(np, logits, self._record), scores], axis=1)
        for matrix in self._layers[:-1]:
            hidden = hidden @ matrix
            hidden = np.tanh(hidden) if self._tanh else np.maximum(hidden, np.float32(0))
        return np.concatenate([scores, hidden], axis=1) @ self._layers[-1]


def head_arrays(arrays: Arrays) -> Arrays:
    """The arrays of the risk head, named as in a risk folder."""
    own = {name.removeprefix(RISK): array for name, array in arrays.items() if name.startswith(RISK)}
    return {"mean": arrays["mean"], "std": arrays["std"], **own}


def _terms_matrix(terms: Terms, arrays: Arrays, exact: bool) -> Floats:
    """The matrix from (centred observation, 1) to the price's terms (F + 1, T)."""
    mean, std = (arrays[name].astype(np.float64) for name in ("mean", "std"))
    rows = terms.matrix if exact else terms.matrix * std[:, None]
    return np.vstack([rows, terms.constant + mean @ terms.matrix]).astype(np.float32)


def _learned_matrices(arrays: Arrays, activation: str, record: PriceRecord) -> list[Floats]:
    """The learned part's matrices, their rows in the order of the buffer (see `FrozenRisk`)."""
    count = len(record.placements)
    own = {name: array for name, array in arrays.items() if not name.startswith(RISK)}
    # Of the first layer's inputs only the features are normalised by division.
    std = own["std"] if divides_exactly(own["std"]) else np.ones_like(own["std"])
    own["std"] = np.concatenate([std, np.ones(2 * count, dtype=np.float32)])
    first, *middle, last = fold(own, activation)
    features, hidden = len(std), len(last) - 1 - count
    first[features : features + count] /= np.float32(record.numbers["logit_scale"])
    first = first[[*range(features), len(first) - 1, *range(features, len(first) - 1)]]
    last = last[[*range(hidden, hidden + count), *range(hidden), len(last) - 1]]
    return [first, *middle, last]
