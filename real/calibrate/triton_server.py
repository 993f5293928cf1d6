"""What a Triton server says of a model: its configuration, and what each call took it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...envs.errors import InputError, MissingExtraError
from ..executors.triton_channel import TritonChannel
from ..site_file import Server

CALL_S = 5.0  # deadline of each question
MS_PER_NS = 1e-6


@dataclass(frozen=True)
class ModelConfig:
    """The part of a model's configuration that the simulator has a number for.

    Attributes:
        max_batch: largest batch; 1 where the model does not batch.
        queue_delay_ms: of the dynamic batcher; None where there is none.
        instances: copies that serve at the same time.
    """

    max_batch: int
    queue_delay_ms: float | None
    instances: int


@dataclass(frozen=True)
class Counters:
    """Cumulative statistics of a model.

    Attributes:
        calls, total_ms: answered requests and their whole time at the server.
        queue_ms, input_ms, compute_ms, output_ms: the parts of that time.
        batches: size -> (executions, compute time with input and output in ms).
    """

    calls: int
    total_ms: float
    queue_ms: float
    input_ms: float
    compute_ms: float
    output_ms: float
    batches: Mapping[int, tuple[int, float]]

    def since(self, before: Counters) -> Counters:
        """What came between two readings.

        Raises:
            InputError: the server was restarted meanwhile.
        """
        if self.calls < before.calls or self.total_ms < before.total_ms:
            raise InputError("The server or its model was loaded anew during the calibration. Run it again.")
        batches = {}
        for size, (count, ms) in self.batches.items():
            old_count, old_ms = before.batches.get(size, (0, 0.0))
            if count > old_count:
                batches[size] = (count - old_count, ms - old_ms)
        return Counters(
            self.calls - before.calls,
            self.total_ms - before.total_ms,
            self.queue_ms - before.queue_ms,
            self.input_ms - before.input_ms,
            self.compute_ms - before.compute_ms,
            self.output_ms - before.output_ms,
            batches,
        )


class TritonQuestions:
    """Asks one server over a gRPC connection of its own.

    Args:
        server: where it is.
        folder: that its certificates are relative to.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        """Open the connection; nothing is sent yet."""
        self.address = server.grpc
        self._channel = TritonChannel(server, folder)
        try:
            self._channel.open()
        except (ImportError, RuntimeError) as error:  # RuntimeError: tritonclient without its extra grpc
            raise MissingExtraError("Measuring a Triton server", "device") from error

    async def ready(self, model: str) -> bool:
        """A small call: whether a model can be asked.

        Raises:
            InputError: the server does not answer.
        """
        return bool(await self._ask(self._channel.client.is_model_ready(model, client_timeout=CALL_S)))

    async def config(self, model: str, version: str = "") -> ModelConfig:
        """A model's configuration.

        Raises:
            InputError: the server does not answer, or has no such model.
        """
        answer = await self._ask(
            self._channel.client.get_model_config(model, version, as_json=True, client_timeout=CALL_S)
        )
        return parse_config(answer["config"])

    async def counters(self, model: str) -> Counters:
        """A model's statistics, all versions together.

        Raises:
            InputError: the server does not answer, or has no such model.
        """
        answer = await self._ask(
            self._channel.client.get_inference_statistics(model, as_json=True, client_timeout=CALL_S)
        )
        return parse_counters(answer)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._channel.close()

    async def _ask(self, call: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return await call
        except InferenceServerException as error:
            raise InputError(
                f"The Triton server at {self.address} did not answer: {error.message()}. Is it running, with this "
                "model loaded, and is the address under deployment.servers right?"
            ) from error


def parse_config(config: Mapping[str, Any]) -> ModelConfig:
    """Read a configuration as gRPC gives it as JSON (numbers as text, zeros left out)."""
    batcher = config.get("dynamic_batching")
    delay = None if batcher is None else int(batcher.get("max_queue_delay_microseconds", 0)) / 1000
    instances = sum(int(group.get("count", 1)) for group in config.get("instance_group", []))
    return ModelConfig(max(int(config.get("max_batch_size", 0)), 1), delay, max(instances, 1))


def parse_counters(answer: Mapping[str, Any]) -> Counters:
    """Read statistics as gRPC gives them as JSON."""
    sums = {"success": 0.0, "queue": 0.0, "compute_input": 0.0, "compute_infer": 0.0, "compute_output": 0.0}
    calls, batches = 0, dict[int, tuple[int, float]]()
    for model in answer.get("model_stats", []):
        stats = model.get("inference_stats", {})
        calls += int(stats.get("success", {}).get("count", 0))
        for key in sums:
            sums[key] += int(stats.get(key, {}).get("ns", 0)) * MS_PER_NS
        for batch in model.get("batch_stats", []):
            parts = ("compute_input", "compute_infer", "compute_output")
            ms = sum(int(batch.get(part, {}).get("ns", 0)) for part in parts) * MS_PER_NS
            size, count = int(batch["batch_size"]), int(batch.get("compute_infer", {}).get("count", 0))
            old = batches.get(size, (0, 0.0))
            batches[size] = (old[0] + count, old[1] + ms)
    return Counters(
        calls,
        sums["success"],
        sums["queue"],
        sums["compute_input"],
        sums["compute_infer"],
        sums["compute_output"],
        batches,
    )
