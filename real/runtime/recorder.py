"""Accounts for frames: charges them, has their line written, and tells whoever counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ...envs.schema import LOCAL, Scenario
from ..log_records import CHARGED, NOT_CHARGED, FrameRecord, Record
from .accounts import Accounts, Charge
from .calls import Call
from .frame_record import frame_record
from .meters import Meters
from .payloads import Payloads
from .story import Story
from .world import World

log = logging.getLogger(__name__)
UNKNOWN = Charge(**dict.fromkeys(CHARGED))  # where the account itself failed


class FrameRecorder:
    """Makes the record of each frame; see `engine.Recorder`.

    Args:
        scenario: the site's.
        accounts: charges.
        world: what is known of grids, loads and links.
        meters: correct the device's energy.
        put: takes the record for the log.
        tell: further takers, which must be quick; one that fails is told of and costs nobody anything.
        began_s: when the run began, on the clock.
    """

    def __init__(
        self,
        scenario: Scenario,
        accounts: Accounts,
        world: World,
        meters: Meters,
        put: Callable[[Record], None],
        tell: Sequence[Callable[[FrameRecord], None]],
        began_s: float,
    ) -> None:
        self._accounts, self._world, self._meters = accounts, world, meters
        self._put, self._tell, self._began_s = put, tell, began_s
        self._slo_ms = scenario.slo.latency_ms
        self._names, self._payloads = [p.name for p in scenario.placements], Payloads(scenario)
        self._local = [p.name for p in scenario.placements if p.node == LOCAL]
        self._accuracy = {p.name: p.accuracy_miou for p in scenario.placements}
        self.faults = 0

    def record(self, story: Story) -> FrameRecord:
        """Account for a frame whose calls have ended, and have it logged."""
        surroundings = self._world.seen.surroundings
        basis = self._meters.basis
        for call in story.calls:
            if (span := self._on_the_device(call)) is not None:
                self._meters.note(call.placement, *span)
        try:
            charge = self._accounts.charge(story.calls, story.gap_s, surroundings, self._meters.correction)
        except Exception:
            self.faults += 1
            log.exception("Frame %d could not be charged; its line says so.", story.number)
            charge, basis = UNKNOWN, NOT_CHARGED
        record = frame_record(
            story,
            run_began_s=self._began_s,
            slo_ms=self._slo_ms,
            placements=self._names,
            payload_kb=self._payload_kb(story),
            charge=charge,
            carbon_g_per_kwh=surroundings.carbon_g_per_kwh,
            accuracy=self._accuracy,
            energy_basis=basis,
        )
        self._put(record)
        for taker in self._tell:
            try:
                taker(record)
            except Exception:
                self.faults += 1
                log.exception("A taker of frame records failed; frames go on.")
        return record

    def _on_the_device(self, call: Call) -> tuple[float, float] | None:
        """From when to when the device computed for a call."""
        if call.began_s is None or not (call.split or call.placement in self._local):
            return None
        until_s = call.headed_s if call.headed_s is not None else call.ended_s
        return None if until_s is None else (call.began_s, until_s)

    def _payload_kb(self, story: Story) -> float:
        """Of the placement wanted; of the largest where that is the device or splits the model."""
        judged = story.judgement
        wanted = None if judged is None else judged.wanted or judged.placement
        return self._payloads.of_kb(story.payload_bytes, wanted)
