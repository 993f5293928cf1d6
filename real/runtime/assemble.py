"""Puts a run together: site file -> probes, feeds, meters, observer, shield, executors, engine."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from pathlib import Path

from ... import __version__
from ...envs.scenario import scenario_sha256
from ..clock import Clock
from ..log_records import Header
from ..observer import MeasuredThrottle, Observer, site_levels
from ..shield.shield import Shield
from ..site_file import SiteFile
from .accounts import Accounts
from .checked import Checked, carried
from .checks import check_activations, policy_note
from .engine import Engine
from .log_files import LogFiles
from .log_writer import LogWriter
from .masks import MaskWriter
from .meters import Meters
from .mind import RuntimeMind
from .options import RunOptions
from .recorder import FrameRecorder
from .savings import Savings
from .status import Status
from .story import Result
from .world import World

log = logging.getLogger(__name__)


def absent_told(site: SiteFile, node: str) -> str:
    """What an absent node means, for the log and the user."""
    names = [p.name for p in site.scenario.placements if p.node == node]
    return f"the site file leaves it out: {', '.join(names) or 'no placement'} never used, nothing of it is probed"


class Run:
    """A run: `start`, then `engine.offer` frames, then `stop`.

    Args:
        options: what is asked for.
        checked: of `check`.
        clock: tells the time.
        on_result: is handed the result of each frame, once, in the event loop's thread; it must be quick.
    """

    def __init__(
        self,
        options: RunOptions,
        checked: Checked,
        clock: Clock,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        self.options, self.checked, self.clock = options, checked, clock
        self._on_result = on_result
        self.address: str | None = None

    async def start(self) -> Engine:
        """Start executors, then everything else; returns the engine.

        Raises:
            InputError: a model or server is missing or another one, the log or the address is taken.
        """
        self.checked.ends.add("feeds", self.checked.feeds.stop)
        self.checked.feeds.start()
        await self._start_executors()
        try:
            await self.checked.feeds.check_access()
            self._build()
            self._begin()
        except BaseException:
            await self._close_executors()
            self.checked.ends.close()
            raise
        return self.engine

    async def stop(self) -> None:
        """Drain the engine, end every part, flush the log; nothing of it can fail the run any more."""
        await self.engine.drain(self.options.drain_s)
        t = self.engine.totals
        self.event("run-ended", "run", f"{t.offered} frames, {t.delivered} results, {t.recorded} lines")
        await self._close_executors()
        await asyncio.to_thread(self.checked.ends.close)

    def event(self, event: str, subject: str, detail: str) -> None:
        """Have an event logged."""
        self.world.event(event, subject, detail)

    # Parts.

    async def _start_executors(self) -> None:
        began = [asyncio.ensure_future(e.start()) for e in self.checked.executors.values()]
        try:
            await asyncio.gather(*began)
            check_activations(self.checked.site, self.checked.executors)
        except BaseException:
            for task in began:
                task.cancel()
            await asyncio.gather(*began, return_exceptions=True)
            await self._close_executors()
            self.checked.ends.close()
            raise

    async def _close_executors(self) -> None:
        for name, executor in self.checked.executors.items():
            try:
                await asyncio.wait_for(executor.close(), 5.0)
            except Exception as err:
                log.error("%s did not close: %s", name, err)

    def _build(self) -> None:
        options, checked, clock = self.options, self.checked, self.clock
        scenario = checked.site.scenario
        began_s = self.began_s = clock.monotonic_s()
        header = self.header = self._header()
        levels = site_levels(checked.site)
        throttle = MeasuredThrottle(scenario.device.throttling, Path("/sys"))
        requests = scenario.episode.requests
        observer = Observer(checked.shown, levels, throttle, carried(checked.before, requests))
        shield = Shield(checked.policy, scenario, fallback=options.fallback, doubts=lambda: observer.doubts)
        ends = checked.ends
        takers = []
        if options.tensorboard is not None:
            from .curves import Curves

            curves = Curves(options.tensorboard, header)
            ends.add("curves", curves.close)
            takers.append(curves)
        files = LogFiles(
            options.folder_of_log, header, options.log_file_bytes, options.log_files, locked=True
        )
        self.log = LogWriter(files, clock, began_s, takers)
        ends.add("log", self.log.close)
        self.masks = None if options.masks is None else MaskWriter(options.masks)
        if self.masks is not None:
            ends.add("masks", self.masks.close)
        self.meters = Meters(checked.meters, scenario, clock, began_s, self.log.put)
        self.mind = RuntimeMind(
            scenario, observer, shield, checked.probes.transfers, self._note_own, clock, began_s,
            options.mode,
        )  # fmt: skip
        self.world = World(
            scenario, checked.probes, checked.feeds, observer, clock, began_s, self.log.put, self.mind.breakers,
            lambda: self.engine.in_flight, self.meters.look, self.mind.placements,
            self.mind.troubles,
        )  # fmt: skip
        savings = Savings(scenario, checked.table, options.mode)
        self.status = Status(
            header,
            self.world,
            savings,
            lambda: self.engine.totals,
            lambda: self.log.state,
            lambda: self.meters.silent,
        )
        tell = [savings.add, self.status.take]
        self.server = None
        if options.listen is not None:
            from .http_server import StatusServer
            from .metrics import Metrics

            metrics = Metrics(
                header, self.world, savings, lambda: self.log.state, lambda: self.faults, self.mind.masked
            )
            tell.append(metrics.count)
            self.server = StatusServer(options.listen, metrics.page, self.status.content)
            self.address = self.server.address
            ends.add("status page", self.server.stop)
        accounts = Accounts(scenario, levels)
        self.recorder = FrameRecorder(
            scenario, accounts, self.world, self.meters, self.log.put, tell, began_s
        )
        self.engine = Engine(
            checked.executors,
            self.mind,
            self.recorder,
            clock,
            mode=options.mode,
            limits=options.limits(scenario.slo.latency_ms),
            queue=options.queue,
            first_number=checked.before.next_frame,
            on_result=self._take_result,
        )

    def _header(self) -> Header:
        checked, scenario = self.checked, self.checked.site.scenario
        return Header(
            carbonpilot_version=__version__,
            run=f"{self.clock.utc():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
            part=0,
            started_utc=self.clock.utc().isoformat(),
            started_monotonic_s=self.began_s,
            mode=self.options.mode,
            scenario=scenario.name,
            scenario_sha256=scenario_sha256(scenario),
            table_sha256=checked.table.sha256,
            bundle=checked.policy_name,
            card_sha256=checked.card_sha256,
            slo_ms=scenario.slo.latency_ms,
            placements=[p.name for p in scenario.placements],
            features=checked.table.names,
            providers={name: e.provider for name, e in checked.executors.items()},
            first_frame=checked.before.next_frame,
        )

    def _begin(self) -> None:
        ends = self.checked.ends
        self.log.start()
        for what, start, stop in (
            ("meters", self.meters.start, self.meters.stop),
            ("probes", self.checked.probes.start, self.checked.probes.stop),
            ("world", self.world.start, self.world.stop),
        ):
            ends.add(what, stop)
            start()
        for told in self.checked.repaired:
            log.warning("%s", told)
            self.event("log-repaired", "log", told)
        for node in self.checked.site.absent:
            self.event("absent", f"node {node}", absent_told(self.checked.site, node))
        note = policy_note(self.checked.policy, self.checked.site.scenario)
        if note is not None:
            log.info("%s", note)
            self.event("policy-note", "policy", note)
        if self.server is not None:
            self.server.start()

    @property
    def faults(self) -> int:
        """Errors of our own code so far."""
        return self.engine.totals.faults + self.recorder.faults + self.world.faults

    def _note_own(self, placement: str) -> None:
        """A node's load is what the others ask for: tell its probe of an answer of ours."""
        p = next(p for p in self.checked.site.scenario.placements if p.name == placement)
        load, model = (
            self.checked.probes.loads.get(p.node),
            self.checked.site.deployment.remote.get(placement),
        )
        if load is not None and model is not None:
            load.note_own(model.model)

    def _take_result(self, result: Result) -> None:
        if self.masks is not None:
            self.masks.take(result)
        if self._on_result is not None:
            self._on_result(result)
