"""The whole calibration: measure the device, the links and the servers, and make a site file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import numpy as np

from ... import __version__
from ...envs.absence import links_in_use, without_nodes
from ...envs.errors import InputError
from ...envs.scenario import scenario_dict
from ...envs.schema import LOCAL, Scenario
from ...envs.units import BYTES_PER_KB
from ...envs.validation import validated
from ..clock import Clock, SystemClock
from ..interfaces import Executor, Frame, HeadAndTail
from ..meters.meter import MeterError
from ..observer.levels import node_levels
from ..site_file import SiteFile
from .drafts import for_rehearsals
from .effort import Effort
from .heads import enter_head, heads_at_work
from .job import Job, Tell, Wanted
from .ledger import Ledger
from .link_entry import LINK_NUMBERS, calibrate_link, link_path, with_room
from .local import DeviceTurns, measure_heat
from .node_entry import calibrate_node
from .payload import measure_payload
from .power import KEYS as ENERGY_KEYS
from .power import device_meter, head_key, measure_energy
from .statistics import bootstrapped


@dataclass(frozen=True)
class Calibration:
    """A finished one: the site file's content, and remarks for the user."""

    site: SiteFile
    notes: list[str]


async def calibrate(
    wanted: Wanted,
    executors: Mapping[str, Executor],
    frames: Sequence[Frame],
    effort: Effort,
    tell: Tell,
    clock: Clock | None = None,
) -> Calibration:
    """Measure everything and put the site file together.

    Args:
        wanted: base, deployment, assumptions.
        executors: one per placement, not yet started; started and closed here.
        frames: real frames at the site's size.
        effort: how long to measure.
        tell: called with what is measured next.
        clock: dates the result.

    Raises:
        InputError: something could not be measured and was not assumed; names every such number and the option that
            gives it.
    """
    if wanted.base.world_clock != "time":
        raise InputError(
            f"'{wanted.base_name}' counts its world in requests (world_clock: request), and a device lives in seconds. "
            "Take a base with world_clock: time, such as metro."
        )
    good = [f for f in frames if f.rgb is not None]
    if not good:
        raise InputError(f"None of {len(frames)} images of {wanted.images} is one: nothing to measure with.")
    gone = [name for name in wanted.base.nodes if name not in wanted.deployment.servers]
    content = without_nodes(scenario_dict(wanted.base), gone)
    parts = wanted.parts
    links = links_in_use(validated(Scenario, content, wanted.base_name)) if "links" in parts else ()
    for name in links:
        with_room(content, name, _path(wanted, name))
    ledger = Ledger(content, dict(wanted.assumptions), wanted.kept)
    for name in gone:
        _note_absent(ledger, name)
    scenario = validated(Scenario, ledger.scenario, f"{wanted.base_name} with --assume")
    job = Job(ledger, wanted, scenario, good, effort, tell)
    async with AsyncExitStack() as stack:
        await _start(job, executors, stack)
        if effort.runtime or effort.at_work:
            sent_kb = {
                name: executor.payload_bytes(good[0]) / BYTES_PER_KB
                for name, executor in executors.items()
                if isinstance(executor, HeadAndTail)
            }
            job = replace(job, rehearsed=for_rehearsals(scenario, wanted.deployment, sent_kb))
        if effort.runtime and ("nodes" in parts or not effort.at_work):
            job = replace(job, overhead_ms=await _overhead(job))
        remote = {
            p.name: executors[p.name] for p in scenario.placements if p.node != LOCAL and p.node not in gone
        }
        frames_sent = {
            p.name: remote[p.name] for p in scenario.placements if p.name in remote and p.split is None
        }
        device = executors[scenario.placements[0].name]
        turns = DeviceTurns(job, device) if "device" in parts else None
        if turns:
            await turns.take()
        for name in links:
            await _link(job, name)
        if turns:
            await turns.take()
        if "nodes" in parts:
            measure_payload(ledger, frames_sent, good, wanted.images, effort.images)
            for name in (n for n in scenario.nodes if n not in gone):
                await calibrate_node(job, name, remote)
        if turns:
            await turns.take()
            turns.enter()
            await _rest_of_device(job, device, remote)
    ledger.check_complete()
    ledger.assume_rest(f"the base scenario's number ({wanted.base_name})")
    return Calibration(_site(ledger, wanted, clock or SystemClock()), ledger.notes)


