"""The tenants' own process: sends requests made once, again and again, and does not look into the answers.

``python -m carbonpilot.real.testbed.tenants_process HOST:PORT REPORT SETTINGS``; see `tenants.Tenants`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.errors import MissingExtraError
from ...envs.files import atomic_write_text
from .tenants import TenantSettings

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_OPTIONS = [("grpc.max_reconnect_backoff_ms", 1000), ("grpc.enable_retries", 0)]
_PHASE_S, _HIGH, _LOW = 2.0, 1.8, 0.2  # of bursts, assumed
_FIRST_S, _DRAIN_S, _REPORT_S = 10.0, 3.0, 1.0


def arrivals(settings: TenantSettings) -> Iterator[float]:
    """Times (s, from 0) of requests: Poisson, at one rate or at two that take turns."""
    rng = random.Random(settings.seed)
    now = phase_end = 0.0
    high = False
    while True:
        if settings.bursts and now >= phase_end:
            high, phase_end = not high, now + rng.expovariate(1 / _PHASE_S)
        rate = settings.rate_per_s * ((_HIGH if high else _LOW) if settings.bursts else 1.0)
        then = now + rng.expovariate(rate)
        if settings.bursts and then > phase_end:
            now = phase_end  # without memory: the wait is drawn anew at the new rate
            continue
        now = then
        yield now


class Load:
    """Sends and counts."""

    def __init__(self, channel: Any, request: bytes, settings: TenantSettings) -> None:
        """Nothing sent yet."""
        # Bytes in, bytes out: neither packing nor reading costs anything per request.
        self._call, self._request, self._settings = channel.unary_unary(_METHOD), request, settings
        self._tasks: set[asyncio.Task] = set()
        self.counts: Counter[str] = Counter()
        self._latency_s, self._start_s, self._cpu_s = 0.0, time.monotonic(), time.process_time()

    async def first(self) -> None:
        """Send one request and wait; raises what went wrong."""
        await self._call(self._request, timeout=_FIRST_S, wait_for_ready=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, then wait for what is under way."""
        self._start_s, self._cpu_s = time.monotonic(), time.process_time()
        start_s = self._start_s
        for at_s in arrivals(self._settings):
            wait_s = start_s + at_s - time.monotonic()
            if wait_s > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait_s)
            if stop.is_set():
                break
            if len(self._tasks) >= self._settings.most_waiting:
                self.counts["held_back"] += 1
                continue
            self.counts["sent"] += 1
            task = asyncio.ensure_future(self._one())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DRAIN_S)

    async def _one(self) -> None:
        import grpc

        start_s = time.monotonic()
        try:
            await self._call(self._request)
        except grpc.RpcError:
            self.counts["failed"] += 1
        else:
            self.counts["answered"] += 1
            self._latency_s += time.monotonic() - start_s

    def report(self) -> dict[str, Any]:
        """The counts up to now."""
        seconds = time.monotonic() - self._start_s
        answered = self.counts["answered"]
        return {
            **{key: self.counts[key] for key in ("sent", "answered", "failed", "held_back")},
            "waiting": len(self._tasks),
            "seconds": seconds,
            "latency_mean_ms": 1e3 * self._latency_s / answered if answered else None,
            "cpu_share": (time.process_time() - self._cpu_s) / max(seconds, 1e-9),
            **vars(self._settings),
        }


def request_of(model: str, config: Any) -> bytes:
    """A packed request for one flat grey image of the model's size."""
    from PIL import Image
    from tritonclient.grpc import InferInput, service_pb2

    height, width = (int(config.parameters[f"frame_{side}"].string_value) for side in ("height", "width"))
    grey = np.full((height, width, 3), 96, np.uint8)
    if list(config.input[0].dims) == [1]:
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "JPEG", quality=40)
        tensor, kind = np.array([[file.getvalue()]], dtype=object), "BYTES"
    else:
        tensor, kind = grey[None], "UINT8"
    given = InferInput("IMAGE", list(tensor.shape), kind).set_data_from_numpy(tensor)
    request = service_pb2.ModelInferRequest(model_name=model)  # type: ignore[attr-defined] - made by protobuf
    request.inputs.append(given._get_tensor())
    request.raw_input_contents.append(given._get_content())
    return request.SerializeToString()


async def send(address: str, report: Path, settings: TenantSettings) -> None:
    """Send until SIGTERM."""
    import grpc
    import tritonclient.grpc.aio as triton

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with triton.InferenceServerClient(address) as client:
        answer: Any = await client.get_model_config(settings.model, client_timeout=_FIRST_S)
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        load = Load(channel, request_of(settings.model, answer.config), settings)
        await load.first()
        sender = asyncio.create_task(load.run(stop))
        print("sending", flush=True)
        while not sender.done():
            atomic_write_text(report, json.dumps(load.report()))
            await asyncio.wait([sender], timeout=_REPORT_S)
        await sender
        atomic_write_text(report, json.dumps(load.report()))


def main() -> int:
    """Send until SIGTERM; what goes wrong before the first answer is told in one line."""
    address, report, settings = sys.argv[1:]
    try:
        asyncio.run(send(address, Path(report), TenantSettings(**json.loads(settings))))
    except ImportError:
        print(MissingExtraError("sending load to a server", "device"))
        return 1
    except Exception as error:  # whatever it was: the starter shows this line
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
