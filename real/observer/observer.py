"""The device's own observation: the simulator's feature table, filled from probes, feeds and own requests.

What changes with every request is worked out by the simulator's own functions (`envs.request_features`,
`envs.next_request`, `envs.beliefs`) on the same fields; a test drives both with one episode and compares.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs.beliefs import believe_computing, believe_sending
from ...envs.next_request import advance
from ...envs.records import EPISODE, LINK, LONG_AGO_MS, NODE, SITE
from ...envs.request_features import request_features
from ...envs.schema import LOCAL, Scenario
from ...envs.site_record import site_record
from ..probes.loop import ProbeSnapshot
from ..site_file import NodeLevels
from .throttle import MeasuredThrottle, Throttle
from .view import Doubts, SecondView, ViewMaker, ZoneReading

_multiply, _maximum, _minimum = np.multiply, np.maximum, np.minimum


@dataclass(frozen=True)
class Carried:
    """What a restart goes on with; see docs/shield.md, "The budget of misses".

    Attributes:
        frames: frames so far of the block that was under way.
        missed: misses among them.
        recent_miss_rate: smoothed share of misses.
    """

    frames: int = 0
    missed: float = 0.0
    recent_miss_rate: float = 0.0


@dataclass(frozen=True)
class DeviceState:
    """The device's heat and speed.

    Attributes:
        heat: low-pass of its utilisation, as the simulator's.
        throttled: it runs slowed down, by its own service times or the kernel.
    """

    heat: float
    throttled: bool


class Attempt:
    """A request under way at one placement; made by `Observer.placed`."""

    __slots__ = ("computing", "link", "node", "placed_ms", "placement", "sending")

    def __init__(self, placement: int, placed_ms: float, link: int | None, node: int) -> None:
        """It was given away just now."""
        self.placement, self.placed_ms, self.link, self.node = placement, placed_ms, link, node
        self.sending, self.computing = link is not None, link is None


@lru_cache
def _kind(names: tuple[str, ...]) -> type:
    return type("Record", (), {"__slots__": names})


def _record(dtype: np.dtype, values: Any = None) -> Any:
    """The fields of a record of the physics as plain numbers, zero without values; slots are read fastest."""
    values = np.zeros(1, dtype)[0] if values is None else values
    record = _kind(dtype.names or ())()
    for name in dtype.names or ():
        setattr(record, name, values[name].item())
    return record


_PLACE = np.dtype([("remote", "u4"), ("link", "u4")])


class Observer:
    """Fills the observation table on the device; does no I/O.

    `refresh` belongs to a timer, once a second, and may run in another thread; all else belongs to the thread of the
    requests. Times are ms since the run began, on the clock that never jumps.

    For each frame: `observe`, then `placed` for every attempt (the decision's, a fallback's), `answered` when an
    attempt ends, `finished` when the frame has its result. A frame that comes to no decision is `skipped`.

    Args:
        scenario: the site's.
        levels: of every node (`levels.site_levels`).
        throttle: tells whether the device is slowed down; None: from its service times.
        carried: what an earlier process left.
    """

    def __init__(
        self, scenario: Scenario, levels: Mapping[str, NodeLevels], throttle: Throttle | None = None,
        carried: Carried | None = None,
    ) -> None:  # fmt: skip
        """Nothing is known yet: before the first `refresh` every feature of the telemetry is unknown."""
        carried = carried or Carried()
        self._maker = ViewMaker(scenario, levels)
        self.table = self._maker.table
        self._site = _record(SITE, site_record(scenario, self._maker.rows)[0])
        self._slo_ms, self._block = scenario.slo.latency_ms, scenario.episode.requests
        self._links = {(0, i): _record(LINK) for i in range(len(scenario.links))}
        self._nodes = {(0, k): _record(NODE) for k in range(1 + len(scenario.nodes))}
        for node in self._nodes.values():
            node.done_ms = node.answered_ms = LONG_AGO_MS
        self._newest: dict[int, Attempt] = {}  # unanswered, by node
        self._sending = [0] * len(scenario.links)
        self._tail_of: Attempt | None = None  # after whose bytes the radio's tail begins
        self._computing = 0
        names, links = [LOCAL, *scenario.nodes], list(scenario.links)
        self._node_of = [names.index(p.node) for p in scenario.placements]
        self._link_of = [
            None if p.node == LOCAL else links.index(scenario.nodes[p.node].link) for p in scenario.placements
        ]
        self._placements = [
            _record(_PLACE, np.array((link is not None, link or 0), _PLACE)) for link in self._link_of
        ]
        self._throttle: Throttle = throttle or MeasuredThrottle(scenario.device.throttling)
        self._episode = _record(EPISODE)
        self._episode.tail_until_ms = LONG_AGO_MS
        self._episode.n = self._episode.next_known = carried.frames
        self._episode.spent_misses, self._episode.recent_miss = carried.missed, carried.recent_miss_rate
        self._known_at: dict[tuple[int, int], float] = {}
        self._miss: dict[tuple[int, int], int] = {}
        self._block_start = -carried.frames
        self._begun = False
        self._prepare_encoding()
        self._view = self._maker.make(ProbeSnapshot(0.0, {}, {}, {}), {}, 0.0)

    def _prepare_encoding(self) -> None:
        first = self._site.features
        count = len(self.table) - first
        self._first = first
        self._raw = [0.0] * count
        self._packed = bytearray(4 * count)
        self._pack = struct.Struct(f"{count}f").pack_into
        self._single = np.frombuffer(self._packed, np.float32)
        self._factor = (np.float32(1.0) / self.table.scale)[first:]
        self._low, self._high = self.table.low[first:], self.table.high[first:]
        self._round = struct.Struct("f")

    # Once a second.

    def refresh(self, snapshot: ProbeSnapshot, zones: Mapping[str, ZoneReading], now_ms: float) -> None:
        """Take in what probes and feeds know by now.

        Args:
            snapshot: `ProbeLoop.latest`.
            zones: newest readings by zone of the scenario; a zone without one is missing.
            now_ms: now.
        """
        self._throttle.look()
        self._view = self._maker.make(snapshot, zones, now_ms)  # replaced whole: never half new

    @property
    def view(self) -> SecondView:
        """What is known by now of the world."""
        return self._view

    @property
    def doubts(self) -> Doubts:
        """What must not be relied on now."""
        return self._view.doubts

    # For each frame.

    def observe(
        self, now_ms: float, payload_kb: float, issued_ms: float | None = None
    ) -> npt.NDArray[np.float32]:
        """Begin a frame and return its encoded observation (F,), a fresh array.

        Args:
            now_ms: now; a frame must not be older than the one before.
            payload_kb: what offloading it would send.
            issued_ms: when the frame was there, if that was before now: its deadline counts from then.
        """
        self._begin(now_ms, now_ms if issued_ms is None else issued_ms)
        view, raw = self._view, self._raw
        # Unpacked again: in single precision, as on a tape.
        (payload_kb,) = self._round.unpack(self._round.pack(payload_kb))
        request_features(
            self._site, self._placements, self._episode, 0, self._links, self._nodes, view.believed, payload_kb,
            raw, 0,
        )  # fmt: skip
        self._pack(self._packed, 0, *raw)
        out = view.encoded.copy()
        part = out[self._first :]
        # What `envs.encoder.observe` does with one feature after the other.
        _multiply(self._single, self._factor, part)
        _maximum(part, self._low, out=part)
        _minimum(part, self._high, out=part)
        return out

    @property
    def frame(self) -> int:
        """Number of the newest frame, from 0 in this process; for `finished`."""
        return self._block_start + self._episode.n

    def placed(self, now_ms: float, placement: int, payload_kb: float) -> Attempt:
        """An attempt begins: the decision's, or a fallback's.

        Args:
            now_ms: now.
            placement: where it is executed (in shadow mode: not where the policy wanted).
            payload_kb: what it sends; of no account on the device.
        """
        e, link_number = self._episode, self._link_of[placement]
        attempt = Attempt(placement, now_ms, link_number, self._node_of[placement])
        if link_number is None:
            believe_computing(self._site, e, now_ms, self._view.believed[0, self._site.row_believed])
            self._computing += 1
            e.device_free_ms = math.inf
        else:
            (payload_kb,) = self._round.unpack(self._round.pack(payload_kb))
            link = self._links[0, link_number]
            rate_row = self._site.row_believed_rate + link_number
            believe_sending(link, now_ms, payload_kb, self._view.believed[0, rate_row])
            self._sending[link_number] += 1
            link.free_ms = math.inf
            if self._site.radio > 0.0:
                e.tail_until_ms, self._tail_of = math.inf, attempt
        self._newest[attempt.node] = attempt
        return attempt

    def sent(self, attempt: Attempt, now_ms: float) -> None:
        """An attempt's bytes have left; if that is not known, `answered` stands for it."""
        if attempt.sending and attempt.link is not None:
            attempt.sending = False
            self._sending[attempt.link] -= 1
            if not self._sending[attempt.link]:
                self._links[0, attempt.link].free_ms = now_ms
            if self._tail_of is attempt:
                self._episode.tail_until_ms = now_ms + self._site.tail_ms

    def answered(
        self,
        attempt: Attempt,
        now_ms: float,
        latency_ms: float | None = None,
        service_ms: float | None = None,
    ) -> None:
        """An attempt has ended: it was answered, failed or was given up; ending it twice changes nothing.

        Args:
            attempt: of `placed`.
            now_ms: now.
            latency_ms: what it took; None: since it was placed. A failure shows as the time that it took to fail.
            service_ms: measured computing time of an answer on the device, alone.
        """
        self.sent(attempt, now_ms)
        if attempt.computing:
            attempt.computing = False
            self._computing -= 1
            if not self._computing:
                self._episode.device_free_ms = now_ms
            if service_ms is not None:
                calibrated_ms = self._view.believed[0, self._site.row_believed + attempt.placement]
                self._throttle.served(now_ms, service_ms, calibrated_ms)
        if self._newest.get(attempt.node) is attempt:
            del self._newest[attempt.node]
            node = self._nodes[0, attempt.node]
            node.done_ms = now_ms
            node.pending_ms = now_ms - attempt.placed_ms if latency_ms is None else latency_ms

    def finished(self, frame: int, now_ms: float, missed: bool) -> None:
        """A frame has its result, or never will; without this it counts as missed from its deadline on.

        Args:
            frame: its number (`frame` right after `observe`).
            now_ms: when the result was there.
            missed: it came after the deadline, or not at all.
        """
        key = (frame - self._block_start, 0)
        if key in self._miss:  # otherwise its deadline has passed, and the miss is known already
            self._known_at[key] = min(self._known_at[key], now_ms)
            self._miss[key] = int(missed)

    def skipped(self, now_ms: float, missed: bool = True) -> None:
        """A frame comes to no decision: an image that is none, or a queue that is full. It counts for the budget."""
        self._begin(now_ms, now_ms)
        self.finished(self.frame, now_ms, missed)

    # For logs, the status page and a restart.

    def device_state(self) -> DeviceState:
        """Heat and speed as of the last frame."""
        return DeviceState(self._episode.heat, self._episode.throttled > 0.0)

    def features(self) -> dict[str, float]:
        """Value of every known feature at the last frame, in its unit; `unknown` names the others."""
        names = self.table.names[self._first :]
        shown = {f: self._view.raw[f] for f in self.table.names[: self._first] if f in self._view.raw}
        doubtful = {
            f"{p}_latency_ms"
            for p, why in zip(self._maker.placement_names, self._view.doubts.placements, strict=True)
            if why == "unknown"
        }
        return shown | {n: v for n, v in zip(names, self._raw, strict=True) if n not in doubtful}

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the features without a value; the vector shows the worst that their row can hold."""
        return self._view.unknown

    def carry(self) -> Carried:
        """What the next process needs to go on; frames without result count as missed."""
        e = self._episode
        open_misses = sum(
            self._miss[n, 0] for n in range(max(0, e.next_known), e.n + 1) if (n, 0) in self._miss
        )
        if not self._begun:
            return Carried(e.n, e.spent_misses, e.recent_miss)
        frames = e.n + 1
        if frames >= self._block:
            return Carried(0, 0.0, e.recent_miss)
        return Carried(frames, e.spent_misses + open_misses, e.recent_miss)

    # Frames and the budget.

    def _begin(self, now_ms: float, issued_ms: float) -> None:
        """Bring the state up to a new frame."""
        e = self._episode
        if self._begun:
            now_ms = max(now_ms, e.issued_ms)
            for k, attempt in self._newest.items():
                # It will be answered later than now; close to now, so that differences stay exact.
                node = self._nodes[0, k]
                node.pending_ms = 2.0 * (now_ms - attempt.placed_ms) + 1.0
                node.done_ms = attempt.placed_ms + node.pending_ms
            before = e.next_known
            advance(self._site, e, 0, self._nodes, self._known_at, self._miss, now_ms)
            for n in range(before, e.next_known):
                del self._known_at[n, 0]
                missed = self._miss.pop((n, 0))
                if n < 0:  # of the block before
                    e.spent_misses -= missed
            if e.n >= self._block:
                self._new_block()
        else:
            self._begun = True
            e.issued_ms = e.previous_ms = now_ms
        e.throttled = 1.0 if self._throttle.throttled(now_ms) else 0.0
        key = (e.n, 0)
        self._known_at[key], self._miss[key] = issued_ms + self._slo_ms, 1

    def _new_block(self) -> None:
        """Begin the next block of frames with a fresh budget; frames under way stay in theirs, by numbers below 0."""
        e, size = self._episode, self._block
        self._known_at = {(n - size, 0): at for (n, _), at in self._known_at.items()}
        self._miss = {(n - size, 0): missed for (n, _), missed in self._miss.items()}
        e.n, e.next_known, e.spent_misses = e.n - size, e.next_known - size, 0.0
        self._block_start += size
