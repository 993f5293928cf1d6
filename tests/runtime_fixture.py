"""A small site for tests of the runtime: its site file, a log to write to, and a way to run it in this process."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from carbonpilot.envs.scenario import load_scenario, merge, scenario_dict
from carbonpilot.envs.schema import LOCAL
from carbonpilot.real.calibrate.machine import this_machine
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.executors.standin import StandInExecutor
from carbonpilot.real.interfaces import Frame
from carbonpilot.real.log_records import FrameRecord, read_log
from carbonpilot.real.observer import node_levels
from carbonpilot.real.runtime.assemble import Run
from carbonpilot.real.runtime.checked import check
from carbonpilot.real.runtime.options import RunOptions
from carbonpilot.real.site_file import SITE_SCHEMA

SIZE = (64, 128)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)

# Quick stand-ins: a device that takes 30 ms, a server that takes 5 ms.
QUICK: dict[str, Any] = {
    "episode": {"requests": 1000},
    "placements": [
        {"name": "local", "node": "local", "model": "b0", "service": {"distribution": "deterministic", "mean_ms": 30},
         "active_energy_j": 1.0, "accuracy_miou": 37.4},
        {"name": "edge-b0", "node": "edge", "model": "b0", "service": {"distribution": "deterministic", "mean_ms": 5},
         "active_energy_j": 2.0, "batched_energy_j": 0.5, "accuracy_miou": 37.4},
    ],
    "arrivals": {"kind": "periodic", "low_per_s": 20, "high_per_s": 20, "jitter_fraction": 0},
}  # fmt: skip


def site_content(scenario: dict[str, Any], **deployment: Any) -> dict[str, Any]:
    """A site file's content around a scenario's content, everything on this machine and nothing listening."""
    remote = [p["name"] for p in scenario["placements"] if p["node"] != LOCAL]
    zones = {scenario["device"]["zone"], *(n["zone"] for n in scenario["nodes"].values())}
    zones |= {link["network_zone"] for link in scenario["links"].values()}
    place = {
        "machine": this_machine().model_dump(),
        "frame": {"height": SIZE[0], "width": SIZE[1]},
        "local": {"file": "b0.onnx", "sha256": "0" * 64, "providers": ["cpu"], "intra_op_threads": 1},
        "remote": {name: {"model": "b0-uint8", "encoding": "uint8"} for name in remote},
        "servers": {name: {"grpc": "127.0.0.1:1"} for name in scenario["nodes"]},
        "probes": {name: {"host": "127.0.0.1", "port": 1, "method": "connect"} for name in scenario["links"]},
        "feeds": {
            "source": "country-default",
            "zones": dict(zip(sorted(zones), ("FRA", "POL", "GB", "DEU"), strict=False)),
            "interval_s": 300,
        },
        "meters": [],
    }
    return {
        "schema": SITE_SCHEMA,
        "scenario": scenario,
        "deployment": merge(place, deployment),
        "provenance": {
            "measured_utc": "2026-01-01T00:00:00+00:00",
            "carbonpilot_version": "0",
            "numbers": {},
            "node_levels": {},
        },
    }


def write_site(folder: Path, scenario: dict[str, Any], changes: dict[str, Any] | None = None) -> Path:
    """Write a site file with the levels of its nodes; returns its path."""
    content = site_content(copy.deepcopy(scenario), **(changes or {}))
    path = folder / "scenario-only.yaml"
    path.write_text(yaml.safe_dump(content["scenario"]))
    loaded = load_scenario(path)
    content["scenario"] = scenario_dict(loaded)
    levels = {name: level.model_dump() for name, level in node_levels(loaded).items()}
    content["provenance"]["node_levels"] = levels
    site = folder / "site.yaml"
    site.write_text(yaml.safe_dump(content, sort_keys=False))
    return site


def quick_site(folder: Path, tiny: dict[str, Any], **changes: Any) -> Path:
    """The tiny site with quick placements; ``deployment`` changes that part, the rest the scenario."""
    place = changes.pop("deployment", None)
    return write_site(folder, merge(merge(tiny, QUICK), changes), place)


def options(site: Path, log: Path, **changes: Any) -> RunOptions:
    """Options of a run with stand-ins that listens nowhere."""
    values = {
        "images": "synthetic:100", "policy": "always-edge-b0", "mode": "active", "listen": None, "stand_in": True,
        **changes,
    }  # fmt: skip
    return RunOptions(site=site, log=log, **values)


def frame(index: int, problem: str | None = None) -> Frame:
    """A frame that is there now."""
    return Frame(index, f"{index}.png", None if problem else PIXELS, None, 0.0, problem)


class Lab:
    """A run in this process: start it, offer frames, break things, stop it."""

    def __init__(self, wanted: RunOptions, clock: Any = None) -> None:
        self.clock = clock or SystemClock()
        self.results: list[Any] = []
        self.run = Run(wanted, check(wanted, self.clock), self.clock, self.results.append)
        self._next = self.run.checked.before.next_frame

    def executor(self, placement: str) -> StandInExecutor:
        """A placement's stand-in."""
        return self.run.checked.executors[placement]  # type: ignore[return-value]

    async def __aenter__(self) -> Lab:
        """Start."""
        await self.run.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.run.stop()

    async def play(self, count: int, gap_s: float = 0.02, bad: Any = lambda i: False) -> None:
        """Offer frames at a steady rate."""
        for _ in range(count):
            self.run.engine.offer(frame(self._next, "not an image" if bad(self._next) else None))
            self._next += 1
            await asyncio.sleep(gap_s)
        await self.run.engine.idle()

    async def recorded(self) -> None:
        """Wait until every frame's record is made: counters tell of all of them then."""
        totals = self.run.engine.totals
        while totals.recorded < totals.offered:
            await asyncio.sleep(0.005)

    def records(self) -> list[FrameRecord]:
        """What the log holds."""
        return [r for r in read_log(self.run.options.log) if isinstance(r, FrameRecord)]

    def check_counts(self, count: int) -> list[FrameRecord]:
        """Frames in = results out = log lines; returns the lines in the order of frames."""
        records = sorted(self.records(), key=lambda r: r.frame)
        assert sorted(r.number for r in self.results) == sorted(r.frame for r in records)
        assert len(records) == len({r.frame for r in records}) == count
        return records