async def _overhead(job: Job) -> tuple[float, ...]:
    """What the runtime adds to a frame, ms; as a note, because the scenario has no number for it."""
    job.tell("the runtime with stand-ins")
    rate_per_s = 1 / job.gap_s if job.gap_s > 0 else 10.0
    records = await job.rehearse(job.effort.runtime, rate_per_s, stand_in=True)
    times = np.array([r.overhead_ms for r in records])
    found = bootstrapped(times, np.mean)
    job.ledger.notes.append(
        f"The runtime itself adds {found.value:.3g} ms to a frame [{found.low:.3g}, {found.high:.3g}, "
        f"n {found.count}], measured with stand-ins: part of every measured service time."
    )
    return tuple(times.tolist())


async def _start(job: Job, executors: Mapping[str, Executor], stack: AsyncExitStack) -> None:
    """Load models and connect, everything before anything is measured."""
    for name, executor in executors.items():
        job.tell(f"starting {name}")
        stack.push_async_callback(executor.close)
        await executor.start()


def _note_absent(ledger: Ledger, node: str) -> None:
    ledger.derived(f"nodes.{node}.availability.probability", 0.0, "the deployment names no server of it")
    ledger.notes.append(
        f"{node} is absent: the deployment leaves it out. Its numbers are the base scenario's, none was measured, and "
        "its placements are never used."
    )


async def _link(job: Job, name: str) -> None:
    """Measure a link; where that fails, note what is missing."""
    path = _path(job.wanted, name)
    try:
        await calibrate_link(job, name, path)
    except InputError as error:
        job.ledger.could_not([f"{path}.{number}" for number in LINK_NUMBERS], str(error))


def _path(wanted: Wanted, link: str) -> str:
    return link_path(wanted.base, link, wanted.condition, wanted.keep_links)


async def _rest_of_device(job: Job, device: Executor, remote: Mapping[str, Executor]) -> None:
    """Heat and energy; heads of split models where no node has brought them along."""
    splits = {
        i: e
        for i, p in enumerate(job.scenario.placements)
        if isinstance(e := remote.get(p.name), HeadAndTail)
    }
    if "nodes" not in job.wanted.parts:
        for index, split in splits.items():
            enter_head(job.ledger, index, split, await heads_at_work(job, split.placement), job.frames[0])
    await measure_heat(job, device)
    await _energy(job, device, splits)


async def _energy(job: Job, executor: Executor, splits: Mapping[int, HeadAndTail]) -> None:
    """Energy of the device at rest and of placement 0, where a meter is; that of the heads of split models too."""
    try:
        meter = device_meter(job.deployment.meters)
        if meter is None:
            job.ledger.notes.append(
                "No meter of the device is named under deployment.meters: its idle power and the energy of an "
                "inference are the base scenario's, assumed. `carbonpilot doctor` lists the meters of this machine."
            )
            return
        await measure_energy(job, meter, executor, splits)
    except MeterError as error:
        job.ledger.could_not([*ENERGY_KEYS, *map(head_key, splits)], str(error))


def _site(ledger: Ledger, wanted: Wanted, clock: Clock) -> SiteFile:
    """Check everything together."""
    scenario = validated(Scenario, ledger.scenario, "the calibrated scenario")
    content = {
        "schema": "carbonpilot/site/1",
        "scenario": scenario_dict(scenario),
        "deployment": wanted.deployment.model_dump(mode="json", exclude_none=True),
        "provenance": {
            "measured_utc": clock.utc().isoformat(timespec="seconds"),
            "carbonpilot_version": __version__,
            "numbers": {k: v.model_dump(exclude_none=True) for k, v in sorted(ledger.numbers.items())},
            "node_levels": {k: v.model_dump() for k, v in node_levels(scenario).items()},
        },
    }
    return validated(SiteFile, content, "the calibrated site")
