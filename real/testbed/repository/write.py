"""Writes a model repository that Triton serves: a folder for each model with its configuration and its code."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from ....envs.errors import InputError
from ....envs.files import atomic_directory, atomic_write_text
from .images import CLASSES, SCALE
from .settings import Fault, Form, ModelSet, ServedModel

_HERE = Path(__file__).parent
_CODE = {"stand-in": "model_stand_in.py", "onnx": "model_onnx.py"}
_BESIDE = ("images.py", "timing.py")
_NOTES = {
    "stand-in": "stand-in: takes a model's time and computes no segmentation",
    "onnx": "a real graph; the card in its file says of which weights",
}

# No queue policy: with any, the server's batcher wakes up every 500 ms only (docs/testbed.md).
_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {max_batch}
input [{{ name: "IMAGE" data_type: {input_type} dims: {input_dims} }}]
output [{{ name: "MASK" data_type: TYPE_UINT8 dims: {output_dims} }}]
dynamic_batching {{ max_queue_delay_microseconds: {queue_delay_us} }}
instance_group [{{ count: 1 kind: KIND_CPU }}]
{parameters}
"""


@dataclass(frozen=True)
class Repository:
    """A written model repository.

    Attributes:
        folder: what Triton is given.
        models: what is in it.
        faults: file with which running stand-ins are told to fail.
    """

    folder: Path
    models: ModelSet
    faults: Path

    def fault(self, kind: Fault = "", slower: float = 1.0) -> None:
        """From the next batch on all stand-ins do this wrong, or are that many times slower.

        Without arguments they are well again.
        """
        if not slower > 0:
            raise InputError(f"slower must be above 0, got {slower}")
        if not kind and slower == 1.0:
            self.faults.unlink(missing_ok=True)
        else:
            atomic_write_text(self.faults, f"{kind}\n{slower}\n")


def write_repository(folder: Path, models: ModelSet) -> Repository:
    """Write the repository anew.

    Args:
        folder: gets ``models/`` (replaced where it is there) and the files by which models are steered.
        models: what to serve.

    Raises:
        InputError: a graph's file is missing, or the folder cannot be written.
    """
    for model in models.models:
        if model.onnx is not None and not Path(model.onnx).is_file():
            raise InputError(
                f"There is no file {model.onnx}. Make it with `carbonpilot models export`, or leave the graph out."
            )
    repository = Repository(folder / "models", models, folder / "faults")
    shutil.rmtree(repository.folder, ignore_errors=True)
    repository.fault()
    with atomic_directory(repository.folder) as fresh:
        for model in models.models:
            for form in model.forms:
                _write_model(fresh / f"{model.name}-{form}", model, form, repository)
    return repository


def _write_model(folder: Path, model: ServedModel, form: Form, repository: Repository) -> None:
    code = folder / "1"
    code.mkdir(parents=True)
    shutil.copy(_HERE / _CODE[model.kind], code / "model.py")
    for name in _BESIDE:
        shutil.copy(_HERE / name, code / name)
    (folder / "config.pbtxt").write_text(_configuration(folder.name, model, form, repository))


def _configuration(name: str, model: ServedModel, form: Form, repository: Repository) -> str:
    size = [model.frame_height, model.frame_width]
    return _CONFIG.format(
        name=name,
        max_batch=model.max_batch,
        input_type="TYPE_STRING" if form == "jpeg" else "TYPE_UINT8",
        input_dims=[1] if form == "jpeg" else [*size, 3],
        output_dims=[side // SCALE for side in size],
        queue_delay_us=round(1000 * model.queue_delay_ms),
        parameters="\n".join(
            f"parameters {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(str(value))} }} }}"
            for key, value in _parameters(model, repository).items()
        ),
    )


def _parameters(model: ServedModel, repository: Repository) -> dict[str, object]:
    """What a client may check before its first frame, and what the model's code needs."""
    described = {
        "frame_height": model.frame_height,
        "frame_width": model.frame_width,
        "classes": CLASSES,
        "accuracy_note": _NOTES[model.kind],
    }
    lock = repository.folder.parent / "accelerator" if repository.models.shared_accelerator else ""
    if model.kind == "onnx":
        return described | {"onnx": model.onnx, "threads": model.threads, "accelerator_lock": lock}
    return described | {
        "service_ms": model.service_ms,
        "service_p95_ms": model.service_p95_ms or model.service_ms,
        "marginal_service_share": model.marginal_service_share,
        "fault": model.fault,
        "fault_file": repository.faults,
        "accelerator_lock": lock,
        "seed": repository.models.seed,
    }
