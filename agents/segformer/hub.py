"""Weights from Hugging Face: from its local cache, else over the network."""

from __future__ import annotations

from pathlib import Path

from ...envs.errors import InputError
from .variants import Variant

ASK_TIMEOUT_S = (
    5.0  # for the question whether the hub is there; its library alone would try for half a minute
)
CONFIG_FILE = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order of preference


def fetch_weights(name: str, variant: Variant) -> Path:
    """The folder of the local cache that has configuration and weights, downloaded if they were not there.

    Args:
        name: at Hugging Face.
        variant: whose name the message gives, if this one is not known there.

    Raises:
        InputError: the hub cannot be reached, or has no such model.
    """
    if (cached := _cached(name)) is not None:
        return cached
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        there = {file.rfilename for file in HfApi().model_info(name, timeout=ASK_TIMEOUT_S).siblings or []}
        weights = next((file for file in WEIGHT_FILES if file in there), WEIGHT_FILES[0])
        hf_hub_download(name, weights)
        return Path(hf_hub_download(name, CONFIG_FILE)).parent
    except RepositoryNotFoundError as err:
        raise InputError(
            f"Hugging Face has no public model '{name}'. For Cityscapes it is '{variant.hub_name}'."
        ) from err
    except Exception as err:  # each way of being offline has an exception of its own
        raise InputError(
            f"Cannot reach Hugging Face for '{name}' ({first_line(err)}). Where there is a network, run "
            f"`huggingface-cli download {name} --local-dir FOLDER`, copy FOLDER here and give --weights FOLDER; "
            "for tests give --random SEED."
        ) from err


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    files = [try_to_load_from_cache(name, file) for file in (CONFIG_FILE, *WEIGHT_FILES)]
    config, *weights = (Path(file) if isinstance(file, str) else None for file in files)
    return config.parent if config is not None and any(weights) else None


def first_line(err: Exception) -> str:
    """An exception in one line."""
    return (str(err).strip() or type(err).__name__).splitlines()[0].rstrip(".")[:200]
