"""What `testbed_split.py` runs on the device: heads in one worker, activations over the link, tails on the real Triton.

Reads orders (JSON) as first argument, writes every request's times into the file of the second. Orders: ``server``
(host:port) and ``runs``, each with ``head`` (ONNX file), ``tail`` (Triton model, or null where the head is the whole
model), ``gaps_s`` (between arrivals; for each one a request). All times are this process's own clock.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc as triton

from carbonpilot.real.segments.wire import pack

WARM_UP = 10
END_S = 20.0  # for the last answers


@dataclass
class Request:
    """Times of one request, s; ``sent_s`` stays 0 where nothing is sent."""

    arrived_s: float
    began_s: float = 0.0
    computed_s: float = 0.0
    sent_s: float = 0.0
    done_s: float = 0.0
    failed: str = ""


class Device:
    """One worker that computes heads in the order of arrival, and hands what comes out to the network."""

    def __init__(self, client: triton.InferenceServerClient, head: str, tail: str | None) -> None:
        """Open the head; its answers are ignored, since random weights say nothing."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(head, options, providers=["CPUExecutionProvider"])
        (self._input,) = self._session.get_inputs()
        self._frame = np.random.default_rng(0).integers(0, 256, self._input.shape).astype(np.uint8)
        self._client, self._tail = client, tail
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._left, self._all_done = 0, threading.Event()
        self._lock = threading.Lock()

    def run(self, gaps_s: list[float]) -> list[Request]:
        """Let requests arrive, and wait for all answers."""
        self._left = len(gaps_s)
        self._all_done.clear()
        worker = threading.Thread(target=self._work)
        worker.start()
        requests, due_s = [], time.perf_counter()
        for gap in gaps_s:
            due_s += gap
            time.sleep(max(0.0, due_s - time.perf_counter()))
            requests.append(Request(time.perf_counter()))
            self._waiting.put(requests[-1])
        self._waiting.put(None)
        worker.join()
        self._all_done.wait(END_S)
        return requests

    def _work(self) -> None:
        while (request := self._waiting.get()) is not None:
            request.began_s = time.perf_counter()
            (value,) = self._session.run(None, {self._input.name: self._frame})
            request.computed_s = time.perf_counter()
            if self._tail is None:
                self._answered(request)
            else:
                self._send(request, value)

    def _send(self, request: Request, value: Any) -> None:
        inputs = []
        for name, values in pack(value, "float32"):
            inputs.append(triton.InferInput(name, list(values.shape), "FP32"))
            inputs[-1].set_data_from_numpy(values)

        def answer(result: object, error: Exception | None) -> None:
            request.failed = str(error) if error is not None else ""
            self._answered(request)

        self._client.async_infer(self._tail, inputs, answer)
        request.sent_s = time.perf_counter()

    def _answered(self, request: Request) -> None:
        request.done_s = time.perf_counter()
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._all_done.set()


def counters(client: triton.InferenceServerClient, tail: str | None) -> dict[str, float]:
    """What the server has counted for a model so far."""
    if tail is None:
        return {}
    (found,) = client.get_inference_statistics(tail, as_json=True)["model_stats"]
    stats = found["inference_stats"]
    names = ("queue", "compute_input", "compute_infer", "compute_output")
    return {"count": int(found.get("inference_count", 0))} | {
        name: int(stats.get(name, {}).get("ns", 0)) / 1e6 for name in names
    }


def one_run(client: triton.InferenceServerClient, run: dict[str, Any]) -> dict[str, Any]:
    """Play a run; the server's times are means over its requests, ms."""
    device = Device(client, run["head"], run["tail"])
    device.run([0.05] * WARM_UP)
    before = counters(client, run["tail"])
    requests = device.run(run["gaps_s"])
    after = counters(client, run["tail"])
    count = after.get("count", 0) - before.get("count", 0)
    server = {k: (after[k] - before[k]) / max(count, 1) for k in after if k != "count"}
    return {"requests": [asdict(r) for r in requests], "server_ms": server, "served": count}


def main() -> None:
    """Play all runs in order."""
    orders = json.loads(Path(sys.argv[1]).read_text())
    client = triton.InferenceServerClient(orders["server"])
    results = [one_run(client, run) for run in orders["runs"]]
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
