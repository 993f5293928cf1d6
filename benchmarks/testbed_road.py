"""What the test bed's benchmarks share: a model for the device, our command line there, a calibrated site, a bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

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


def metro_site(bed: Testbed, out: Path, quick: bool) -> Path:
    """Calibrate the site of the shipped agents: three nodes, here all on the one server; its model lies in ``out``.

    6 to 6.5 frames a second: the least that the shipped agents have met, and more than a slow device bears alone.
    """
    site, deployment = out / "site.yaml", out / "deployment.yaml"
    content = yaml.safe_load((CONFIGS / "deployment.yaml").read_text())
    content["servers"] = dict.fromkeys(("edge", "north", "south"), content["servers"]["edge"])
    content["remote"] |= dict.fromkeys(("north-b0", "south-b0"), content["remote"]["edge-b0"])
    content["feeds"]["zones"] |= {"north": "SWE", "south": "ESP"}
    deployment.write_text(yaml.safe_dump(content))
    on_device(
        bed, "calibrate", "--base", "metro", "--deployment", str(deployment), "--images", "synthetic:100",
        "--assume", "arrivals={kind: periodic, low_per_s: 6, high_per_s: 6.5, jitter_fraction: 0.12}",
        "--out", str(site), *(["--quick"] if quick else []),
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
