"""Commands about the models that are executed: what they are exported from and to."""

from __future__ import annotations

import enum
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from ..envs.errors import InputError, MissingExtraError

_SHARED = ("torch", "onnx", "onnxruntime", "onnxscript")
PACKAGES = {"models": (*_SHARED, "transformers"), "zoo": (*_SHARED, "timm")}  # of the extras
FRAME = (256, 512)  # height and width for SegFormer

models_app = typer.Typer(no_args_is_help=True)


class ModelName(str, enum.Enum):
    """SegFormer in the sizes that Khan et al. use, and the classifiers of CarbonEdge."""

    b0 = "b0"
    b4 = "b4"
    mobilenetv2 = "mobilenetv2"
    mobilenetv4 = "mobilenetv4"
    efficientnet_b0 = "efficientnet-b0"


class Precision(str, enum.Enum):
    """Type of the weights and of what is computed with them."""

    fp32 = "fp32"
    fp16 = "fp16"


@models_app.callback()
def root() -> None:
    """Models that devices and servers execute."""


@models_app.command()
def export(
    model: Annotated[ModelName, typer.Option(help="SegFormer b0 or b4, or a classifier.")],
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="File to write.")],
    height: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Of the frames; a multiple of 32 (default: 256, classifiers 224)."
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Of the frames; a multiple of 32 (default: 512, classifiers 224)."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_PATH",
            help="SegFormer: at Hugging Face, or a folder with config.json and model.safetensors (default: nvidia's "
            "Cityscapes weights of that size at Hugging Face). Classifiers: file of a state dictionary of timm's.",
        ),
    ] = None,
    random: Annotated[
        int | None, typer.Option(min=0, metavar="SEED", help="Random weights, for tests and timing.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="fp16 is for GPUs, and SegFormer.")] = Precision.fp32,
    dynamic_batch: Annotated[
        bool,
        typer.Option("--dynamic-batch", help="For servers that batch; TensorRT likes a fixed batch of 1."),
    ] = False,
) -> None:
    """Write a model as an ONNX file: RGB bytes in, a class for each pixel or scores for the picture out.

    SegFormer's mask has a quarter of the frame's height and width.

    Example: carbonpilot models export --model b0 --height 512 --width 1024 --out segformer-b0.onnx
    """
    segmenting = model in (ModelName.b0, ModelName.b4)
    extra = "models" if segmenting else "zoo"
    if any(importlib.util.find_spec(name) is None for name in PACKAGES[extra]):
        raise MissingExtraError(f"carbonpilot models export --model {model.value}", extra)
    if segmenting:
        size = (FRAME[0] if height is None else height, FRAME[1] if width is None else width)
        _segformer(model.value, out, size, weights, random, precision, dynamic_batch)
        return
    if precision is not Precision.fp32:
        raise InputError(f"--precision {precision.value}: {model.value} is written in fp32 only.")
    if None not in (height, width) and height != width:
        raise InputError(f"--height {height} --width {width}: {model.value} takes square pictures.")
    _classifier(model.value, out, width if height is None else height, weights, random, dynamic_batch)


def _segformer(
    model: str,
    out: Path,
    size: tuple[int, int],
    weights: str | None,
    seed: int | None,
    precision: Precision,
    dynamic_batch: bool,
) -> None:
    from .segformer.export import export_segformer

    done = export_segformer(
        model,
        out,
        height=size[0],
        width=size[1],
        weights=weights,
        random_seed=seed,
        precision=precision.value,
        dynamic_batch=dynamic_batch,
    )
    miou = (
        "no mIoU is published for these weights"
        if done.card.miou_pct is None
        else f"{done.card.miou_pct} mIoU"
    )
    typer.echo(f"against torch: {done.agreement}")
    typer.echo(f"wrote {done.path} ({done.size_bytes / 1e6:.1f} MB; {done.card.weights}; {miou})")


def _classifier(
    model: str, out: Path, side: int | None, weights: str | None, seed: int | None, dynamic_batch: bool
) -> None:
    from .zoo.export import export_classifier

    done = export_classifier(
        model, out, side=side, weights=weights, random_seed=seed, dynamic_batch=dynamic_batch
    )
    typer.echo(
        f"against torch: largest difference of a score {done.max_difference:.2g} (their standard deviation is "
        f"{done.deviation:.2g})"
    )
    typer.echo(
        f"wrote {done.path} ({done.size_bytes / 1e6:.1f} MB; {done.card.architecture}; {done.card.weights})"
    )
