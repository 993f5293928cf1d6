"""What every part of a calibration works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ...envs.schema import Scenario
from ..interfaces import Frame
from ..log_records import FrameRecord
from ..site_file import Deployment, Measured, SiteFile
from .effort import Effort
from .ledger import Ledger
from .rehearsal import rehearse

Tell = Callable[[str], None]
Part = Literal["device", "links", "nodes"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Wanted:
    """What to calibrate.

    Attributes:
        base: structure and assumptions.
        base_name: what it is called in the provenance.
        deployment: where everything is, with paths relative to ``folder``.
        folder: of the site file.
        assumptions: dotted key -> value.
        condition: of links that switch between named conditions, the one that is there now; None: links become
            constant as measured.
        keep_links: links keep the base's source; what is measured is only told.
        images: what the frames are, for the provenance.
        parts: what to measure.
        kept: numbers that were measured or assumed before, by dotted key; they stand where nothing is measured again.
    """

    base: Scenario
    base_name: str
    deployment: Deployment
    folder: Path
    assumptions: Mapping[str, Any]
    condition: str | None
    keep_links: bool
    images: str
    parts: frozenset[Part] = frozenset(PARTS)
    kept: Mapping[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A calibration under way.

    Attributes:
        ledger: takes the numbers.
        wanted: what to calibrate.
        scenario: the base with its assumptions.
        frames: good ones.
        effort: how long to measure.
        tell: called with what is measured next.
        overhead_ms: what the runtime added to frames when that was measured; part of every service time.
        rehearsed: the site so far, for frames that go through the runtime; None where none do.
    """

    ledger: Ledger
    wanted: Wanted
    scenario: Scenario
    frames: Sequence[Frame]
    effort: Effort
    tell: Tell
    overhead_ms: tuple[float, ...] = (0.0,)
    rehearsed: SiteFile | None = None

    async def rehearse(
        self, frames: int, rate_per_s: float, placement: str | None = None, stand_in: bool = False
    ) -> list[FrameRecord]:
        """Frames through the runtime, see `rehearsal.rehearse`.

        Raises:
            InputError: the runtime did not run.
        """
        assert self.rehearsed is not None
        folder = self.wanted.folder
        return await rehearse(
            self.rehearsed, folder, frames, rate_per_s, placement=placement, stand_in=stand_in
        )

    def with_overhead(self, times_ms: Sequence[float]) -> list[float]:
        """Times with the runtime's own, each with one that was measured."""
        drawn = np.random.default_rng(0).choice(self.overhead_ms, len(times_ms))
        return [t + float(d) for t, d in zip(times_ms, drawn, strict=True)]

    @property
    def deployment(self) -> Deployment:
        """Where everything is."""
        return self.wanted.deployment

    @property
    def gap_s(self) -> float:
        """Mean time between the camera's frames, s; 0 where the next one waits for the last."""
        arrivals = self.scenario.arrivals
        if arrivals.kind == "closed_loop":
            return 0.0
        if arrivals.kind == "trace":
            return 1.0 / arrivals.mean_per_s
        return 2.0 / (arrivals.low_per_s + arrivals.high_per_s)
