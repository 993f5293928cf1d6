"""Does a bundle that was trained on a calibrated site keep the objective there, over links that change?

On the test bed: one start of the server, one calibration and one training (or a site file and a bundle that are
there), then runs of 300 frames, each over another link: the first as in `make testbed-demo` (LAN, Emu-B, outage, LAN),
the others drawn by seed from the chain of conditions in the site file. For each run: the share of frames over the
objective, what the device alone would have had by its own service times, what a plan in hindsight of the recorded tape
has, and the shield's reasons. Needs root (namespaces) and the Triton environment (`make triton`); a machine with
something else to do gives figures that belong to nobody, so the load and the link's lateness are printed.

    .venv/bin/python benchmarks/testbed_slo.py --out runs/testbed-slo
    .venv/bin/python benchmarks/testbed_slo.py --site site.yaml --bundle bundle --runs 20
    .venv/bin/python benchmarks/testbed_slo.py --shipped --runs 3
    .venv/bin/python benchmarks/testbed_slo.py --quick

With ``--shipped`` the site is `metro`, calibrated here with its three nodes on the one server, and the bundle is the
one that `run --bundle pretrained` takes, unchanged.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from testbed_road import BASE, CARBONPILOT, calibrated_site, export_model, metro_site, trained_bundle

from carbonpilot import __version__
from carbonpilot.agents.shipped import shipped_bundle
from carbonpilot.agents.statistics import Estimate, wilson
from carbonpilot.envs.files import write_json
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_sha256
from carbonpilot.envs.schema import Periodic, SwitchedLink
from carbonpilot.oracle.solvers import solve_budget_coupled
from carbonpilot.real.site_file import SiteFile, load_site
from carbonpilot.real.testbed.bed import BedSettings, Testbed, unavailable
from carbonpilot.real.testbed.changes import demo_schedule, drawn_schedule, told
from carbonpilot.real.testbed.profiles import PROFILES, Schedule
from carbonpilot.real.verify.held import Kept, kept, local_times_ms
from carbonpilot.real.verify.run_log import read_runs

SCHEMA = "carbonpilot/testbed-slo/1"
START_S = (
    3.0  # from the start of the process to its first frame, about: the link's changes begin with the process
)
BETWEEN_S = 2.0  # the server empties its queue


def main() -> int:
    options = parse()
    reason = unavailable()
    if reason is not None:
        print(f"left out: {reason}")
        return 0
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with Testbed(BedSettings(link=PROFILES["lan"], seed=options.seed), out / "bed") as bed:
        site_path, bundle = made_or_given(bed, out, options)
        site = load_site(site_path)
        rate = options.rate or site_rate(site)
        plans = [plan(site, k, options, options.frames / rate) for k in range(options.runs)]
        late = [play(bed, out, k, site_path, bundle, plans[k], options) for k in range(options.runs)]
    rows = judged(out, site, options)
    show(rows, plans, late)
    write_json(out / "slo.json", as_json(site, bundle, rows, plans, late, options, rate))
    print(f"wrote {out / 'slo.json'}; logs: {out}/log-*")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--site", type=Path, help="calibrated on this test bed; default: calibrate now")
    parser.add_argument("--bundle", type=Path, help="trained on that site; default: train now")
    parser.add_argument(
        "--shipped", action="store_true", help="metro, and the bundle that is shipped for devices"
    )
    parser.add_argument("--algo", default="dqn", help="of the training")
    parser.add_argument("--steps", type=int, default=300_000, help="of the training")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--frames", type=int, default=300, help="of a run")
    parser.add_argument("--rate", type=float, help="frames a second; default: the site's")
    parser.add_argument("--seed", type=int, default=0, help="of the links' changes, losses and jitter")
    parser.add_argument(
        "--quick", action="store_true", help="one run of 100 frames, a short calibration and training"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/testbed-slo"))
    options = parser.parse_args()
    if options.bundle is not None and options.site is None:
        parser.error("--bundle needs the --site that it was trained on")
    if options.quick:
        options.runs, options.frames, options.steps = 1, 100, 20_000
    return options


def made_or_given(bed: Testbed, out: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """Site file and bundle."""
    if options.shipped:
        export_model(out)
        path = metro_site(bed, out, options.quick)
        scenario = load_site(path).scenario
        return path, shipped_bundle(scenario, build_table(scenario), on_device=True)
    if options.site is None:
        export_model(out)
        site = calibrated_site(bed, out, options.quick)
    else:
        site = options.site.resolve()
    bundle = options.bundle or trained_bundle(site, out, options.algo, options.steps)
    return site, bundle.resolve()


def site_rate(site: SiteFile) -> float:
    """Frames a second of the site's camera."""
    arrivals = site.scenario.arrivals
    assert isinstance(arrivals, Periodic)  # as the test bed's base has it
    return (arrivals.low_per_s + arrivals.high_per_s) / 2


