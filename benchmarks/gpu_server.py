"""What SegFormer costs on a server's GPU: milliseconds and joules an image by batch size, by the energy counter.

Needs a CUDA GPU, torch, transformers and nvidia-ml-py; run by hand (`make bench` has no GPU):

    python benchmarks/gpu_server.py --json gpu.json

Weights are random: time and energy depend on the graph, not on what it was taught. Each batch size runs for some
seconds after a stretch of idling; joules are the counter's difference less the idle power of that GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise, product

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from carbonpilot.real.meters.nvml import Nvml
from carbonpilot.real.meters.sampler import SamplerThread
from carbonpilot.real.meters.windows import WindowEnergy, WindowIntegrator

CONFIGS = {
    "segformer-b0": {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256], "decoder_hidden_size": 256},
    "segformer-b4": {
        "depths": [3, 8, 27, 3],
        "hidden_sizes": [64, 128, 320, 512],
        "decoder_hidden_size": 768,
    },
}
SIZES = ((512, 1024), (256, 512))
BATCHES = (1, 2, 4, 8)
WARM_UP, SECONDS, IDLE_S, RATE_HZ = 20, 2.5, 1.5, 20.0


def build(name: str, dtype: torch.dtype) -> torch.nn.Module:
    """The model with 19 classes and random weights, in channels-last memory."""
    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=19, **CONFIGS[name]))
    return model.eval().to("cuda", dtype)


def replayed(model: torch.nn.Module, images: torch.Tensor) -> torch.cuda.CUDAGraph:
    """The model's kernels as one graph, as a compiled engine would launch them, not one by one from Python."""
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(images).logits.argmax(1)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(images).logits.argmax(1)
    return graph


def run_for(graph: torch.cuda.CUDAGraph, seconds: float) -> tuple[float, float, list[float]]:
    """Replay for some time: start, end (monotonic s), and each replay's ms."""
    took = []
    start_s = time.monotonic()
    while time.monotonic() - start_s < seconds:
        begun = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        took.append(1000 * (time.perf_counter() - begun))
    return start_s, time.monotonic(), took


def measure(meter: Nvml) -> list[dict]:
    """One row for each model, size, precision and batch."""
    sampler = SamplerThread(meter, RATE_HZ).start()
    integrator = WindowIntegrator(meter.name, max_gap_s=1.0)
    time.sleep(IDLE_S)
    rows = []
    for name, dtype in product(CONFIGS, (torch.float16, torch.float32)):
        model = build(name, dtype)
        for (height, width), batch in product(SIZES, BATCHES):
            graph = replayed(model, torch.rand(batch, 3, height, width, device="cuda", dtype=dtype))
            for _ in range(WARM_UP):
                graph.replay()
            torch.cuda.synchronize()
            idle_from_s = time.monotonic() + 1.0  # clocks fall first
            time.sleep(1.0 + IDLE_S)
            idle_until_s = time.monotonic()
            start_s, end_s, took = run_for(graph, SECONDS)
            time.sleep(0.3)
            sampler.take_into(integrator)
            integrator.measure_idle(idle_from_s, idle_until_s)
            what = {"model": name, "precision": str(dtype), "height": height, "width": width, "batch": batch}
            rows.append({**what, **figures(took, batch, integrator.account(start_s, end_s))})
            print(json.dumps(rows[-1]), flush=True)
    sampler.stop()
    return rows


def figures(took: list[float], batch: int, window: WindowEnergy) -> dict[str, float]:
    """Times (ms) and energies (J an image, W) of one row."""
    images, seconds = len(took) * batch, window.end_s - window.start_s
    return {
        "service_p50_ms": statistics.median(took),
        "service_p95_ms": statistics.quantiles(took, n=20)[-1],
        "images_per_s": images / seconds,
        "gross_j_per_image": window.gross_j / images,
        "net_j_per_image": window.net_j / images,
        "idle_w": (window.gross_j - window.net_j) / seconds,
        "mean_w": window.mean_w,
    }


def counter_steps(meter: Nvml, seconds: float = 4.0) -> dict:
    """How often the counter moves, and by how much, when it is asked as fast as it answers."""
    changes, asked, last = [], 0, None
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        sample = meter.sample()
        asked += 1
        if last is None or sample.energy_j != last:
            changes.append(sample.time_s)
            last = sample.energy_j
    gaps = [b - a for a, b in pairwise(changes)]
    return {
        "asked_per_s": asked / seconds,
        "counter_moves_per_s": len(gaps) / seconds,
        "median_gap_ms": 1000 * statistics.median(gaps) if gaps else None,
    }


def main() -> None:
    """Measure, print, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    given = parser.parse_args()
    meter = Nvml()
    about = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "counts_energy": meter.counts_energy,
    }
    about["counter"] = counter_steps(meter)
    print(json.dumps(about), flush=True)
    about["rows"] = measure(meter)
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)


if __name__ == "__main__":
    main()
