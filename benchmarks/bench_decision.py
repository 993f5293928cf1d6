"""The decision path on the device: telemetry read, observation, policy, shield, placement; in microseconds.

Frames of the flagship site come at ten a second, are answered after a while and recorded, as in the runtime; what is
timed is `Observer.observe` to `Shield.decide`'s answer. The device's install has no numba, so neither has this process.
Three policies: a network alone; the risk head with its price; and the two with a learned part over them, as they are
shipped. Printed beside three bare products of one network's matrices: the least that its decision can cost.

Goals: median at most 30 microseconds, aim 15; 99th percentile at most 200. A neighbour on the machine makes both
larger, so the median and the 99th percentile are those of the quietest of some rounds; those of all are printed too.
Run: python benchmarks/bench_decision.py [SCENARIO]
"""

from __future__ import annotations

import gc
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
from random_policies import KINDS, bare_products, random_policy

from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Scenario
from carbonpilot.real.observer import Observer
from carbonpilot.real.observer.levels import node_sha256
from carbonpilot.real.probes.link import LinkState
from carbonpilot.real.probes.loop import ProbeSnapshot
from carbonpilot.real.probes.triton_load import LoadState
from carbonpilot.real.probes.uplink import UplinkState
from carbonpilot.real.shield import Shield
from carbonpilot.real.site_file import NodeLevels

SCENARIO = sys.argv[1] if len(sys.argv) > 1 else "metro"
ROUNDS, FRAMES, GAP_MS, ANSWERED_MS = 20, 1000, 100.0, 70.0
MEDIAN_US, AIM_US, P99_US = 30.0, 15.0, 200.0


def levels(scenario: Scenario) -> dict[str, NodeLevels]:
    """Made-up levels: what a look-up costs does not depend on them."""
    return {
        name: NodeLevels(
            node_sha256=node_sha256(node), load=[0.04 * i for i in range(24)] + [0.96], wait_ms=[2.0] * 25,
            batch=[1.5] * 25,
        )
        for name, node in scenario.nodes.items()
    }  # fmt: skip


def telemetry(
    scenario: Scenario, rng: np.random.Generator
) -> tuple[ProbeSnapshot, dict[str, SimpleNamespace]]:
    """What probes and feeds may show in some second."""
    links = {}
    for name in scenario.links:
        rtt, rate = np.float32(rng.uniform(15, 60)), np.float32(rng.uniform(20, 60))
        uplink = UplinkState(rate, None, False, 1, 0)
        links[name] = LinkState(rtt, rtt, np.float32(3), np.float32(0.5), uplink, 100.0, 1, 0, None, None)
    loads = {name: LoadState(load=rng.uniform(0.1, 0.8), measured_s=99.0) for name in scenario.nodes}
    zones = {
        name: SimpleNamespace(
            reading=SimpleNamespace(carbon_g_per_kwh=rng.uniform(50, 700)), age_s=1800.0, stale=False
        )
        for name in scenario.zones
    }
    return ProbeSnapshot(100.0, links, loads, {}), zones


def drive(kind: str) -> dict[str, npt.NDArray[np.float64]]:
    """Time every decision of a stream with a policy of a kind; seconds by part (rounds, frames)."""
    scenario, rng, clock = load_scenario(SCENARIO), np.random.default_rng(1), time.perf_counter
    observer = Observer(scenario, levels(scenario))
    matrices = bare_products(scenario)
    shield = Shield(random_policy(scenario, kind), scenario, doubts=lambda: observer.doubts)
    inputs = [np.ones(m.shape[0], np.float32) for m in matrices]
    parts = {
        name: np.zeros((ROUNDS, FRAMES)) for name in ("observe", "decide", "both", "three np.dot", "refresh")
    }
    now_ms = 0.0
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # as the runtime does once it is up
    for r in range(ROUNDS):
        for n in range(FRAMES):
            now_ms += GAP_MS
            if n % 10 == 0:
                seen = telemetry(scenario, rng)
                start = clock()
                observer.refresh(*seen, now_ms)
                parts["refresh"][r, n] = clock() - start
            start = clock()
            observation = observer.observe(now_ms, 80.0)
            middle = clock()
            decision = shield.decide(observation, now_ms)
            end = clock()
            parts["observe"][r, n], parts["decide"][r, n] = middle - start, end - middle
            parts["both"][r, n] = end - start
            start = clock()
            for values, matrix in zip(inputs, matrices, strict=True):
                np.dot(values, matrix)
            parts["three np.dot"][r, n] = clock() - start
            attempt, frame, done_ms = (
                observer.placed(now_ms, decision.placement, 80.0),
                observer.frame,
                now_ms + ANSWERED_MS,
            )
            observer.answered(attempt, done_ms)
            observer.finished(frame, done_ms, missed=False)
            shield.record(decision.placement, ANSWERED_MS, None, done_ms, decision)
    return parts


def report(kind: str) -> tuple[float, float]:
    """Print the figures of one kind of policy; median and 99th percentile of the quietest round, microseconds."""
    parts = {name: 1e6 * values for name, values in drive(kind).items()}
    parts["refresh"] = parts["refresh"][:, ::10]
    print(
        f"{kind:16s} {'median':>8s} {'p99':>8s}    quietest round: {'median':>8s} {'p99':>8s}   microseconds"
    )
    quietest = {}
    for name, us in parts.items():
        quietest[name] = np.percentile(us, [50, 99], axis=1).min(axis=1)
        every = np.percentile(us, [50, 99])
        print(
            f"{name:16s} {every[0]:8.1f} {every[1]:8.1f} {'':18s} {quietest[name][0]:8.1f} {quietest[name][1]:8.1f}"
        )
    median, p99 = quietest["both"]
    verdict = "aim reached" if median <= AIM_US else "ok" if median <= MEDIAN_US else "MISSED"
    print(f"decision, median {median:.1f}: at most {MEDIAN_US:g}, aim {AIM_US:g}: {verdict}")
    print(f"decision, p99 {p99:.1f}: at most {P99_US:g}: {'ok' if p99 <= P99_US else 'MISSED'}")
    print(f"decision / three np.dot: {median / quietest['three np.dot'][0]:.1f}\n")
    return median, p99


def main() -> int:
    """Print the figures beside their goals, for every kind of policy."""
    if (
        os.environ.get("CARBONPILOT_NUMBA") != "0"
    ):  # the device runs without it, and modules are loaded already
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "CARBONPILOT_NUMBA": "0"})
    found = [report(kind) for kind in KINDS]
    return int(any(median > MEDIAN_US or p99 > P99_US for median, p99 in found))


if __name__ == "__main__":
    sys.exit(main())
