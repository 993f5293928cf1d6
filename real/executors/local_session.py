"""A session of onnxruntime with the provider that was asked for, and none other in its place."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.errors import InputError
from ...envs.files import writing
from ...envs.model_card import INPUT, METADATA_KEY, OUTPUT, read_model_card
from ..interfaces import Image

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# Runs before the first frame: a GPU needs some until clocks and memory have settled, a CPU one to allocate.
WARM_UP_RUNS = {"tensorrt": 20, "cuda": 20, "cpu": 2}
QUIET = 3  # errors only: what matters of the rest is told by us

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """An opened and warm model.

    Attributes:
        run: `INPUT` (1, height, width, 3) -> the one output that was asked for.
        provider: of onnxruntime, that computes, with its share of the time where it is not alone.
        metadata: of the file.
    """

    run: Callable[[Image], Any]
    provider: str
    metadata: dict[str, str]


def open_session(
    file: Path,
    wanted: Sequence[str],
    *,
    threads: int,
    engine_cache: Path | None,
    check: Callable[[list[Any], list[Any]], None],
    output: str = OUTPUT,
) -> Session:
    """Open a model with the first of the wanted providers that this machine has, and warm it up.

    Args:
        file: ONNX file.
        wanted: of `PROVIDERS`, in the order of preference. The CPU stands in for a GPU only where it is listed.
        threads: of one operation on the CPU.
        engine_cache: folder for TensorRT's engines.
        check: gets the model's inputs and outputs, and raises what is wrong with them.
        output: that a run gives.

    Raises:
        InputError: not a model, none of the providers is there, or another one would compute.
    """
    import onnxruntime

    here = onnxruntime.get_available_providers()
    usable = [name for name in wanted if PROVIDERS[name] in here]
    if not usable:
        raise InputError(_not_here(wanted, here))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = QUIET
    # Threads that wait in a loop for the next frame would cost the energy that is to be saved.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    on_gpu = usable[0] != "cpu"
    with tempfile.TemporaryDirectory(prefix="carbonpilot-") as folder:
        if on_gpu:  # which provider computes what is in the profile only
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = _session(file, options, [_provider(name, file, engine_cache) for name in usable])
        check(session.get_inputs(), session.get_outputs())

        def run(image: Image) -> Any:
            return session.run([output], {INPUT: image})[0]

        shape = session.get_inputs()[0].shape[1:]
        for _ in range(WARM_UP_RUNS[usable[0]]):
            run(np.zeros((1, *shape), np.uint8))
        provider = PROVIDERS["cpu"]
        if on_gpu:
            shares = time_shares(Path(session.end_profiling()).read_text())
            provider = _who_computes(shares, wanted)
    if provider != PROVIDERS[wanted[0]]:
        log.warning("%s computes on %s, not on %s", file.name, provider, PROVIDERS[wanted[0]])
    return Session(run, provider, _metadata(session))


def time_shares(profile: str) -> dict[str, float]:
    """Share of a profile's time of operations by provider; from the JSON that onnxruntime writes."""
    spent: Counter[str] = Counter()
    for event in json.loads(profile):
        provider = event.get("args", {}).get("provider")
        if event.get("cat") == "Node" and provider:
            spent[provider] += event["dur"]
    total = sum(spent.values())
    return {provider: time / total for provider, time in spent.most_common()} if total else {}


def _who_computes(shares: dict[str, float], wanted: Sequence[str]) -> str:
    """The provider with most of the time.

    Raises:
        InputError: it is one that was not asked for.
    """
    provider = next(iter(shares), PROVIDERS["cpu"])
    if provider not in [PROVIDERS[name] for name in wanted]:
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items()) or "no profile was written"
        raise InputError(
            f"The model would compute on {provider} although the site file asks for {list(wanted)} (time by "
            f"provider: {told}). Likely cause: the GPU's libraries are missing or of another version than "
            "onnxruntime was built for; mend them, or add 'cpu' to deployment.local.providers."
        )
    return provider


def _session(file: Path, options: Any, providers: list[Any]) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as err:  # onnxruntime's exceptions have no common base
        raise InputError(
            f"onnxruntime {onnxruntime.__version__} cannot open {file}: {str(err).strip().splitlines()[0][:300]}. "
            "Likely cause: not an ONNX file, or one of a newer opset than this onnxruntime knows."
        ) from err


def _provider(name: str, file: Path, engine_cache: Path | None) -> Any:
    """The provider as onnxruntime wants it, with its options."""
    if name != "tensorrt":
        return PROVIDERS[name]
    if engine_cache is None:
        raise InputError(
            "deployment.local.providers has tensorrt: give deployment.local.engine_cache, a folder for its engines; "
            "without one each start would build them anew, for minutes."
        )
    with writing(engine_cache):
        engine_cache.mkdir(parents=True, exist_ok=True)
    # Names of options: onnxruntime's documentation of its TensorRT execution provider.
    return PROVIDERS[name], {
        "trt_fp16_enable": _is_fp16(file),
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(engine_cache),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(engine_cache),
    }


def _is_fp16(file: Path) -> bool:
    """Whether the file was exported for half precision, the only case in which TensorRT may use it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    text = _metadata(_session(file, options, [PROVIDERS["cpu"]])).get(METADATA_KEY)
    return text is not None and read_model_card(text, str(file)).precision == "fp16"


def _metadata(session: Any) -> dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)


def _not_here(wanted: Sequence[str], here: list[str]) -> str:
    names = {provider: name for name, provider in PROVIDERS.items()}
    have = [names[provider] for provider in here if provider in names]
    return (
        f"None of the providers {list(wanted)} (deployment.local.providers) is in this onnxruntime, which has {have}. "
        "For the GPU of a Jetson install NVIDIA's onnxruntime-gpu for its JetPack, on x86-64 onnxruntime-gpu; "
        "or put 'cpu' into the site file and calibrate again."
    )
