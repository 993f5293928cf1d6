"""Python and its packages; nothing heavy is imported to find out."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from .finding import Finding

GROUP = "software"
LEAST_PYTHON = (3, 10)
# Extra -> module -> package; what stands in pyproject's extras.
EXTRAS = {
    "device": {
        "tritonclient": "tritonclient",
        "grpc": "grpcio",
        "onnxruntime": "onnxruntime",
        "PIL": "pillow",
        "httpx": "httpx",
        "prometheus_client": "prometheus-client",
        "pynvml": "nvidia-ml-py",
    },
    "train": {
        "gymnasium": "gymnasium",
        "stable_baselines3": "stable-baselines3",
        "sb3_contrib": "sb3-contrib",
        "torch": "torch",
        "tensorboard": "tensorboard",
        "codecarbon": "codecarbon",
        "numba": "numba",
        "scipy": "scipy",
        "matplotlib": "matplotlib",
        "optuna": "optuna",
    },
    "video": {"cv2": "opencv-python-headless"},
    "models": {"transformers": "transformers", "onnx": "onnx"},
    "zoo": {"timm": "timm", "onnx": "onnx"},
}
_USE = {
    "device": "run, calibrate",
    "train": "train, and benchmark of trained agents",
    "video": "frames of a video or camera",
    "models": "carbonpilot models export of SegFormer, carbonpilot segments write",
    "zoo": "carbonpilot models export of classifiers",
}


def software(needs_device: bool) -> list[Finding]:
    """Python, NumPy, the extras and the providers of onnxruntime.

    Args:
        needs_device: whether the extra for devices must be there, as for a site.
    """
    return [_python(), *(_extra(name, needs_device and name == "device") for name in EXTRAS), _providers()]


def _python() -> Finding:
    found = f"Python {platform.python_version()} on {platform.machine()}, NumPy {_version('numpy')}"
    if sys.version_info[:2] < LEAST_PYTHON:
        return Finding(GROUP, "python", "failed", found, "Install Python 3.10 or newer.")
    return Finding(GROUP, "python", "ok", found)


def _extra(extra: str, needed: bool) -> Finding:
    packages = EXTRAS[extra]
    lacking = [package for module, package in packages.items() if not _there(module)]
    there = ", ".join(f"{p} {_version(p)}" for m, p in packages.items() if _there(m)) or "nothing"
    name = f"extra {extra}"
    if not lacking:
        return Finding(GROUP, name, "ok", there)
    detail = f"lacks {', '.join(lacking)}; has {there}. For: {_USE[extra]}"
    mend = f"pip install 'carbonpilot[{extra}]'"
    return Finding(GROUP, name, "failed" if needed else "missing", detail, mend)


def _providers() -> Finding:
    name = "onnxruntime providers"
    if not _there("onnxruntime"):
        return Finding(GROUP, name, "missing", "no onnxruntime", "pip install 'carbonpilot[device]'")
    import onnxruntime

    found = onnxruntime.get_available_providers()
    accelerated = [p for p in found if p.startswith(("Tensorrt", "CUDA"))]
    if accelerated:
        return Finding(GROUP, name, "ok", ", ".join(found))
    mend = (
        "On a Jetson install NVIDIA's build of onnxruntime-gpu for your JetPack; the one from PyPI computes on the "
        "CPU."
    )
    return Finding(GROUP, name, "missing", f"{', '.join(found)}: no GPU", mend)


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
