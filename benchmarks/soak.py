"""A long run with a fast stand-in model: memory and open files must not grow, and no frame may be lost.

    python benchmarks/soak.py [--frames 20000] [--rate 200]

Runs `carbonpilot run` in a process of its own, asks its page twice a second as somebody who watches it would, and
prints memory, descriptors and threads after a tenth of the frames (everything has been used by then) and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from runtime_fixture import write_site

from carbonpilot.envs.scenario import load_scenario, scenario_dict
from carbonpilot.real.log_records import FrameRecord, read_log


def site_file(folder: Path) -> Path:
    """The flagship with placements that take 1 ms."""
    scenario = scenario_dict(load_scenario("metro"))
    for placement in scenario["placements"]:
        placement["service"] = {"distribution": "deterministic", "mean_ms": 1.0}
    return write_site(folder, scenario)


def state(pid: int) -> dict[str, float]:
    """Resident memory (MB), open descriptors and threads of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "memory_mb": int(status["VmRSS"].split()[0]) / 1000,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


def ask(address: str, page: str) -> dict:
    """A page of the run."""
    with urllib.request.urlopen(address + page, timeout=10) as answer:
        content = answer.read()
    return json.loads(content) if page.endswith("json") else {}


def main() -> int:
    """Run, watch, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "carbonpilot.cli", "run", "--site", str(site_file(Path(folder)))),
                *("--images", "synthetic:64", "--repeat", "--frames", str(options.frames)),
                *("--rate", str(options.rate), "--policy", "round-robin", "--mode", "active", "--stand-in"),
                *("--log", str(log), "--log-megabytes", "4", "--queue", "100", "--listen", "127.0.0.1:0"),
                *("--masks", str(Path(folder) / "masks"), "--tensorboard", str(Path(folder) / "tb")),
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        address = next(line.split()[2] for line in process.stdout if "status page" in line)
        seen: list[tuple[int, dict[str, float]]] = []
        while process.poll() is None:
            try:
                recorded = ask(address, "status.json")["frames"]["recorded"]
                ask(address, "metrics")
                seen.append((recorded, state(process.pid)))
            except OSError:
                break
            time.sleep(0.5)
        said = process.communicate()[0].strip()
        lines = sum(isinstance(r, FrameRecord) for r in read_log(log))
        masks = len(list((Path(folder) / "masks").glob("*.png")))
    warm = next(s for n, s in seen if n >= options.frames / 10)
    last = seen[-1][1]
    print(said)
    print(f"exit code {process.returncode}, {lines} lines in the log, {masks} masks")
    for name in warm:
        print(f"{name:12} after a tenth {warm[name]:8.2f}   at the end {last[name]:8.2f}")
    return 0 if process.returncode == 0 and lines == options.frames else 1


if __name__ == "__main__":
    raise SystemExit(main())
