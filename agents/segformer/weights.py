"""SegFormer with weights from Hugging Face, from a folder, or random ones of a fixed seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from ...envs.errors import InputError
from .variants import CLASSES, MIOU_SOURCE, Variant

ASK_TIMEOUT_S = 5.0  # for the question whether the hub is there; the library alone would try for 24 s


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
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


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
        return Weights(_load(variant, str(folder), f"folder {name}"), f"folder {folder.resolve().name}")
    if folder.exists() or name.startswith(("/", ".", "~")) or name.count("/") != 1:
        raise InputError(_no_folder(name, variant))
    _make_reachable(name, variant)
    model = _load(variant, name, f"'{name}' of Hugging Face")
    revision = getattr(model.config, "_commit_hash", None)
    origin = f"huggingface.co/{name}" + (f"@{revision}" if revision else "")
    published = name == variant.hub_name
    return Weights(model, origin, variant.miou_pct if published else None, MIOU_SOURCE if published else None)


def _config(variant: Variant) -> SegformerConfig:
    return SegformerConfig(
        depths=list(variant.depths),
        hidden_sizes=list(variant.hidden_sizes),
        decoder_hidden_size=variant.decoder_hidden_size,
        num_labels=len(CLASSES),  # type: ignore[call-arg]  # a property of the base class
    )


def _load(variant: Variant, name: str, called: str) -> SegformerForSemanticSegmentation:
    try:
        given = SegformerConfig.from_pretrained(name)
        _refuse_other_model(given, variant, called)
        loaded: Any = SegformerForSemanticSegmentation.from_pretrained(
            name, config=given, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, RuntimeError, ValueError, KeyError) as err:  # missing, torn or of another form
        raise InputError(
            f"Cannot load SegFormer weights from {called}: {_first_line(err)}. Expected config.json and "
            "model.safetensors (or pytorch_model.bin), as `huggingface-cli download` leaves them."
        ) from err
    model, info = loaded
    missing, unknown = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if missing or unknown:
        raise InputError(
            f"The weights of {called} do not fit {variant.name}: {len(missing)} are missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(unknown)} unknown ({', '.join(unknown[:3]) or 'none'}). "
            "Likely cause: a backbone without its decoder, or a file that is not whole; download it again."
        )
    return model.eval()


def _refuse_other_model(given: SegformerConfig, variant: Variant, called: str) -> None:
    wanted = _config(variant)
    for key in ("depths", "hidden_sizes", "decoder_hidden_size", "num_labels"):
        expected, got = getattr(wanted, key), getattr(given, key)
        if expected != got:
            raise InputError(
                f"The weights of {called} are not those of {variant.name} with the {len(CLASSES)} classes of "
                f"Cityscapes: expected {key} {expected}, got {got}. Give another --model or --weights."
            )


def _make_reachable(name: str, variant: Variant) -> None:
    """Return if the weights are in the cache or the hub has them; say what is wrong otherwise."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        SegformerForSemanticSegmentation.from_pretrained(name, local_files_only=True)
        return
    except OSError:
        pass  # not in the cache
    try:
        HfApi().model_info(name, timeout=ASK_TIMEOUT_S)
    except RepositoryNotFoundError as err:
        raise InputError(
            f"Hugging Face has no public model '{name}'. For Cityscapes it is '{variant.hub_name}'."
        ) from err
    except Exception as err:  # each way of being offline has an exception of its own
        raise InputError(_unreachable(name, err)) from err


def _unreachable(name: str, err: Exception) -> str:
    return (
        f"Cannot reach Hugging Face for '{name}' ({_first_line(err)}). Where there is a network, run "
        f"`huggingface-cli download {name} --local-dir FOLDER`, copy FOLDER here and give --weights FOLDER; "
        "for tests give --random SEED."
    )


def _no_folder(name: str, variant: Variant) -> str:
    return (
        f"--weights {name}: no such folder. Give a folder with config.json and model.safetensors, or a name at "
        f"Hugging Face such as '{variant.hub_name}'."
    )


def _first_line(err: Exception) -> str:
    return (str(err).strip() or type(err).__name__).splitlines()[0].rstrip(".")[:200]
