"""How near the simulator comes to a real server over a real link: calibrate, run, verify, on the test bed.

For each profile of the link the site is calibrated, then every placement answers some hundred frames alone (over a
lossy link better in several runs, because a connection's luck lasts), and `verify` says what the simulator predicts
for the same frames. Needs root (namespaces) and the Triton environment (`make triton`). A machine with something else
to do gives times that belong to nobody, and so does one whose host is busy: the load is printed, and by how much the
device's model by itself took longer around a run than around the calibration.

    .venv/bin/python benchmarks/testbed_accuracy.py --profile lan --frames 300 --out runs/accuracy
    .venv/bin/python benchmarks/testbed_accuracy.py --profile emu-a --frames 100 --runs 6 --out runs/accuracy
    .venv/bin/python benchmarks/testbed_accuracy.py --profile lan --placement local-b0 --frames 100 --turns 8
    .venv/bin/python benchmarks/testbed_accuracy.py --profile lan --split cut-012 --frames 200 --out runs/accuracy

With ``--turns N`` the device's own model is measured again before each of N runs (`calibrate --renew --part device`),
and each run is held against the site file made just before it: on a machine whose host has other work for minutes at a
time that tells whether the calibration is right, and not what the machine did in between. The row is the mean over the
runs, with its standard error.

With ``--split`` the device's model is cut as well: a placement `edge-split` computes its head on the device and sends
what crosses, as bytes, to its tail on the server.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from testbed_road import BASE, CARBONPILOT, export_model, here, on_device

from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.real.segments.manifest import read_manifest
from carbonpilot.real.testbed.bed import BedSettings, Testbed
from carbonpilot.real.testbed.profiles import PROFILES

DEPLOYMENT = """\
frame: {{height: 256, width: 512}}
local: {{file: {onnx}, providers: [cpu], intra_op_threads: {threads}}}
remote:
  edge-b0: {{model: segformer-b0-{form}, {encoding}}}
  edge-b4: {{model: segformer-b4-{form}, {encoding}}}
servers:
  edge: {{grpc: "{grpc}", metrics: "{metrics}"}}
probes:
  uplink: {{host: "{echo_host}", port: {echo_port}, method: echo}}
feeds:
  source: country-default
  interval_s: 300
  zones: {{home: POL, city: FRA}}