def plan(site: SiteFile, number: int, options: argparse.Namespace, length_s: float) -> Schedule:
    """How the link changes in a run."""
    if number == 0:
        return demo_schedule(length_s + START_S)
    source = site.scenario.links["uplink"].source
    if not isinstance(source, SwitchedLink):  # calibrated to a constant link: the base says how it changes
        source = load_scenario(BASE).links["uplink"].source
    assert isinstance(source, SwitchedLink)
    return drawn_schedule(source, length_s + START_S, np.random.default_rng([options.seed, number]))


def play(
    bed: Testbed,
    out: Path,
    number: int,
    site: Path,
    bundle: Path,
    changes: Schedule,
    options: argparse.Namespace,
) -> dict:
    """One run while the link changes; returns how late the link's packets were."""
    assert bed.link is not None
    log = log_of(out, number)
    shutil.rmtree(log, ignore_errors=True)
    print(f"run {number}: {told(changes)}", flush=True)
    bed.link.shape(changes.profiles[0])
    bed.link.counters(reset=True)
    words = [
        "run",
        "--site",
        str(site),
        "--bundle",
        str(bundle),
        "--mode",
        "active",
        "--images",
        "synthetic:200",
    ]
    words += ["--repeat", "--frames", str(options.frames), "--log", str(log), "--listen", "none"]
    words += [] if options.rate is None else ["--rate", str(options.rate)]
    device = bed.run_device([CARBONPILOT, *words])
    bed.link.play(changes)
    if device.wait() != 0:
        raise SystemExit(f"run {number} ended with {device.returncode}")
    late = bed.link.counters()["late_ms"] or {}
    bed.link.shape(PROFILES["lan"])
    time.sleep(BETWEEN_S)
    return late


def log_of(out: Path, number: int) -> Path:
    return out / f"log-{number:02d}"


def judged(out: Path, site: SiteFile, options: argparse.Namespace) -> list[Kept]:
    """Every run against its objective; where one has few service times of the device, all runs' are taken."""
    local = site.scenario.placements[0].name
    every = [
        list(
            local_times_ms([f for run in read_runs(log_of(out, k), site) for f in run.frames], local).values()
        )
        for k in range(options.runs)
    ]

    def hindsight(scenario, tape):
        return solve_budget_coupled(scenario, tape).plan

    found = []
    for k in range(options.runs):
        others = [ms for other, times in enumerate(every) if other != k for ms in times]
        found.append(kept(log_of(out, k), site, hindsight, others, options.seed))
    return found


def show(rows: list[Kept], plans: list[Schedule], late: list[dict]) -> None:
    """The table, and what it comes to."""
    print(
        f"\n{'run':>3} {'over':>6} {'p95 ms':>7} {'held':>4} {'local':>6} {'hindsight':>9} {'late p99':>8}  reasons"
    )
    for k, r in enumerate(rows):
        hindsight = "-" if r.hindsight_over is None else f"{100 * r.hindsight_over:.1f}%"
        why = ", ".join(f"{name} {n}" for name, n in sorted(r.reasons.items(), key=lambda item: -item[1]))
        more = "".join(f", fallback {name} {n}" for name, n in r.fallbacks.items())
        p99 = late[k].get("p99")
        print(
            f"{k:3d} {100 * r.over:5.1f}% {r.p95_ms:7.1f} {'yes' if r.held else 'NO':>4} {100 * r.local_over:5.1f}% "
            f"{hindsight:>9} {'-' if p99 is None else f'{p99:.1f} ms':>8}  {why}{more}"
        )
    held, share = total(rows)
    print(f"\nheld in {sum(held)} of {len(held)} runs in which local or hindsight can", end="")
    interval = (
        "" if share is None or share.low is None else f" [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    )
    print("" if share is None else f": {100 * share.mean:.0f} %{interval}")
    neither = [r.held for r in rows if not r.possible]
    print(f"{len(neither)} runs in which neither can; {sum(neither)} of them held all the same")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def total(rows: list[Kept]) -> tuple[list[bool], Estimate | None]:
    """Whether each run was held that can be, and Wilson's interval of their share."""
    held = [r.held for r in rows if r.possible]
    return held, wilson(np.array(held, dtype=float)) if held else None


def as_json(
    site: SiteFile, bundle: Path, rows: list[Kept], plans: list[Schedule], late: list[dict],
    options: argparse.Namespace, rate: float,
) -> dict:  # fmt: skip
    held, share = total(rows)
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": site.scenario.name,
        "scenario_sha256": scenario_sha256(site.scenario),
        "bundle": json.loads((bundle / "card.json").read_text())["card_sha256"],
        "seed": options.seed,
        "rate_per_s": rate,
        "slo": {"latency_ms": site.scenario.slo.latency_ms, "quantile": site.scenario.slo.quantile},
        "held": sum(held),
        "possible": len(held),
        "share": None if share is None else share.as_json(),
        "runs": [
            {
                **asdict(r),
                "p95_ms": r.p95_ms if np.isfinite(r.p95_ms) else None,
                "held": r.held,
                "possible": r.possible,
                "link": told(p),
                "late_ms": k,
            }
            for r, p, k in zip(rows, plans, late, strict=True)
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
