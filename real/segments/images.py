"""What segments are compared on: pictures of a folder, or made-up ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.errors import InputError
from ..frames.folder import FolderPictures
from ..site_file import FrameSize

SEED = 0
MADE_UP = 4
MOST = 200  # pictures of a folder; more say nothing new about a wire
_CELL = 32  # pixels of a coarse field
# ImageNet's, for models that take normalised numbers.
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def compared_inputs(wanted: Any, folder: Path | None) -> tuple[list[np.ndarray], str]:
    """Inputs for a model's only input, and words for what they are.

    Args:
        wanted: the input as onnxruntime describes it.
        folder: of pictures; None: noise, whose every value differs, and smooth fields, which look more like pictures.

    Raises:
        InputError: no picture can be made for this input, or the folder has none.
    """
    shape = [1, *wanted.shape[1:]]
    if folder is None:
        made = [_made_up(shape, wanted.type, number) for number in range(MADE_UP)]
        return made, f"{MADE_UP // 2} inputs of noise and {MADE_UP // 2} of coarse fields, seed {SEED}"
    height, width = _picture_size(shape, wanted)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} with pictures (--images).")
    pictures = FolderPictures(folder, FrameSize(height=height, width=width)).pictures(0, False)
    read = [p.rgb for p in itertools.islice(pictures, MOST) if p.rgb is not None]
    if not read:
        raise InputError(f"No file in {folder} (--images) is a picture.")
    return [_as_input(rgb, wanted.type) for rgb in read], f"{len(read)} pictures of {folder.resolve().name}"


def _picture_size(shape: list[int], wanted: Any) -> tuple[int, int]:
    """Height and width of pictures for an input: bytes (1, H, W, 3) or numbers (1, 3, H, W)."""
    if len(shape) == 4 and wanted.type == "tensor(uint8)" and shape[3] == 3:
        return shape[1], shape[2]
    if len(shape) == 4 and wanted.type in ("tensor(float)", "tensor(float16)") and shape[1] == 3:
        return shape[2], shape[3]
    raise InputError(
        f"The model's input {wanted.name} {wanted.type} {shape} takes no pictures: expected uint8 (1, height, width, "
        "3) or float (1, 3, height, width). Leave --images out; noise is taken then."
    )


def _as_input(rgb: np.ndarray, kind: str) -> np.ndarray:
    if kind == "tensor(uint8)":
        return rgb[np.newaxis]
    numbers = ((rgb / 255.0 - _MEAN) / _DEVIATION).transpose(2, 0, 1)[np.newaxis]
    return numbers.astype(_NUMPY[kind])


_NUMPY = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip


def _made_up(shape: list[int], kind: str, number: int) -> np.ndarray:
    """Noise in the first half, coarse fields in the second."""
    if kind not in _NUMPY:
        raise InputError(f"The model takes {kind}, for which no inputs can be made up here.")
    rng = np.random.default_rng([SEED, number])
    coarse = number >= MADE_UP // 2
    small = [-(-side // _CELL) if coarse and side >= _CELL else side for side in shape]
    values = rng.random(small)
    for axis, side in enumerate(shape):
        if small[axis] != side:
            values = np.take(values.repeat(_CELL, axis=axis), range(side), axis=axis)
    dtype = np.dtype(_NUMPY[kind])
    if dtype.kind == "f":
        return (4.0 * values - 2.0).astype(dtype)  # what normalised pictures span
    return (256 * values).astype(np.uint8) if dtype == np.uint8 else np.zeros(shape, dtype)
