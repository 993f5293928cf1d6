"""What the test bed's benchmarks share: a model for the device, our command line there, a calibrated site, a bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from carbonpilot.real.testbed.bed import Testbed

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "testbed"
BASE = CONFIGS / "base.yaml"
CARBONPILOT = str(Path(sys.executable).with_name("carbonpilot"))


def here(*words: str) -> None:
    """Run our command line and wait; ends the benchmark where it fails."""
    subprocess.run([CARBONPILOT, *words], check=True)


def on_device(bed: Testbed, *words: str) -> None:
    """Run our command line on the device and wait; ends the benchmark where it fails."""
    done = bed.run_device([CARBONPILOT, *words])
    if done.wait() != 0:
        raise SystemExit(f"carbonpilot {words[0]} ended with {done.returncode}")


def export_model(out: Path) -> Path:
    """A model for the device: SegFormer-B0 with fixed random weights, made once."""
    onnx = out / "segformer-b0.onnx"
    if not onnx.exists():
        size = ("--height", "256", "--width", "512")
        here("models", "export", "--model", "b0", *size, "--random", "0", "--out", str(onnx))
    return onnx


def calibrated_site(bed: Testbed, out: Path, quick: bool) -> Path:
    """Calibrate the LAN on the test bed's usual deployment, whose model lies in the same folder."""
    site = out / "site.yaml"
    shutil.copy(CONFIGS / "deployment.yaml", out / "deployment.yaml")
    on_device(
        bed, "calibrate", "--base", str(BASE), "--deployment", str(out / "deployment.yaml"), "--images",
        "synthetic:100", "--condition", "lan", "--out", str(site), *(["--quick"] if quick else []),
    )  # fmt: skip
    return site


def trained_bundle(site: Path, out: Path, algorithm: str, steps: int) -> Path:
    """Train on a site and freeze; training happens beside the test bed, which is idle meanwhile."""
    for made in (out / "run", out / "bundle"):
        shutil.rmtree(made, ignore_errors=True)
    here(
        "train",
        str(site),
        "--algo",
        algorithm,
        "--steps",
        str(steps),
        "--seed",
        "0",
        "--out",
        str(out / "run"),
    )
    here("export", str(out / "run"), "--out", str(out / "bundle"))
    return out / "bundle"
