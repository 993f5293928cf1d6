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
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle_arrays import RISK, Arrays
from .folding import divides_exactly, fold
from .frozen import WARNING_AS_ERROR, FrozenPolicy, allowed_outputs, bad_observation, laid_out
from .risk_terms import PriceRecord, Terms, clipped, read_record, relative
from .written_out import compiled, head_lines, learned_lines, numpy_names, price_lines, price_names

Floats = npt.NDArray[np.float32]


class FrozenPrice(FrozenPolicy):
    """Chooses the placement of the lowest score, with NumPy alone: `learned-risk`. See `FrozenPolicy`."""

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
        self._prepare_one(arrays)

    def _prepare_one(self, arrays: Arrays) -> None:
        """Make ``_decide_one``, the function from one observation to relative scores (P,)."""
        names = self._head_names(np.ones(self._shape[0] + 1, dtype=np.float32))
        lines = [*self._head_lines(), *price_lines(self._record, "return ({},)", with_logits=False)]
        self._decide_one = compiled(lines, names)

    def _head_lines(self) -> list[str]:
        return head_lines(len(self._head), self._std is not None)

    def _head_names(self, inputs: Floats) -> dict[str, Any]:
        """What the names in the lines of head and price mean; ``inputs`` (F + 1,) are the head's and a one."""
        matrices, terms = laid_out(self._head), self._head[0].shape[1] - self._split
        results = [np.empty(matrix.shape[1], dtype=np.float32) for matrix in matrices]
        sizes = [self._split, *(matrix.shape[1] for matrix in self._head[1:])]
        values = [inputs, *(result[:size] for result, size in zip(results, sizes, strict=True))]
        names = numpy_names() | price_names(self._record)
        names |= {"mean": self._mean, "std": self._std, "centred": inputs[:-1]}
        for i, matrix in enumerate(matrices):
            names |= {f"m{i}": matrix, f"dot{i}": values[i].dot, f"v{i}": values[i], f"r{i}": results[i]}
            names[f"zeros{i}"] = np.zeros_like(values[i])
        names |= {"constant": values[-2][-1:].item, "logits": values[-1].tolist}
        names["terms"] = results[0][self._split : self._split + terms].tolist
        return names | {"bad": bad_observation, "card": self.card}

    def decide(
        self, observation: Floats, mask: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64] | int:
        """Choose the allowed placement with the highest output; see `FrozenPolicy.decide`."""
        if observation.shape != self._shape:
            return self._decide_batch(observation, mask)
        outputs = self._scores_one(observation)
        action = outputs.index(min(outputs))
        if mask is None or (mask.shape == self._choices and mask[action]):
            return action
        return int(allowed_outputs(-np.array(outputs), mask).argmax())

    def _scores_one(self, observation: Floats) -> list[float] | tuple[float, ...]:
        """Relative scores of one observation (P,)."""
        try:
            outputs = self._decide_one(observation)
        except WARNING_AS_ERROR:
            raise bad_observation(self.card, observation) from None
        except OverflowError:  # an exponential beyond any double; single precision has stopped growing before
            outputs = (-self._forward_batch(observation[None])[0]).tolist()
        total = sum(outputs)
        if total - total != 0.0:  # NaN or infinite
            raise bad_observation(self.card, observation)
        return outputs

    def logits(self, observation: Floats) -> Floats:
        """Return the relative scores, negative, (P,) for (F,) or (B, P) for (B, F)."""
        if observation.shape != self._shape:
            return self._forward_batch(observation)
        with np.errstate(invalid="ignore", over="ignore"):
            return -np.array(self._scores_one(observation), dtype=np.float32)

    def largest_inside(self, observations: Floats) -> Floats:
        """Size of the largest logit (B, 1): far from what the head was trained on they are in the hundreds."""
        return np.abs(self._price_batch(observations)[1]).max(axis=1, keepdims=True)

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

    Behind the last hidden layer is room for what `laid_out` adds to it.
    """

    def _prepare_one(self, arrays: Arrays) -> None:
        """Make ``_decide_one``, the function from one observation to its best placement; outputs are in ``_output``."""
        activation, count = self.card["network"]["activation"], self._count
        self._tanh = activation == "tanh"
        self._layers = _learned_matrices(arrays, activation, self._record)
        matrices = laid_out(self._layers)
        first, last, padded = self._shape[0] + 1, self._layers[-2].shape[1], matrices[-2].shape[1]
        whole = np.ones(first + 2 * count + padded, dtype=np.float32)
        self._output = np.empty(count, dtype=np.float32)
        middle = [np.empty(matrix.shape[1], dtype=np.float32) for matrix in matrices[:-2]]
        results = [*middle, whole[first + 2 * count :], self._output]
        sizes = [matrix.shape[1] for matrix in self._layers]
        values = [whole[: first + 2 * count], *(r[:size] for r, size in zip(results, sizes, strict=True))]
        inputs = [*values[:-2], whole[first + count : first + 2 * count + last]]
        names = self._head_names(whole[:first]) | {"argmax": self._output.argmax, "item": self._output.item}
        for i, matrix in enumerate(matrices):
            names |= {f"learned_dot{i}": inputs[i].dot, f"w{i}": matrix, f"s{i + 1}": results[i]}
            names |= {f"u{i + 1}": values[i + 1], f"u{i + 1}_zeros": np.zeros_like(values[i + 1])}
        names["pack"] = struct.Struct(f"{2 * count}f").pack_into
        names |= {"buffer": memoryview(whole.data).cast("B"), "at": whole[:first].nbytes}
        lines = [
            *self._head_lines(),
            *price_lines(self._record, "pack(buffer, at, {})", with_logits=True),
            *learned_lines(len(self._layers), activation),
        ]
        self._decide_one = compiled(lines, names)

    def decide(
        self, observation: Floats, mask: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64] | int:
        """Choose the allowed placement with the highest output; see `FrozenPolicy.decide`."""
        if observation.shape != self._shape:
            return self._decide_batch(observation, mask)
        try:
            action = self._decide_one(observation)
        except WARNING_AS_ERROR:
            raise bad_observation(self.card, observation) from None
        except OverflowError:
            action = self._decide_overflown(observation)
        if mask is None or (mask.shape == self._choices and mask[action]):
            return action
        return int(allowed_outputs(self._output, mask).argmax())

    def _decide_overflown(self, observation: Floats) -> int:
        """As ``_decide_one``, where an exponential is beyond any double: single precision stops it before."""
        self._output[:] = self._forward_batch(observation[None])[0]
        if not np.isfinite(self._output).all():
            raise bad_observation(self.card, observation)
        return int(self._output.argmax())

    def logits(self, observation: Floats) -> Floats:
        """Return the outputs, (P,) for (F,) or (B, P) for (B, F); see `FrozenPolicy.logits`."""
        if observation.shape != self._shape:
            return self._forward_batch(observation)
        with np.errstate(invalid="ignore", over="ignore"):
            self.decide(observation)
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
