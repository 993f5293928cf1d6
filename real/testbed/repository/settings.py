"""What a server of the test bed serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ....envs.errors import unknown_name
from ....envs.schema_base import Fraction, NonNegative, Positive, Strict
from ....envs.strict_yaml import read_yaml
from ....envs.validation import validated

Fault = Literal["", "wrong-shape", "wrong-type", "wrong-class", "model-error"]
Form = Literal["jpeg", "uint8"]
_Side = Annotated[int, Field(ge=32, le=8192, multiple_of=32)]

# Marginal share and service times of the scenario metro (configs/scenarios/metro.yaml).
_SHARE = 0.15
_B0 = {"service_ms": 18.0, "service_p95_ms": 21.0}
_B4 = {"service_ms": 56.0, "service_p95_ms": 65.0}


class ServedModel(Strict):
    """A model and both forms in which it takes images; it is served once for each form, as NAME-FORM.

    Attributes:
        name: without the form.
        kind: stand-in, or a real graph in onnxruntime.
        forms: how images come, a JPEG file or raw pixels.
        frame_height, frame_width: size of the images in pixels; the mask has a quarter of each.
        service_ms: stand-in only: median time of an image alone.
        service_p95_ms: stand-in only: its 95 % quantile (lognormal); equal to service_ms for no spread.
        marginal_service_share: stand-in only: what each further image of a batch adds, as a share of service_ms.
        fault: what it always does wrong.
        onnx: kind onnx: path of the graph; images (N, H, W, 3) uint8 or as `model_onnx.py` says.
        threads: kind onnx: threads of onnxruntime.
        max_batch: of Triton's dynamic batching.
        queue_delay_ms: of the same. 0 sends all that waits as the next batch; with any delay the first request that
            comes during a batch rides alone, and waits double (docs/testbed.md).
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    kind: Literal["stand-in", "onnx"] = "stand-in"
    forms: Annotated[list[Form], Field(min_length=1)] = Field(default=["jpeg", "uint8"])
    frame_height: _Side = 256
    frame_width: _Side = 512
    service_ms: Positive | None = None
    service_p95_ms: Positive | None = None
    marginal_service_share: Fraction = _SHARE
    fault: Fault = ""
    onnx: str | None = None
    threads: Annotated[int, Field(ge=1)] = 1
    max_batch: Annotated[int, Field(ge=1, le=64)] = 8
    queue_delay_ms: NonNegative = 0.0

    @model_validator(mode="after")
    def _complete(self) -> ServedModel:
        if (self.kind == "stand-in") != (self.service_ms is not None):
            raise ValueError("a stand-in needs service_ms, a real graph has its own")
        if (self.kind == "onnx") != (self.onnx is not None):
            raise ValueError("kind onnx needs the path of the graph as onnx, a stand-in has none")
        if self.service_p95_ms is not None and self.service_p95_ms < (self.service_ms or 0.0):
            raise ValueError("service_p95_ms must not be below service_ms")
        return self

    @property
    def served_names(self) -> tuple[str, ...]:
        """Names on the server."""
        return tuple(f"{self.name}-{form}" for form in self.forms)


class ModelSet(Strict):
    """All models of a server.

    Attributes:
        models: each with its own name.
        shared_accelerator: batches of different models take turns, as on one accelerator; otherwise each model has
            one of its own.
        seed: of the service times' spread.
    """

    models: Annotated[list[ServedModel], Field(min_length=1)]
    shared_accelerator: bool = True
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _names(self) -> ModelSet:
        names = [name for model in self.models for name in model.served_names]
        if len(set(names)) != len(names):
            raise ValueError(f"two models have the same name: {names}")
        return self

    def model(self, served: str) -> ServedModel:
        """The model behind a name on the server.

        Raises:
            InputError: there is none; names the nearest.
        """
        known = {name: model for model in self.models for name in model.served_names}
        if served not in known:
            raise unknown_name("model", served, known)
        return known[served]

    def with_graphs(self, **graphs: str | Path | None) -> ModelSet:
        """Add real graphs: ``b0=FILE`` becomes ``segformer-b0-onnx``."""
        real = [
            ServedModel(name=f"segformer-{size}-onnx", kind="onnx", onnx=str(Path(file).resolve()))
            for size, file in graphs.items()
            if file is not None
        ]
        return self.model_copy(update={"models": self.models + real})


def _pair(b0: dict[str, float], b4: dict[str, float]) -> ModelSet:
    wrong = ServedModel(name="wrong-shape", fault="wrong-shape", **b0)  # type: ignore[arg-type]
    pair = {"segformer-b0": b0, "segformer-b4": b4}
    models: list[Any] = [ServedModel(name=name, **times) for name, times in pair.items()]  # type: ignore[arg-type]
    return ModelSet(models=[*models, wrong])


MODEL_SETS = {
    "stand-in": _pair(_B0, _B4),
    # Without spread and quick, for tests; a batch of eight takes 2.05 times as long as an image alone.
    "fast": _pair({"service_ms": 4.0}, {"service_ms": 12.0}),
}


def model_set(text: str) -> ModelSet:
    """What ``--model-set`` takes: a name above, or the path of a YAML file with the same keys.

    Raises:
        InputError: neither; names the nearest.
        ScenarioError: the file is broken; names dotted path and rule.
    """
    if text in MODEL_SETS:
        return MODEL_SETS[text]
    if not Path(text).suffix:
        raise unknown_name("model set", text, MODEL_SETS)
    content = read_yaml(Path(text))
    models = validated(ModelSet, content, text)
    folder = Path(text).resolve().parent
    resolved = [m.model_copy(update={"onnx": str(folder / m.onnx)}) if m.onnx else m for m in models.models]
    return models.model_copy(update={"models": resolved})
