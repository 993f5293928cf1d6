"""The whole comparison: read a log, make tapes of it, play them, judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.schema import Placement, Scenario
from ...envs.units import MS_PER_S
from ..site_file import SiteFile
from .checks import Check, link_checks, payload_check, placement_checks, recalibrate
from .compare import Comparison, comparison
from .conditions import Condition, conditions
from .meter_windows import MeterFigure, meter_figures
from .regret import Hindsight, Regret, regret
from .replay import Played, joined, play
from .run_log import RunLog, read_runs
from .served import Served, served
from .tape_of_log import RecordedTape, tape_of_log
from .world import world_between

DRAWS = 64
MOST_REQUESTS = (
    2000  # of one tape: bounds memory; a longer run is played in stretches with empty queues at each start
)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Stretch:
    """Some thousand requests of one run with what was found about them."""

    run: str
    requests: Served
    conditions: list[Condition]
    recorded: RecordedTape
    unmeasured_s: int

    @property
    def second(self) -> npt.NDArray[np.int64]:
        """Second of the tape in which each request was sent (N,)."""
        ms = self.requests.arrival_ms - self.requests.arrival_ms[0]
        return (ms / MS_PER_S).astype(np.int64)


@dataclass(frozen=True)
class Verification:
    """What verify found.

    Attributes:
        scenario: the site's.
        cells: each placement under each condition, in time.
        totals: each placement over everything that is calibrated.
        checks: of placements, links, payloads.
        meters: windows of meters against the same requests.
        regret: None where the grid was unknown or nobody asked.
        requests: all of them.
        played: the prediction.
        notes: what limits all this.
    """

    scenario: Scenario
    cells: list[Comparison]
    totals: list[Comparison]
    checks: list[Check]
    meters: list[MeterFigure]
    regret: Regret | None
    requests: Served
    played: Played
    notes: list[str]

    @property
    def ok(self) -> bool:
        """Whether the site file still fits."""
        return all(c.ok for c in self.checks)

    @property
    def recalibrate(self) -> list[str]:
        """Dotted keys to calibrate again."""
        return recalibrate(self.checks)


def verify_log(
    log: str | Path,
    site: SiteFile,
    seed: int = 0,
    draws: int = DRAWS,
    hindsight: Hindsight | None = None,
    tell: Progress | None = None,
) -> Verification:
    """Verify a log; see docs/verify.md.

    Raises:
        InputError: no log, a broken line, another site's log, or nothing in it to compare.
    """
    if draws < 2:
        raise InputError(f"--draws must be at least 2, got {draws}: one draw has no interval.")
    where = str(log)
    scenario = site.scenario
    stretches, energies = [], []
    for number, run in enumerate(read_runs(log, site)):
        stretches += _stretches(run, scenario, draws, (seed, number), where)
        energies += [(run.header.run, e) for e in run.energies]
    plays = []
    for i, s in enumerate(stretches):
        plays.append(play(s.recorded.scenario, s.recorded.tape, s.recorded.actions))
        if tell is not None:
            tell("playing the log", i + 1, len(stretches))
    played = joined(plays)
    cells, totals = _cells(scenario, stretches, played), _totals(scenario, stretches, played)
    requests = _all(stretches)
    checks = [
        *placement_checks(scenario, totals),
        *link_checks(scenario, [c for s in stretches for c in s.conditions]),
        payload_check(scenario, requests),
    ]
    known = all(s.recorded.carbon_known for s in stretches)
    found = None
    if hindsight is not None and known:
        found = regret([s.recorded for s in stretches], hindsight)
    notes = _notes(stretches, requests, hindsight is not None and not known, totals, site)
    meters = meter_figures(energies, stretches, plays)
    return Verification(scenario, cells, totals, checks, meters, found, requests, played, notes)


def _stretches(
    run: RunLog, scenario: Scenario, draws: int, seed: tuple[int, int], where: str
) -> list[Stretch]:
    names = [p.name for p in scenario.placements]
    everything = served(run.frames, names, where)
    found = []
    for first in range(0, len(everything), MOST_REQUESTS):
        part = everything.part(np.arange(first, min(first + MOST_REQUESTS, len(everything))))
        start_ms, end_ms = float(part.arrival_ms[0]), float(part.arrival_ms[-1]) + 1.0
        world = world_between(run.worlds, start_ms, end_ms, where)
        alike = conditions(world)
        recorded = tape_of_log(scenario, part, world, alike, draws, (*seed, first), where)
        found.append(Stretch(run.header.run, part, alike, recorded, world.unmeasured_s))
    if found:  # what no request carries
        head = found[0].requests
        counted = replace(head, unanswered=everything.unanswered, failed=everything.failed)
        found[0] = replace(found[0], requests=counted)
    return found


def _cells(scenario: Scenario, stretches: list[Stretch], played: Played) -> list[Comparison]:
    """Each placement under each condition."""
    out, first = [], 0
    for s in stretches:
        rows = slice(first, first + len(s.requests))
        first = rows.stop
        for k, condition in enumerate(s.conditions):
            inside = (s.second >= condition.start_s) & (s.second < condition.end_s) & ~s.requests.second
            for a, p in enumerate(scenario.placements):
                node = scenario.nodes.get(p.node)
                basis = "calibrated" if node is None else s.recorded.links[node.link].basis[k]
                chosen = inside & (s.requests.placement == a)
                cell = _compared(p, condition.name, basis, chosen, s.requests, played.part(rows))
                out += [] if cell is None else [cell]
    return out


def _totals(scenario: Scenario, stretches: list[Stretch], played: Played) -> list[Comparison]:
    """Each placement over all seconds in which its link was as calibrated."""
    requests = _all(stretches)
    out = []
    for a, p in enumerate(scenario.placements):
        node = scenario.nodes.get(p.node)
        good = np.concatenate([_calibrated(s, None if node is None else node.link) for s in stretches])
        chosen = good & ~requests.second & (requests.placement == a)
        total = _compared(p, "all", "calibrated", chosen, requests, played)
        out += [] if total is None else [total]
    return out


def _compared(
    p: Placement, condition: str, basis: str, chosen: npt.NDArray[np.bool_], requests: Served, played: Played
) -> Comparison | None:
    latency, energy = (requests.latency_ms, played.latency_ms), (requests.energy_j, played.energy_j)
    parts = None
    if p.split is not None:
        rest, predicted = (r.latency_ms - r.device_wait_ms - r.head_ms for r in (requests, played))
        parts = (requests.head_ms, played.head_ms), (rest, predicted)
    return comparison(p.name, condition, basis, chosen, latency, energy, parts)


def _calibrated(s: Stretch, link: str | None) -> npt.NDArray[np.bool_]:
    """Requests (N,) that met the calibrated link, open."""
    if link is None:
        return np.ones(len(s.requests), dtype=bool)
    good = np.zeros(len(s.requests), dtype=bool)
    for condition, basis in zip(s.conditions, s.recorded.links[link].basis, strict=True):
        if basis == "calibrated" and np.isfinite(condition.rtt_ms[link]):
            good |= (s.second >= condition.start_s) & (s.second < condition.end_s)
    return good


def _all(stretches: list[Stretch]) -> Served:
    parts = [s.requests for s in stretches]
    arrays = {
        name: np.concatenate([getattr(p, name) for p in parts])
        for name in vars(parts[0])
        if name not in ("unanswered", "failed")
    }
    return Served(**arrays, unanswered=sum(p.unanswered for p in parts), failed=sum(p.failed for p in parts))


def _notes(
    stretches: list[Stretch], requests: Served, no_regret: bool, totals: list[Comparison], site: SiteFile
) -> list[str]:
    """What limits the comparison, in sentences."""
    notes = []
    if requests.unanswered:
        notes.append(f"{requests.unanswered} frames have no result and are left out.")
    if requests.second.any():
        notes.append(
            f"{int(requests.second.sum())} frames were answered by a second call (failure, deadline or hedge): "
            "they are played where they were answered, but not judged."
        )
    if (uncharged := int(np.isnan(requests.energy_j).sum())) > 0:
        notes.append(
            f"{uncharged} frames could not be charged (an error of the run's own account): their energy is unknown."
        )
    silent = sum(s.unmeasured_s for s in stretches)
    if silent:
        notes.append(f"{silent} s have no line about the world; each takes over the second before it.")
    for node in sorted({n for s in stretches for n in s.recorded.unknown}):
        notes.append(
            f"The load of '{node}' was not always known; where it was not, no other tenants are assumed."
        )
    if no_regret:
        notes.append(
            "A grid's intensity was unknown for a while, so there is no regret: carbon is not made up."
        )
    few = [f"{t.placement} ({t.count})" for t in totals if not t.judged]
    used = {t.placement for t in totals}
    there = [p.name for p in site.scenario.placements if p.node not in site.absent]
    few += [f"{name} (0)" for name in there if name not in used]
    for node in site.absent:
        notes.append(f"{node} is absent: the site file leaves it out, and hindsight does not use it either.")
    if few:
        notes.append(f"Too few requests on the calibrated link to judge: {', '.join(few)}.")
    return notes
