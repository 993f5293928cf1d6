"""Stand-in for a segmentation model (Triton Python backend): takes its time, computes next to nothing.

A batch of b takes service_ms x (1 + marginal_service_share x (b - 1)), times a lognormal factor, once for the batch,
where service_p95_ms is above service_ms. The accelerator, where the models share one, is taken for that long.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import random
import time

import numpy as np
import triton_python_backend_utils as pb_utils
from images import CLASSES, NotAnImageError, mask_of_jpeg, mask_of_pixels
from timing import precise_timers, wait_until

_P95 = 1.6448536269514722  # quantile of the standard normal distribution


class TritonPythonModel:
    """Called by the Python backend."""

    def initialize(self, args: dict) -> None:
        """Read the settings that `write.py` put into the model's parameters."""
        config = json.loads(args["model_config"])
        given = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._service_s = float(given["service_ms"]) / 1e3
        self._share = float(given["marginal_service_share"])
        self._sigma = math.log(float(given["service_p95_ms"]) / float(given["service_ms"])) / _P95
        self._size = (int(given["frame_height"]), int(given["frame_width"]))
        self._jpeg = config["input"][0]["data_type"] == "TYPE_STRING"
        self._fault, self._fault_file = given["fault"], given["fault_file"]
        self._random = random.Random(int(given["seed"]))
        lock = given["accelerator_lock"]
        self._accelerator = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) if lock else None
        precise_timers()

    def execute(self, requests: list) -> list:
        """Answer a batch."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy() for request in requests]
        fault, slower = self._faults()
        if self._accelerator is not None:
            fcntl.flock(self._accelerator, fcntl.LOCK_EX)
        try:
            end_s = time.monotonic() + slower * self._batch_s(sum(len(images) for images in inputs))
            answers = [self._answer(images, fault) for images in inputs]
            wait_until(end_s)
        finally:
            if self._accelerator is not None:
                fcntl.flock(self._accelerator, fcntl.LOCK_UN)
        return answers

    def _batch_s(self, batch: int) -> float:
        noise = math.exp(self._sigma * self._random.gauss(0.0, 1.0)) if self._sigma else 1.0
        return noise * self._service_s * (1.0 + self._share * (batch - 1))

    def _answer(self, images: np.ndarray, fault: str):
        if fault == "model-error":
            return _error("the model failed, as the test bed was told to")
        try:
            masks = np.stack([self._mask(image) for image in images])
        except NotAnImageError as error:
            return _error(f"IMAGE: {error}")
        if fault == "wrong-shape":
            masks = np.ascontiguousarray(masks[:, ::2])
        elif fault == "wrong-type":
            masks = masks.astype(np.float32)
        elif fault == "wrong-class":
            masks = masks + np.uint8(CLASSES)
        return pb_utils.InferenceResponse([pb_utils.Tensor("MASK", masks)])

    def _mask(self, image: np.ndarray) -> np.ndarray:
        return mask_of_jpeg(bytes(image[0]), *self._size) if self._jpeg else mask_of_pixels(image)

    def _faults(self) -> tuple[str, float]:
        """What to do wrong, and how many times slower to be."""
        try:
            with open(self._fault_file, encoding="utf-8") as file:
                fault, slower = file.read().split("\n")[:2]
        except OSError:
            return self._fault, 1.0
        return fault or self._fault, float(slower)


def _error(message: str):
    return pb_utils.InferenceResponse(
        output_tensors=[], error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
    )
