"""What a link does in an episode, from whichever source the scenario names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .compiling import compiled
from .errors import InputError
from .schema import (
    GeneratedLink,
    LinkPhase,
    LinkSource,
    LoadPhase,
    PhasedLink,
    SwitchedLink,
    TraceLink,
    UplinkRange,
)
from .streams import Stream
from .units import MS_PER_S
from .world_types import F32, LinkWorld

if TYPE_CHECKING:
    from .traces.library import NetworkLibrary


@dataclass
class LinkRows:
    """A link world with its rate in Mbit/s (S, B)."""

    world: LinkWorld
    rate_mbps: F32


def phase_of_row(phases: list[LinkPhase] | list[LoadPhase], rows: int, warmup: int) -> np.ndarray:
    """Index of the phase that each row lies in (rows,); warm-up rows belong to the first phase."""
    ends = np.array([np.inf if p.until is None else p.until for p in phases])
    position = np.maximum(np.arange(rows) - warmup, 0)
    return np.minimum(np.searchsorted(ends, position, side="right"), len(phases) - 1)


def draw_link(
    source: LinkSource,
    stream: Stream,
    rows: int,
    warmup: int,
    part: str,
    traces_dir: Path | None,
) -> LinkRows:
    """Draw one link for a batch of episodes.

    Args:
        source: the scenario's link source.
        stream: random stream of this link.
        rows: rows wanted, warm-up included.
        warmup: rows before the episode starts.
        part: "training" or "evaluation"; trace files differ between them.
        traces_dir: trace folder, needed by trace links.
    """
    batch = stream.keys.size
    if isinstance(source, PhasedLink):
        return _phased(source, rows, warmup, batch)
    if isinstance(source, SwitchedLink):
        from .switched_links import draw_switched

        return LinkRows(*draw_switched(source, stream, rows))
    median = _median_mbps(source.uplink_median, stream)
    if isinstance(source, GeneratedLink):
        from .generate_links import generate_link

        world = generate_link(dict(source.families), stream, rows, batch)
    else:
        world = _library(source, part, traces_dir).draw_windows(stream, rows, batch)
    return LinkRows(world, world.rate_shape * median)


def _median_mbps(span: UplinkRange, stream: Stream) -> F32:
    """Episode median of the uplink, log-uniform (B,)."""
    low, high = np.log(span.low_mbps), np.log(span.high_mbps)
    return np.exp(np.float32(low) + np.float32(high - low) * stream.uniform())


def _phased(source: PhasedLink, rows: int, warmup: int, batch: int) -> LinkRows:
    index = phase_of_row(source.phases, rows, warmup)

    def column(values: list[float]) -> F32:
        return np.repeat(np.array(values, dtype=np.float32)[index][:, None], batch, axis=1)

    world = LinkWorld(
        rtt_ms=column([p.rtt_ms for p in source.phases]),
        jitter_ms=column([p.jitter_ms for p in source.phases]),
        loss=column([p.loss_pct / 100 for p in source.phases]),
        rate_shape=np.ones((rows, batch), dtype=np.float32),
        blocked=np.zeros((rows, batch), dtype=bool),
        valid_rows=np.full(batch, rows),
    )
    return LinkRows(world, column([p.rate_mbps for p in source.phases]))


_LIBRARIES: dict[tuple, NetworkLibrary] = {}


def _library(source: TraceLink, part: str, traces_dir: Path | None) -> NetworkLibrary:
    """Load a trace library once per process."""
    from .traces.library import NetworkLibrary, assert_disjoint

    folder = require_traces(traces_dir)
    patterns = source.training if part == "training" else source.evaluation
    key = (str(folder.resolve()), tuple(patterns))
    if key not in _LIBRARIES:
        assert_disjoint(source.training, source.evaluation, folder)
        _LIBRARIES[key] = NetworkLibrary.load(folder, patterns)
    return _LIBRARIES[key]


def require_traces(traces_dir: Path | None) -> Path:
    """The trace folder, or the error that says how to give one."""
    if traces_dir is None:
        raise InputError(
            "This scenario reads trace files, and no trace folder was given. "
            "Add --traces DIR (traces_dir=DIR in Python), or use the scenario's generated sibling."
        )
    return traces_dir


def blocked_until_ms(blocked: np.ndarray, warmup: int) -> F32:
    """When a blocked second's stall ends (S, B), ms; zero where nothing is blocked."""
    out = np.zeros(blocked.shape, dtype=np.float32)
    if blocked.any():
        _mark_stalls(blocked, warmup, out)
    return out


@compiled
def _mark_stalls(blocked: np.ndarray, warmup: int, out: F32) -> None:
    end = np.full(blocked.shape[1], blocked.shape[0])
    for s in range(blocked.shape[0] - 1, -1, -1):
        for b in range(blocked.shape[1]):
            if blocked[s, b]:
                out[s, b] = (end[b] - warmup) * MS_PER_S
            else:
                end[b] = s
