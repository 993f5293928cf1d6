"""Times of a graph's operations on this machine, by onnxruntime's profile."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...envs.errors import InputError, MissingExtraError
from .costs import Costs
from .graph import Graph

if TYPE_CHECKING:
    import onnx

RUNS, WARM_UP = 15, 3
_KERNEL = "_kernel_time"
_PREFIX = "carbonpilot-operation-"


def measured_costs(
    graph: Graph, threads: int = 1, runs: int = RUNS, report: Callable[[str, int, int], None] | None = None
) -> Costs:
    """Median time of each operation, in ms, scaled so that all together take as long as the model really does.

    The profile is taken with onnxruntime's optimiser off, because fused operations have no counterpart in the file.
    The optimised model is quicker; every operation is taken to gain by the same factor, the ratio of the two medians.

    Args:
        graph: to be run.
        threads: of one operation.
        runs: of each of the two ways.
        report: gets what is done, how much, and of how much.

    Raises:
        InputError: onnxruntime cannot run the model.
        MissingExtraError: it is not installed.
    """
    runtime = _runtime()
    tell = report or (lambda what, done, total: None)
    inputs = {name: _example(graph, name) for name in graph.inputs}
    tell("profile", 0, 2)
    each_ms = _profiled_ms(runtime, graph, inputs, threads, runs)
    tell("whole model", 1, 2)
    whole_ms = _whole_ms(runtime, graph, inputs, threads, runs)
    tell("done", 2, 2)
    factor = whole_ms / float(each_ms.sum())
    note = (
        f"medians of {runs} runs here, {threads} thread{'s' if threads > 1 else ''}: the model takes "
        f"{whole_ms:.2f} ms, {factor:.2f} of what its operations take one by one"
    )
    return Costs("measured", each_ms * factor, note)


def _profiled_ms(
    runtime: Any, graph: Graph, inputs: dict[str, np.ndarray], threads: int, runs: int
) -> np.ndarray:
    """Medians by operation (O,), unoptimised."""
    options = _options(runtime, threads)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="carbonpilot-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(runtime, graph, _numbered(graph), options)
        for _ in range(WARM_UP + runs):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _medians(events, len(graph.operations), runs)


def _medians(events: list[dict[str, Any]], operations: int, runs: int) -> np.ndarray:
    """Medians of the last runs, ms, from a profile whose operations are named by number."""
    seen: list[list[float]] = [[] for _ in range(operations)]
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.startswith(_PREFIX) and name.endswith(_KERNEL):
            seen[int(name[len(_PREFIX) : -len(_KERNEL)])].append(event["dur"] / 1000.0)
    return np.array([float(np.median(times[-runs:])) if times else 0.0 for times in seen])


def _whole_ms(runtime: Any, graph: Graph, inputs: dict[str, np.ndarray], threads: int, runs: int) -> float:
    session = _session(runtime, graph, graph.model, _options(runtime, threads))
    taken = []
    for _ in range(WARM_UP + runs):
        start_s = time.perf_counter()
        session.run(None, inputs)
        taken.append(1000.0 * (time.perf_counter() - start_s))
    return float(np.median(taken[-runs:]))


def _numbered(graph: Graph) -> onnx.ModelProto:
    """The model with a name of ours for each operation; a file's own names may be missing or double."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    numbers = {operation.outputs[0]: number for number, operation in enumerate(graph.operations)}
    for node in model.graph.node:
        number = next((numbers[name] for name in node.output if name in numbers), None)
        node.name = f"other-{node.output[0]}" if number is None else f"{_PREFIX}{number}"
    return model


def _example(graph: Graph, name: str) -> np.ndarray:
    tensor = graph.tensors[name]
    rng = np.random.default_rng(0)
    values = rng.random(tensor.shape)
    return (256 * values).astype(np.uint8) if tensor.dtype == "uint8" else values.astype(tensor.dtype)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as err:
        raise MissingExtraError("Measuring operations (--costs measured)", "models") from err
    return onnxruntime


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return options


def _session(runtime: Any, graph: Graph, model: onnx.ModelProto, options: Any) -> Any:
    try:
        return runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as err:  # onnxruntime's exceptions have no common base
        raise InputError(
            f"onnxruntime {runtime.__version__} cannot run {graph.path}: {str(err).strip().splitlines()[0][:300]}. "
            "Measure where its operators are, or take --costs macs."
        ) from err
