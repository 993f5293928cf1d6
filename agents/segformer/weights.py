"""SegFormer with weights from Hugging Face, from a folder, or random ones of a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...envs.errors import InputError
from ..model_export import weights_sha256
from .hub import CONFIG_FILE, WEIGHT_FILES, fetch_weights, first_line
from .network import SegformerConfig, SegformerForSemanticSegmentation
from .variants import CLASSES, MIOU_SOURCE, Variant


@dataclass(frozen=True)
class Weights:
    """A model with its weights and their origin.

    Attributes:
        model: in evaluation mode, float32.
        source: where the weights come from.
        miou_pct, miou_source: what is published about exactly these weights; None for others.
    """

    model: SegformerForSemanticSegmentation
    source: str
    miou_pct: float | None = None
    miou_source: str | None = None

    @property
    def sha256(self) -> str:
        """Over names, types, shapes and values: the same weights in another file have the same."""
        return weights_sha256(self.model)


def random_weights(variant: Variant, seed: int) -> Weights:
    """The model as it is before any training; its masks mean nothing, its times are those of a trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SegformerForSemanticSegmentation(_config(variant)).eval()
    return Weights(model, f"random, seed {seed}")


def load_weights(variant: Variant, source: str | None) -> Weights:
    """Weights of a folder or of Hugging Face.

    Args:
        variant: what they must be weights of.
        source: a folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, a name at Hugging
            Face, or None for the variant's own name there. A name is looked for in the local cache first.

    Raises:
        InputError: they are not there, not reachable, incomplete, or of another model.
    """
    name = source or variant.hub_name
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Weights(_load(variant, folder, f"folder {name}"), f"folder {folder.resolve().name}")
    if folder.exists() or name.startswith(("/", ".", "~")) or name.count("/") != 1:
        raise InputError(
            f"--weights {name}: no such folder. Give a folder with config.json and model.safetensors, or a name at "
            f"Hugging Face such as '{variant.hub_name}'."
        )
    folder = fetch_weights(name, variant)
    model = _load(variant, folder, f"'{name}' of Hugging Face")
    origin = f"huggingface.co/{name}@{folder.name}"  # a folder of the cache has the name of its revision
    published = name == variant.hub_name
    return Weights(model, origin, variant.miou_pct if published else None, MIOU_SOURCE if published else None)


def _config(variant: Variant) -> SegformerConfig:
    return SegformerConfig(
        depths=list(variant.depths),
        hidden_sizes=list(variant.hidden_sizes),
        decoder_hidden_size=variant.decoder_hidden_size,
        num_labels=len(CLASSES),  # type: ignore[call-arg]  # a property of the base class
    )


def _load(variant: Variant, folder: Path, called: str) -> SegformerForSemanticSegmentation:
    # Without it the library would take its own defaults for the model's.
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(_not_loaded(called, f"there is no {CONFIG_FILE}"))
    try:
        given = SegformerConfig.from_pretrained(folder)
    except Exception as err:  # a torn file has an exception of its own in each library below
        raise InputError(_not_loaded(called, first_line(err))) from err
    _refuse_other_model(given, variant, called)
    try:
        loaded: Any = SegformerForSemanticSegmentation.from_pretrained(
            folder, config=given, output_loading_info=True, dtype=torch.float32
        )
    except Exception as err:
        raise InputError(_not_loaded(called, first_line(err))) from err
    model, info = loaded
    missing, unknown = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if missing or unknown:
        raise InputError(
            f"The weights of {called} do not fit {variant.name}: {len(missing)} are missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(unknown)} unknown ({', '.join(unknown[:3]) or 'none'}). "
            "Likely cause: a backbone without its decoder, or a file that is not whole; download it again."
        )
    return model.eval()


def _not_loaded(called: str, why: str) -> str:
    return (
        f"Cannot load SegFormer weights from {called}: {why}. Expected {CONFIG_FILE} and {WEIGHT_FILES[0]} (or "
        f"{WEIGHT_FILES[1]}), as `huggingface-cli download` leaves them."
    )


def _refuse_other_model(given: SegformerConfig, variant: Variant, called: str) -> None:
    wanted = _config(variant)
    for key in ("depths", "hidden_sizes", "decoder_hidden_size", "num_labels"):
        expected, got = _plain(getattr(wanted, key)), _plain(getattr(given, key))
        if expected != got:
            raise InputError(
                f"The weights of {called} are not those of {variant.name} with the {len(CLASSES)} classes of "
                f"Cityscapes: expected {key} {expected}, got {got}. Give another --model or --weights."
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
