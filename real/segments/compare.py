"""Does head and tail compute what the whole model does, and what does the wire between them change?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...agents.partition.cuts import Cut
from ...agents.partition.graph import Graph
from ...envs.errors import InputError
from .extract import Parts, as_outputs, judged_tensors, part
from .images import compared_inputs
from .wire import ACTIVATION, SCALE, pack, unpack

# What a cut may change: a value, and the same as a share of the values' standard deviation, which says what it means.
# Operations are fused in other ways on the two sides of a cut. Seen in float32: 0 to 4e-5, and 4e-6 of the deviation.
TOLERANCES = {"float32": (1e-4, 1e-3), "float16": (2e-2, 5e-2)}


@dataclass(frozen=True)
class Comparison:
    """How far a cut model is from the whole one.

    Attributes:
        max_abs_difference: of any value, with nothing lost between head and tail.
        wire_max_abs_difference: of any value, with the wire between them.
        agreement: share of equal classes with the wire; of the output where it is lowest.
        checked_on: inputs.
        tolerance: what the first must not exceed, for a cut in this place.
    """

    max_abs_difference: float
    wire_max_abs_difference: float
    agreement: float
    checked_on: str
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether head and tail may be used in place of the whole model."""
        return self.max_abs_difference <= self.tolerance  # False for NaN


class Whole:
    """The whole model, run once on the inputs that all its cuts are compared on."""

    def __init__(self, graph: Graph, images: Path | None) -> None:
        """Take the model.

        Args:
            graph: of one input.
            images: folder of pictures; None: made-up inputs.

        Raises:
            InputError: onnxruntime cannot run it, or no inputs can be had.
        """
        self.graph, self.judged = graph, judged_tensors(graph)
        self._session = open_bytes(as_outputs(graph, self.judged).SerializeToString(), str(graph.path))
        self.inputs, self.checked_on = compared_inputs(self._session.get_inputs()[0], images)

    @cached_property
    def answers(self) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
        """Outputs, and the values that are judged, for each input."""
        return [self._answer(value) for value in self.inputs]

    @cached_property
    def deviation(self) -> float:
        """Least standard deviation of what is judged; infinite where nothing is."""
        each = zip(*(judged for _, judged in self.answers), strict=True)
        return min((float(np.std(np.concatenate(values))) for values in each), default=np.inf)

    def _answer(self, value: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        feed = {self.graph.inputs[0]: value}
        return self._session.run(list(self.graph.outputs), feed), (
            self._session.run(self.judged, feed) if self.judged else []
        )


def compare(whole: Whole, cut: Cut, wire: str, parts: Parts) -> Comparison:
    """Run head and tail on the whole model's inputs, once as they are and once over the wire.

    Raises:
        InputError: onnxruntime cannot run one of them.
        WireError: the wire cannot carry the activation.
    """
    graph = whole.graph
    head = open_bytes(parts.head, f"the head of {cut.name}")
    tail = open_bytes(parts.tail, f"the tail of {cut.name}")
    witness = _Witness(whole, cut, tail)
    plain, wired, shares = 0.0, 0.0, []
    for value, (outputs, values) in zip(whole.inputs, whole.answers, strict=True):
        (activation,) = head.run(None, {graph.inputs[0]: value})
        received = received_over(activation, wire)
        plain = _worse(plain, _distance(witness.values(activation), values))
        wired = _worse(wired, _distance(witness.values(received), values))
        answers = tail.run(list(graph.outputs), {cut.tensor: received})
        shares.append([_equal(a, b) for a, b in zip(answers, outputs, strict=True)])
    agreement = float(np.mean(shares, axis=0).min())
    return Comparison(plain, wired, agreement, whole.checked_on, _tolerance(cut, whole.deviation))


class _Witness:
    """A tail that also tells the values by which it is judged."""

    def __init__(self, whole: Whole, cut: Cut, tail: Any) -> None:
        self._cut, self._judged = cut, whole.judged
        self._asked = [name for name in whole.judged if name != cut.tensor]
        if set(self._asked) <= set(whole.graph.outputs):
            self._tail = tail
        else:
            called = f"the tail of {cut.name}"
            self._tail = open_bytes(part(whole.graph, [cut.tensor], self._asked), called)

    def values(self, activation: np.ndarray) -> list[np.ndarray]:
        got = self._tail.run(self._asked, {self._cut.tensor: activation}) if self._asked else []
        named = dict(zip(self._asked, got, strict=True))
        return [named.get(name, activation) for name in self._judged]


def received_over(activation: np.ndarray, wire: str) -> np.ndarray:
    """The activation as the tail gets it after the wire, in its own type and shape."""
    packed = dict(pack(activation.reshape(1, -1), wire))
    return unpack(packed[ACTIVATION], packed.get(SCALE)).astype(activation.dtype).reshape(activation.shape)


def _tolerance(cut: Cut, deviation: float) -> float:
    value, share = TOLERANCES[cut.dtype]
    return min(value, share * deviation)


def open_bytes(model: bytes | str, called: str) -> Any:
    """A session on this machine's processor; one thread, so that results do not depend on how many there are.

    Raises:
        InputError: onnxruntime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # onnxruntime's exceptions have no common base
        raise InputError(
            f"onnxruntime {onnxruntime.__version__} cannot run {called}: {str(err).strip().splitlines()[0][:300]}. "
            "Likely cause: an operator that it does not have, or a newer opset than it knows."
        ) from err


def _distance(got: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    worst = 0.0
    for a, b in zip(got, wanted, strict=True):
        worst = _worse(worst, float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()))
    return worst


def _worse(one: float, other: float) -> float:
    """The larger one; NaN if either is."""
    return float(np.maximum(one, other))


def _equal(got: np.ndarray, wanted: np.ndarray) -> float:
    """Share of equal classes; numbers are scores of classes where they have a dimension for them."""
    if wanted.dtype.kind == "f" and wanted.ndim > 1 and wanted.shape[1] > 1:
        got, wanted = got.argmax(axis=1), wanted.argmax(axis=1)
    return float(np.mean(got == wanted))
