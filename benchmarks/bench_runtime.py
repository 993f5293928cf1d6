"""What the runtime itself costs: per frame, per decision, in memory, and until the first decision.

    python benchmarks/bench_runtime.py [--frames N]

Runs `carbonpilot run` with stand-ins (they compute nothing) in a process of its own and reads its log and its
/proc/PID/status. The site is the flagship scenario, one server of each kind, with a trained network's shape as policy.
Figures are medians of three runs; the machine should be quiet. BENCH_PYTHON names the Python of another environment.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from runtime_fixture import write_site

from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.real.runtime.quantile import quantile

# A device has no gymnasium, whose import takes a third of a second: an environment with the extra `device` only.
PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)


def site_file(folder: Path) -> Path:
    """The flagship with quick stand-ins, so that a minute of frames takes seconds."""
    scenario = scenario_dict(load_scenario("metro"))
    for placement in scenario["placements"]:
        placement["service"] = {"distribution": "deterministic", "mean_ms": 4.0}
    return write_site(folder, scenario)


def memory_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise ValueError(f"process {pid} has ended")


def measure(site: Path, log: Path, frames: int, mode: str) -> dict[str, float]:
    """One run."""
    command = [
        *(PYTHON, "-m", "carbonpilot.cli", "run", "--site", str(site), "--images", f"synthetic:{frames}"),
        *("--policy", "round-robin", "--mode", mode, "--stand-in", "--rate", "50", "--log", str(log)),
        *("--listen", "127.0.0.1:0", "--queue", "50"),
    ]
    began_s, cpu = time.time(), os.times()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    rss = 0.0
    while process.poll() is None:
        time.sleep(0.1)
        try:
            rss = max(rss, memory_mb(process.pid))
        except (OSError, ValueError):
            break
    process.communicate()
    spent = os.times()
    lines = [
        json.loads(line) for file in sorted(log.glob("*.jsonl")) for line in file.read_text().splitlines()
    ]
    header, records = lines[0], [line for line in lines if line["kind"] == "frame"]
    first_s = datetime.fromisoformat(header["started_utc"]).timestamp() + records[0]["issued_ms"] / 1000
    cpu_s = spent.children_user + spent.children_system - cpu.children_user - cpu.children_system
    decisions = [r["decision_us"] for r in records[20:]]
    overheads = [r["overhead_ms"] for r in records[20:] if r["overhead_ms"] is not None]
    return {
        "decision_p50_us": quantile(decisions, 0.5),
        "decision_p99_us": quantile(decisions, 0.99),
        "overhead_p50_ms": quantile(overheads, 0.5),
        "overhead_p95_ms": quantile(overheads, 0.95),
        "memory_mb": rss,
        "to_first_decision_s": first_s - began_s,
        "cpu_s_in_all": cpu_s,
        "frames": len(records),
    }


def main() -> None:
    """Measure three times and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--mode", default="active")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = site_file(Path(folder))
        runs = [measure(site, Path(folder) / f"log{i}", options.frames, options.mode) for i in range(3)]
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name:22} {statistics.median(values):10.3f}   ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
