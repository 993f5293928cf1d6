"""What of a site file no longer fits the run, and whether it has to be calibrated again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...envs.schema import Link, Scenario
from .compare import LEAST_FOR_P95, Comparison, Figure
from .conditions import Condition
from .link_truth import calibrated_states, is_near, nearest_state
from .served import Served

MEAN_SHARE, P95_SHARE, ENERGY_SHARE = 0.05, 0.10, 0.05
PAYLOAD_SHARE = 0.05


@dataclass(frozen=True)
class Check:
    """One thing held against the site file.

    Attributes:
        part: dotted key of the scenario that it stands or falls with.
        what: what was compared.
        ok: it fits.
        detail: the numbers.
    """

    part: str
    what: str
    ok: bool
    detail: str


def placement_checks(scenario: Scenario, totals: Iterable[Comparison]) -> list[Check]:
    """Latency and energy of each placement on calibrated links."""
    found = []
    index = {p.name: i for i, p in enumerate(scenario.placements)}
    for c in totals:
        if not c.judged:
            continue
        part = f"placements.{index[c.placement]}"
        service, energy = f"{part}.service", f"{part}.active_energy_j"
        if c.head_ms is None or c.rest_ms is None:
            found.append(_check(service, f"mean latency of {c.placement}", c.mean_ms, "ms", MEAN_SHARE))
        else:  # so that what no longer fits can be told: the device's part, or the server's
            head = _check(f"{part}.split.service", f"head of {c.placement}", c.head_ms, "ms", MEAN_SHARE)
            rest = _check(service, f"mean of {c.placement} after its head", c.rest_ms, "ms", MEAN_SHARE)
            found += [head, rest]
            service = service if head.ok else head.part
            energy = f"{part}.split.active_energy_j"  # the part that a meter of the device corrects
        if c.count >= LEAST_FOR_P95:
            found.append(_check(service, f"p95 latency of {c.placement}", c.p95_ms, "ms", P95_SHARE))
        if c.energy_j is not None:
            found.append(_check(energy, f"energy of {c.placement}", c.energy_j, "J", ENERGY_SHARE))
    return found


def _check(part: str, what: str, figure: Figure, unit: str, threshold: float) -> Check:
    detail = (
        f"measured {figure.measured:.4g} {unit}, predicted {figure.predicted:.4g} [{figure.low:.4g}, "
        f"{figure.high:.4g}], {100 * figure.relative_error:+.1f} %; {100 * threshold:g} % are allowed"
    )
    off = figure.off(threshold)
    if not off and abs(figure.relative_error) > threshold:
        detail += ", but the measured value lies within what the prediction leaves open"
    return Check(part, what, not off, detail)


def link_checks(scenario: Scenario, stretches: list[Condition]) -> list[Check]:
    """Whether each link mostly was the one that was calibrated.

    A stretch on another link (a drive out of town) is no fault of the site file; a run that mostly saw another one is.
    """
    found = []
    for name, link in scenario.links.items():
        by_state: dict[str, list[Condition]] = {}
        for s in stretches:
            if np.isfinite(s.rtt_ms.get(name, np.inf)) and (state := nearest_state(link, s.rtt_ms[name])):
                by_state.setdefault(state[0], []).append(s)
        if by_state:
            found.append(_link_check(name, link, by_state))
    return found


def _link_check(name: str, link: Link, by_state: dict[str, list[Condition]]) -> Check:
    """Judge the state that the link was nearest to for the longest time."""
    seconds = {key: sum(s.seconds for s in found) for key, found in by_state.items()}
    key = max(seconds, key=lambda k: seconds[k])
    mean_ms = sum(s.rtt_ms[name] * s.seconds for s in by_state[key]) / seconds[key]
    everything = [s for found in by_state.values() for s in found]
    total = sum(seconds.values())
    near = sum(s.seconds for s in everything if _like_calibrated(link, s.rtt_ms[name], s.seconds))
    site_ms = calibrated_states(link)[key].rtt_ms
    detail = (
        f"site {site_ms:.4g} ms, probed {mean_ms:.4g} ms in the {seconds[key]} s nearest to it; {near} of {total} s "
        "were over a link as the site file has it"
    )
    part = f"links.{name}.source.{key}.rtt_ms"
    return Check(part, f"round-trip time of {name}", near >= 0.5 * total, detail)


def _like_calibrated(link: Link, rtt_ms: float, seconds: int) -> bool:
    state = nearest_state(link, rtt_ms)
    return state is not None and is_near(rtt_ms, state[1], seconds)


def payload_check(scenario: Scenario, requests: Served) -> Check:
    """Whether frames are as large as when they were measured."""
    low, high = scenario.payload.low_kb, scenario.payload.high_kb
    mean = float(requests.payload_kb.mean())
    middle = (low + high) / 2
    error = (middle - mean) / mean if mean > 0 else 0.0
    detail = (
        f"site {low:.4g} to {high:.4g} kB, frames of this run {mean:.4g} kB on average, {100 * error:+.1f} %"
    )
    tolerance = max(PAYLOAD_SHARE, 2 * (high - low) / middle / np.sqrt(12 * len(requests)) if middle else 0.0)
    return Check("payload", "size of the frames", abs(error) <= tolerance, detail)


def recalibrate(checks: Iterable[Check]) -> list[str]:
    """The parts to calibrate again; a link that changed is named alone, since it moves all latencies behind it."""
    failed = list(dict.fromkeys(c.part for c in checks if not c.ok))
    return failed
