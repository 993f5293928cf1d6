"""Lets packages that import torchvision be imported where its compiled operators do not fit the torch that is here.

PyPI's torchvision is built for PyPI's torch. Beside another build of the same version, such as one for CPUs only, its
operators cannot be loaded, and `import torchvision` fails on the first of them; transformers and timm fail with it,
though neither needs these operators for the models that are exported here. So they are declared, without a body.
"""

from __future__ import annotations

import importlib.util
import sys

import torch

OPERATORS = (
    *("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"),
    *("_roi_align_backward", "_roi_pool_backward", "_ps_roi_align_backward", "_ps_roi_pool_backward"),
    "_deform_conv2d_backward",
)
_NAME = "torchvision"
_kept: list[torch.library.Library] = []  # a declaration ends with its library


def declare_missing_operators() -> None:
    """Declare torchvision's operators where it is installed and cannot load its own."""
    if _kept or _NAME in sys.modules or importlib.util.find_spec(_NAME) is None:
        return
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, ImportError):
        for name in [name for name in sys.modules if name == _NAME or name.startswith(f"{_NAME}.")]:
            del sys.modules[name]
        library = torch.library.Library(_NAME, "DEF")
        for operator in OPERATORS:
            library.define(f"{operator}(Tensor a) -> Tensor")
        _kept.append(library)