meters: []
"""
# As the test bed, with an objective that nothing misses: the shield would send frames elsewhere, and here each
# placement shall answer all of them.
SCENARIO = """\
extends: {base}
name: accuracy
description: The test bed's site with an objective that every placement keeps.
slo: {{latency_ms: 1500}}
arrivals: {{kind: periodic, low_per_s: {rate}, high_per_s: {rate}, jitter_fraction: 0.02}}
"""
PLACEMENTS = ("local-b0", "edge-b0", "edge-b4")
SPLIT = "edge-split"
MACHINE_CALLS = 50  # the first three are cold
SPLIT_REMOTE = "  edge-split: {{model: {model}, encoding: activation, segments: segments, cut: {cut}}}\n"


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    onnx = options.onnx or export_model(options.out)
    rows = []
    for name in options.profile:
        rows += one_profile(name, onnx, options)
    (options.out / "accuracy.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'profile':10} {'placement':10} {'n':>4} {'mean ms':>9} {'predicted':>9} {'error':>7}   "
          f"{'p95 ms':>8} {'predicted':>9} {'error':>7}   {'this machine':>12}")  # fmt: skip
    for r in rows:
        m, p = r["mean_ms"], r["p95_ms"]
        print(
            f"{r['profile']:10} {r['placement']:10} {r['count']:4d} {m['measured']:9.1f} {m['predicted']['mean']:9.1f} "
            f"{100 * m['relative_error']:+6.1f}%   {p['measured']:8.1f} {p['predicted']['mean']:9.1f} "
            f"{100 * p['relative_error']:+6.1f}%   {beside(r):>12}"
        )
    return 0


def beside(row: dict) -> str:
    """How much slower the machine was, or the standard errors of the errors of several turns."""
    if row["machine_slower"] is not None:
        return f"{100 * row['machine_slower']:+.1f}%"
    errors = [row[key]["standard_error"] for key in ("mean_ms", "p95_ms")]
    return "one turn" if None in errors else "+-" + ", ".join(f"{100 * e:.1f}" for e in errors)


def machine_ms(onnx: Path, options: argparse.Namespace) -> float:
    """Mean time of the device's model by itself at the camera's rate: how fast this machine is at the moment, ms."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(str(onnx), settings, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    kind = np.uint8 if given.type == "tensor(uint8)" else np.float32
    frame = np.zeros([side if isinstance(side, int) else 1 for side in given.shape], kind)
    took = []
    for _ in range(MACHINE_CALLS):
        start_s = time.perf_counter()
        session.run(None, {given.name: frame})
        took.append(1000 * (time.perf_counter() - start_s))
        time.sleep(max(0.0, 1 / options.rate - took[-1] / 1000))
    return float(np.mean(took[3:]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", action="append", choices=sorted(PROFILES), help="link; repeatable")
    choices = (*PLACEMENTS, SPLIT)
    parser.add_argument("--placement", action="append", choices=choices, help="repeatable; default: all")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument(
        "--runs", type=int, default=1, help="runs of so many frames; each is a connection of its own"
    )
    parser.add_argument(
        "--turns",
        type=int,
        default=0,
        help="measure the device's own model again before each of so many runs",
    )
    parser.add_argument("--rate", type=float, default=5.0, help="frames a second")
    parser.add_argument("--form", choices=("jpeg", "uint8"), default="jpeg")
    parser.add_argument("--split", metavar="CUT", help="cut the device's model here, as a further placement")
    parser.add_argument("--threads", type=int, default=1, help="of the device's model")
    parser.add_argument("--onnx", type=Path, help="the device's model; default: exported with random weights")
    parser.add_argument("--quick", action="store_true", help="calibrate in about a minute")
    parser.add_argument("--keep-site", action="store_true", help="use the site file of an earlier call")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    options = parser.parse_args()
    options.profile = options.profile or ["lan", "emu-a"]
    options.placement = options.placement or [*PLACEMENTS, *([SPLIT] if options.split else [])]
    return options


def one_profile(name: str, onnx: Path, options: argparse.Namespace) -> list[dict]:
    folder = (options.out / name).resolve()
    folder.mkdir(exist_ok=True)
    with Testbed(
        BedSettings(link=PROFILES[name], seed=1, model_control=bool(options.split)), folder / "bed"
    ) as bed:
        site = folder / "site.yaml"
        if options.split:
            deploy_tail(bed, folder / "segments", onnx, options.split)
        speed = folder / "machine-ms.txt"  # as it was when the site was calibrated
        if not (options.keep_site and site.exists()):
            before = machine_ms(onnx, options)
            calibrate(bed, folder, site, onnx, options)
            speed.write_text(f"{(before + machine_ms(onnx, options)) / 2}\n")
        rows = []
        for placement in options.placement:
            if options.turns and placement == PLACEMENTS[0]:
                rows += in_turns(bed, folder, site, name, onnx, options)
                continue
            before = machine_ms(onnx, options)
            found = play(bed, folder, site, name, placement, options)
            slower = (before + machine_ms(onnx, options)) / 2 / float(speed.read_text()) - 1
            rows += [{**row, "machine_slower": slower} for row in found]
        return rows


def in_turns(
    bed: Testbed, folder: Path, site: Path, profile: str, onnx: Path, options: argparse.Namespace
) -> list[dict]:
    """The device's own model: measured again, then run, as many times as asked for; one row of all of them."""
    turns, quick = [], ["--quick"] if options.quick else []
    for turn in range(options.turns):
        renewed = folder / f"site-turn-{turn}.yaml"
        on_device(
            bed, "calibrate", "--renew", str(site), "--part", "device", "--images", "synthetic:200",
            "--out", str(renewed), *quick,
        )  # fmt: skip
        turns += play(bed, folder, renewed, profile, PLACEMENTS[0], options)
        for key in ("mean_ms", "p95_ms"):
            m = turns[-1][key]
            print(f"turn {turn}: {key} {m['measured']:.1f}, predicted {m['predicted']['mean']:.1f}, "
                  f"{100 * m['relative_error']:+.1f} %", flush=True)  # fmt: skip
    return [{**turns[0], "count": sum(t["count"] for t in turns), "machine_slower": None, "turns": turns,
             **{key: mean_over(turns, key) for key in ("mean_ms", "p95_ms")}}]  # fmt: skip


def mean_over(turns: list[dict], key: str) -> dict:
    """Means over turns of measured and predicted times, the error of one against the other, and its standard error."""
    measured = np.array([t[key]["measured"] for t in turns])
    predicted = np.array([t[key]["predicted"]["mean"] for t in turns])
    error = predicted.mean() / measured.mean() - 1
    spread = (predicted - measured * (1 + error)) / measured.mean()  # of a ratio of means
    return {
        "measured": float(measured.mean()), "predicted": {"mean": float(predicted.mean())},
        "relative_error": float(error),
        "standard_error": float(spread.std(ddof=1) / np.sqrt(len(turns))) if len(turns) > 1 else None,
    }  # fmt: skip


def deploy_tail(bed: Testbed, segments: Path, onnx: Path, cut: str) -> None:
    """Cut the device's model in two, and load the rest on the server."""
    if not segments.exists():
        here(
            "segments", "write", str(onnx), "--cut", cut, "--wire", "uint8", "--max-disagreement", "0.05",
            "--out", str(segments),
        )  # fmt: skip
    on_device(bed, "segments", "load", str(segments), "--server", bed.server.grpc)


def split_base(segments: Path) -> str:
    """The test bed's site with the split placement; what `calibrate` measures is only assumed here."""
    segment = read_manifest(segments).segments[0]
    places = scenario_dict(load_scenario(BASE))["placements"]
    service = {"distribution": "lognormal", "p50_ms": 30, "p95_ms": 40}
    split = {"cut": segment.cut, "service": service, "active_energy_j": 1.7, "activation_kb": 1.0}
    return yaml.safe_dump({"placements": [*places, {**places[1], "name": SPLIT, "split": split}]})


def calibrate(bed: Testbed, folder: Path, site: Path, onnx: Path, options: argparse.Namespace) -> None:
    host, port = bed.echo()
    deployment = folder / "deploy.yaml"
    encoding = "encoding: jpeg, jpeg_quality: 90" if options.form == "jpeg" else "encoding: uint8"
    text, further = DEPLOYMENT, ""
    if options.split:
        segment = read_manifest(folder / "segments").segments[0]
        text = text.replace("servers:", SPLIT_REMOTE.replace("{model}", segment.triton_model) + "servers:", 1)
        text, further = text.replace("{cut}", segment.cut), split_base(folder / "segments")
    deployment.write_text(
        text.format(
            onnx=onnx.resolve(),
            threads=options.threads,
            form=options.form,
            encoding=encoding,
            grpc=bed.server.grpc,
            metrics=bed.server.metrics,
            echo_host=host,
            echo_port=port,
        )
    )
    base = folder / "base.yaml"
    base.write_text(SCENARIO.format(base=BASE, rate=options.rate) + further)
    quick = ["--quick"] if options.quick else []
    on_device(
        bed, "calibrate", "--base", str(base), "--deployment", str(deployment), "--images", "synthetic:200",
        "--out", str(site), *quick,
    )  # fmt: skip


def play(
    bed: Testbed, folder: Path, site: Path, profile: str, placement: str, options: argparse.Namespace
) -> list[dict]:
    """Let one placement answer all frames, and hold the log against the simulator."""
    log = folder / f"log-{placement}"
    for file in log.glob("*") if log.exists() else ():
        file.unlink()
    policy = "always-local" if placement.startswith("local") else f"always-{placement}"
    for _ in range(options.runs):  # under loss, what one connection does for minutes is a matter of chance
        on_device(
            bed, "run", "--site", str(site), "--policy", policy, "--mode", "active", "--images", "synthetic:200",
            "--repeat", "--frames", str(options.frames), "--rate", str(options.rate), "--fallback", "never",
            "--log", str(log), "--listen", "none",
        )  # fmt: skip
    report = folder / f"verify-{placement}.json"
    argv = ["verify", str(log), "--site", str(site), "--json", str(report), "--no-regret"]
    subprocess.run([CARBONPILOT, *argv], check=False)
    found = json.loads(report.read_text())["placements"]
    return [{"profile": profile, **row} for row in found if row["placement"] == placement]


if __name__ == "__main__":
    sys.exit(main())
