"""Times of a graph's operations on this machine, by onnxruntime's profile."""

from __future__ import annotations

import json
import re
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
_PREFIX = "carbonpilot-"
_NUMBER = re.compile(rf"{_PREFIX}(\d+)-")


def measured_costs(
    graph: Graph, threads: int = 1, runs: int = RUNS, report: Callable[[str, int, int], None] | None = None
) -> Costs:
    """Median time of each operation, in ms, scaled so that all together take as long as the model really does.

    onnxruntime's optimiser is on, because layers gain by it very differently (without it depthwise convolutions take
    several times as long). It names what it makes of an operation after that operation or its result, so with names of
    ours the profile can be led back to the file. An operation that was fused into another takes no time of its own;
    steps that belong to none (changes of memory layout) are spread over all in proportion.

    Args:
        graph: to be run.
        threads: of one operation.
        runs: with a profile, and as many without.
        report: gets what is being done, how many runs are done, and of how many.

    Raises:
        InputError: onnxruntime cannot run the model.
        MissingExtraError: it is not installed.
    """
    runtime = _runtime()
    tell = report or (lambda what, done, total: None)
    each_ms, whole_ms = _run(runtime, graph, threads, runs, tell)
    factor = whole_ms / float(each_ms.sum())
    note = (
        f"medians of {runs} runs here, {threads} thread{'s' if threads > 1 else ''}: the model takes "
        f"{whole_ms:.2f} ms, {factor:.2f} of the sum of its operations"
    )
    return Costs("measured", each_ms * factor, note)


def _run(
    runtime: Any, graph: Graph, threads: int, runs: int, tell: Callable[[str, int, int], None]
) -> tuple[np.ndarray, float]:
    """Medians by operation (O,), and of the model without a profile; in turns, so that both see the same machine.

    One thread computes in the caller's, whose processor time does not count what others take away meanwhile, as they
    often do during a whole run and seldom during an operation.
    """
    clock_s = time.thread_time if threads == 1 else time.perf_counter
    inputs = {name: _example(graph, name) for name in graph.inputs}
    plain = _session(runtime, graph, graph.model, _options(runtime, threads))
    options = _options(runtime, threads)
    options.enable_profiling = True
    taken = []
    with tempfile.TemporaryDirectory(prefix="carbonpilot-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        profiled = _session(runtime, graph, _numbered(graph), options)
        for number in range(WARM_UP + runs):
            tell("runs", number, WARM_UP + runs)
            profiled.run(None, inputs)
            start_s = clock_s()
            plain.run(None, inputs)
            taken.append(1000.0 * (clock_s() - start_s))
        events = json.loads(Path(profiled.end_profiling()).read_text())
    return _medians(graph, events, runs), float(np.median(taken[-runs:]))


def _medians(graph: Graph, events: list[dict[str, Any]], runs: int) -> np.ndarray:
    """Medians of the last runs by operation (O,), ms, from the profile of a numbered model."""
    writers = {name: number for number, o in enumerate(graph.operations) for name in o.outputs}
    seen: dict[tuple[int, str], list[float]] = {}
    for event in events:
        name = event.get("name", "")
        told = _NUMBER.search(name)
        if event.get("cat") == "Node" and name.endswith(_KERNEL) and told is not None:
            number = _first_of_fused(graph, writers, int(told.group(1)), event["args"].get("op_name", ""))
            seen.setdefault((number, name), []).append(event["dur"] / 1000.0)
    each = np.zeros(len(graph.operations))
    for (number, _), times in seen.items():
        each[number] += float(np.median(times[-runs:]))
    return each


def _first_of_fused(graph: Graph, writers: dict[str, int], number: int, kind: str) -> int:
    """A convolution that its activation was fused into is called after the activation's result: the way back to it."""
    at = number
    while graph.operations[at].kind != kind:
        inputs = graph.operations[at].inputs
        if len(inputs) != 1 or inputs[0] not in writers:
            return number
        at = writers[inputs[0]]
    return at


def _numbered(graph: Graph) -> onnx.ModelProto:
    """The model with names of ours for each operation and its results, which hold its number."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.value_info[:]
    numbers = {operation.outputs[0]: number for number, operation in enumerate(graph.operations)}
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        number = next((numbers[name] for name in node.output if name in numbers), None)
        if number is None:
            node.name = f"other-{node.output[0]}"
            continue
        node.name = f"{_PREFIX}{number}-"
        for place, name in enumerate(node.output):
            if name and name not in graph.outputs:
                renamed[name] = f"{_PREFIX}{number}-{place}"
    _rename(model.graph, renamed)
    return model


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Give values their new names, also where branches and loops read them."""
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = renamed.get(name, name)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(inner, renamed)


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
