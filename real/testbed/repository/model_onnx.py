"""A real segmentation graph (Triton Python backend), computed by onnxruntime on the server's processors.

The graph takes RGB (N or 1, H, W, 3) uint8 and has an output (N or 1, H/4, W/4) uint8, as `carbonpilot models export`
writes it. One that takes a single image computes a batch image by image.
"""

from __future__ import annotations

import fcntl
import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from images import NotAnImageError, pixels_of_jpeg


class TritonPythonModel:
    """Called by the Python backend."""

    def initialize(self, args: dict) -> None:
        """Load the graph and compute one image, so that the first request does not wait for it."""
        config = json.loads(args["model_config"])
        given = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._size = (int(given["frame_height"]), int(given["frame_width"]))
        self._jpeg = config["input"][0]["data_type"] == "TYPE_STRING"
        lock = given["accelerator_lock"]
        self._accelerator = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) if lock else None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = int(given["threads"]), 1
        self._session = onnxruntime.InferenceSession(
            given["onnx"], options, providers=["CPUExecutionProvider"]
        )
        (graph_input,) = self._session.get_inputs()
        masks = [o.name for o in self._session.get_outputs() if o.type == "tensor(uint8)"]
        if (
            graph_input.type != "tensor(uint8)"
            or graph_input.shape[1:] != [*self._size, 3]
            or len(masks) != 1
        ):
            raise ValueError(
                f"{given['onnx']}: expected uint8 images {[*self._size, 3]} and one uint8 output, got "
                f"{graph_input.type} {graph_input.shape} and {len(masks)}"
            )
        self._input, self._output = graph_input.name, masks
        self._single = graph_input.shape[0] == 1
        self._compute(np.zeros((1, *self._size, 3), np.uint8))

    def execute(self, requests: list) -> list:
        """Answer a batch, in one run where the graph can."""
        inputs = [self._pixels(request) for request in requests]
        good = [images for images in inputs if isinstance(images, np.ndarray)]
        if good:
            if self._accelerator is not None:
                fcntl.flock(self._accelerator, fcntl.LOCK_EX)
            try:
                masks = self._compute(np.concatenate(good))
            finally:
                if self._accelerator is not None:
                    fcntl.flock(self._accelerator, fcntl.LOCK_UN)
        answers, at = [], 0
        for images in inputs:
            if isinstance(images, np.ndarray):
                answers.append(
                    pb_utils.InferenceResponse([pb_utils.Tensor("MASK", masks[at : at + len(images)])])
                )
                at += len(images)
            else:
                answers.append(pb_utils.InferenceResponse(output_tensors=[], error=images))
        return answers

    def _pixels(self, request):
        """The images of a request (n, H, W, 3), or the error that it is answered with."""
        images = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        try:
            return (
                np.stack([pixels_of_jpeg(bytes(i[0]), *self._size) for i in images]) if self._jpeg else images
            )
        except NotAnImageError as error:
            return pb_utils.TritonError(f"IMAGE: {error}", pb_utils.TritonError.INVALID_ARG)

    def _compute(self, images: np.ndarray) -> np.ndarray:
        pieces = np.split(images, len(images)) if self._single else [images]
        return np.concatenate([self._session.run(self._output, {self._input: piece})[0] for piece in pieces])
