"""Triton's counters, read from its metrics page (Prometheus text) or its statistics extension (JSON)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...envs.errors import InputError, MissingExtraError, nearest
from ...envs.units import MS_PER_S, full_batch_rate
from .failure import ProbeFailure

# Metric -> counter below. Versions of a model, and reasons of failure, are added up.
_METRICS = {
    "nv_inference_request_success": "success",
    "nv_inference_request_failure": "failure",
    "nv_inference_count": "images",
    "nv_inference_exec_count": "batches",
    "nv_inference_queue_duration_us": "queue_us",
    "nv_inference_compute_infer_duration_us": "compute_us",
    "nv_inference_pending_request_count": "pending",
}
_GPU = ("nv_gpu_utilization", "nv_gpu_power_usage", "nv_energy_consumption")  # never on Jetson or without GPU
_WANTED = (*_METRICS, *_GPU)


@dataclass(frozen=True)
class ModelCounters:
    """Counters of one model since the server (or the model) was loaded; None where the source has none.

    Attributes:
        success, failure: requests answered and failed. Requests refused by a full queue are in neither.
        images: inferences; a request with a batch of its own counts several.
        batches: executions.
        queue_us: time that requests waited, all together.
        compute_us: computing, once for each *request* of a batch.
        pending: requests waiting now.
    """

    success: float
    failure: float | None = None
    images: float | None = None
    batches: float | None = None
    queue_us: float | None = None
    compute_us: float | None = None
    pending: float | None = None


@dataclass(frozen=True)
class ServerCounters:
    """One reading of a server; GPU figures are None where it has none."""

    models: Mapping[str, ModelCounters]
    gpu_utilisation: float | None = None  # mean over its GPUs, 0 to 1
    gpu_power_w: float | None = None  # sum
    gpu_energy_j: float | None = None  # sum, since the server started


def parse_metrics(text: str) -> ServerCounters:
    """Read a metrics page. Only the lines wanted are parsed: the rest of a busy server's page is long.

    Raises:
        ProbeFailure: it is not a metrics page of Triton.
    """
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError as error:
        raise MissingExtraError("reading Triton's metrics", "device") from error
    wanted = "".join(line + "\n" for line in text.splitlines() if line.startswith(_WANTED))
    models: dict[str, dict[str, float]] = {}
    gpus: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families(wanted):
            for sample in family.samples:
                if sample.name in _GPU:
                    gpus.setdefault(sample.name, []).append(_counted(sample.value, sample.name))
                elif sample.name in _METRICS:
                    counters, key = models.setdefault(sample.labels["model"], {}), _METRICS[sample.name]
                    counters[key] = counters.get(key, 0.0) + _counted(sample.value, sample.name)
    except (ValueError, KeyError, IndexError) as error:
        raise ProbeFailure(f"not a metrics page of Triton: {error!r}") from error
    if not models and not gpus:
        raise ProbeFailure(
            "no metric of Triton on this page (nv_inference_...): is this its metrics port (8002), "
            "and is a model loaded?"
        )
    use, power, energy = (gpus.get(name) for name in _GPU)
    return ServerCounters(
        {name: _model(name, c) for name, c in models.items()},
        gpu_utilisation=sum(use) / len(use) if use else None,
        gpu_power_w=sum(power) if power else None,
        gpu_energy_j=sum(energy) if energy else None,
    )


def parse_statistics(answer: Any) -> ServerCounters:
    """Read the statistics extension, over HTTP or gRPC's ``as_json`` (numbers as strings, zeros left out).

    Raises:
        ProbeFailure: it has another form.
    """
    models: dict[str, dict[str, float]] = {}
    try:
        for entry in answer["model_stats"]:
            stats = entry.get("inference_stats", {})

            def part(name: str, field: str, stats: Mapping = stats) -> int:
                return int(stats.get(name, {}).get(field, 0))

            read = {
                "success": part("success", "count"),
                "failure": part("fail", "count"),
                "images": int(entry.get("inference_count", 0)),
                "batches": int(entry.get("execution_count", 0)),
                "queue_us": part("queue", "ns") / 1000,
                "compute_us": part("compute_infer", "ns") / 1000,
            }
            sums = models.setdefault(entry["name"], {})
            for key, value in read.items():
                sums[key] = sums.get(key, 0.0) + _counted(value, key)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProbeFailure(f"not an answer of Triton's statistics extension: {error!r}") from error
    return ServerCounters({name: _model(name, c) for name, c in models.items()})


def model_counters(counters: ServerCounters, model: str) -> ModelCounters:
    """The counters of a model.

    Raises:
        ProbeFailure: the server does not have it (not loaded, or not yet).
    """
    if model not in counters.models:
        known = sorted(counters.models)
        raise ProbeFailure(
            f"the server reports no model '{model}'.{nearest(model, known)} Reported: {', '.join(known) or 'none'}."
        )
    return counters.models[model]


def restarted(before: ModelCounters, now: ModelCounters) -> bool:
    """Whether a counter fell: the server or the model was loaded anew, and differences mean nothing."""
    for field in fields(ModelCounters):
        old, new = getattr(before, field.name), getattr(now, field.name)
        if field.name != "pending" and old is not None and new is not None and new < old:
            return True
    return False


def _model(name: str, counters: dict[str, float]) -> ModelCounters:
    if "success" not in counters:
        raise ProbeFailure(f"the page lacks nv_inference_request_success of '{name}', so its load is unknown")
    return ModelCounters(**counters)


def _counted(value: float, name: str) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} is {value}")
    return float(value)


def capacity_per_s(
    service_ms: float, parallelism: int = 1, max_batch: int = 1, marginal_service_share: float = 0.0
) -> float:
    """Images a second that a node can serve at most, in full batches, as the simulator counts its capacity.

    Args:
        service_ms: one image alone.
        parallelism: instances that serve at the same time.
        max_batch: largest batch; 1 without batching.
        marginal_service_share: a batch of b takes service_ms (1 + this (b - 1)).
    """
    if not (service_ms > 0 and parallelism >= 1 and max_batch >= 1 and 0 <= marginal_service_share <= 1):
        raise InputError(
            "a capacity needs service_ms > 0, parallelism >= 1, max_batch >= 1 and 0 <= marginal_service_share <= 1, "
            f"got {service_ms}, {parallelism}, {max_batch}, {marginal_service_share}"
        )
    return MS_PER_S * full_batch_rate(service_ms, parallelism, max_batch, marginal_service_share)
