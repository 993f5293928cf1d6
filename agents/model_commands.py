"""Commands about the models that are executed: what they are exported from and to."""

from __future__ import annotations

import enum
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from ..envs.errors import MissingExtraError

PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxscript")  # of the extra `models`

models_app = typer.Typer(no_args_is_help=True)


class ModelSize(str, enum.Enum):
    """SegFormer's sizes that Khan et al. use."""

    b0 = "b0"
    b4 = "b4"


class Precision(str, enum.Enum):
    """Type of the weights and of what is computed with them."""

    fp32 = "fp32"
    fp16 = "fp16"


@models_app.callback()
def root() -> None:
    """Models that devices and servers execute."""


@models_app.command()
def export(
    model: Annotated[ModelSize, typer.Option(help="Size of SegFormer.")],
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="File to write.")],
    height: Annotated[int, typer.Option(metavar="PIXELS", help="Of the frames; a multiple of 32.")] = 256,
    width: Annotated[int, typer.Option(metavar="PIXELS", help="Of the frames; a multiple of 32.")] = 512,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FOLDER",
            help="At Hugging Face, or a folder with config.json and model.safetensors "
            "(default: nvidia's Cityscapes weights of that size at Hugging Face).",
        ),
    ] = None,
    random: Annotated[
        int | None, typer.Option(min=0, metavar="SEED", help="Random weights, for tests and timing.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="fp16 is for GPUs.")] = Precision.fp32,
    dynamic_batch: Annotated[
        bool,
        typer.Option("--dynamic-batch", help="For servers that batch; TensorRT likes a fixed batch of 1."),
    ] = False,
) -> None:
    """Write SegFormer as an ONNX file: RGB bytes in, the class of each pixel at a quarter of the scale out.

    Example: carbonpilot models export --model b0 --height 512 --width 1024 --out segformer-b0.onnx
    """
    if any(importlib.util.find_spec(name) is None for name in PACKAGES):
        raise MissingExtraError("carbonpilot models export", "models")
    from .segformer.export import export_segformer

    done = export_segformer(
        model.value,
        out,
        height=height,
        width=width,
        weights=weights,
        random_seed=random,
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
