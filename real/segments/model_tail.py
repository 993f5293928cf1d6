"""The tail of a split model (Triton Python backend): an activation in, the model's own outputs out.

`carbonpilot segments write` puts it into the repository beside `tail.onnx` and `wire.py`. A tail for single requests
computes a batch one by one.
"""

from __future__ import annotations

import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from wire import ACTIVATION, SCALE, unpack

_NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class TritonPythonModel:
    """Called by the Python backend."""

    def initialize(self, args: dict) -> None:
        """Load the tail and compute once, so that the first request does not wait for it."""
        config = json.loads(args["model_config"])
        given = {key: value["string_value"] for key, value in config["parameters"].items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = int(given["threads"]), 1
        here = os.path.join(args["model_repository"], args["model_version"], "tail.onnx")
        self._session = onnxruntime.InferenceSession(here, options, providers=["CPUExecutionProvider"])
        (self._input,) = self._session.get_inputs()
        self._outputs = [output["name"] for output in config["output"]]
        self._scaled = len(config["input"]) == 2
        sent = next(tensor for tensor in config["input"] if tensor["name"] == ACTIVATION)
        self._fixed = isinstance(self._input.shape[0], int)
        self._compute(np.zeros((1, *[int(side) for side in sent["dims"]]), np.float32))

    def execute(self, requests: list) -> list:
        """Answer a batch, in one run where the tail can."""
        received = [self._activation(request) for request in requests]
        outputs = self._compute(np.concatenate(received))
        answers, at = [], 0
        for activation in received:
            mine = slice(at, at := at + len(activation))
            tensors = [pb_utils.Tensor(n, o[mine]) for n, o in zip(self._outputs, outputs, strict=True)]
            answers.append(pb_utils.InferenceResponse(tensors))
        return answers

    def _activation(self, request) -> np.ndarray:
        sent = pb_utils.get_input_tensor_by_name(request, ACTIVATION).as_numpy()
        scale = pb_utils.get_input_tensor_by_name(request, SCALE).as_numpy() if self._scaled else None
        return unpack(sent, scale)

    def _compute(self, activations: np.ndarray) -> list:
        """Outputs (n, ...) for activations (n, ...)."""
        activations = activations.astype(_NUMPY[self._input.type], copy=False)
        pieces = np.split(activations, len(activations)) if self._fixed else [activations]
        sides = [side if isinstance(side, int) else -1 for side in self._input.shape]
        answers = [self._session.run(self._outputs, {self._input.name: p.reshape(sides)}) for p in pieces]
        return [np.concatenate(each) for each in zip(*answers, strict=True)]
