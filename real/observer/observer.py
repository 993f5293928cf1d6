"""The device's own observation: the simulator's feature table, filled from probes, feeds and own requests.

What changes with every request is worked out by the simulator's own functions (`envs.request_features`,
`envs.next_request`, `envs.beliefs`) on the same fields; a test drives both with one episode and compares.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs.next_request import advance
from ...envs.records import EPISODE, SITE
from ...envs.request_features import request_features
from ...envs.schema import Scenario, Split
from ...envs.service import mean_ms
from ...envs.site_record import site_record
from ..probes.loop import ProbeSnapshot
from ..site_file import NodeLevels
from .attempts import Attempt, Attempts
from .budget import Budget, Carried
from .plain_records import plain_record
from .specialised import specialised
from .throttle import MeasuredThrottle, Throttle
from .view import UNKNOWN, Doubts, SecondView, ViewMaker, ZoneReading

_multiply, _maximum, _minimum = np.multiply, np.maximum, np.minimum
_PLACE = np.dtype(
    [("remote", "u4"), ("link", "u4"), ("split", "u4"), ("head_ms", "f8"), ("activation_kb", "f8")]
)


def _place(split: Split | None, link: int | None) -> Any:
    """What `request_features` reads of a placement."""
    head_ms, activation_kb = (0.0, 0.0) if split is None else (mean_ms(split.service), split.activation_kb)
    return plain_record(
        _PLACE, np.array((link is not None, link or 0, split is not None, head_ms, activation_kb), _PLACE)
    )


@dataclass(frozen=True)
class DeviceState:
    """The device's heat and speed.

    Attributes:
        heat: low-pass of its utilisation, as the simulator's.
        throttled: it runs slowed down, by its own service times or the kernel.
    """

    heat: float
    throttled: bool


class Observer:
    """Fills the observation table on the device; does no I/O.

    `refresh` belongs to a timer, once a second, and may run in another thread; all else belongs to the thread of the
    requests. Times are ms since the run began, on the clock that never jumps.

    For each frame: `observe`, then `placed` for every attempt (the decision's, a fallback's), `headed` when the device
    has done its part of a split model, `answered` (or `withdrawn`) when an attempt ends, `finished` when the frame has
    its result. A frame that comes to no decision is `skipped`.

    Args:
        scenario: the site's.
        levels: of every node (`levels.site_levels`).
        throttle: tells whether the device is slowed down; None: from its service times.
        carried: what an earlier process left.

    Attributes:
        doubts: what must not be relied on now.
    """

    def __init__(
        self, scenario: Scenario, levels: Mapping[str, NodeLevels], throttle: Throttle | None = None,
        carried: Carried | None = None,
    ) -> None:  # fmt: skip
        """Nothing is known yet: before the first `refresh` every feature of the telemetry is unknown."""
        self._maker = ViewMaker(scenario, levels)
        self.table = self._maker.table
        self._site = plain_record(SITE, site_record(scenario, self._maker.rows)[0])
        self._episode = plain_record(EPISODE)
        self._attempts = Attempts(scenario, self._site, self._episode)
        self._prepare_site(scenario, carried or Carried())
        self._throttle: Throttle = throttle or MeasuredThrottle(scenario.device.throttling)
        self._begun = False
        self._prepare_encoding()
        self._view = self._maker.make(ProbeSnapshot(0.0, {}, {}, {}), {}, 0.0)
        self.doubts: Doubts = self._view.doubts
        self._show(self._view)

    def _prepare_site(self, scenario: Scenario, carried: Carried) -> None:
        """The simulator's functions, made for this site and its records."""
        own, site, e = self._attempts, self._site, self._episode
        state = {"e": e, "links": own.links, "nodes": own.node_list}
        placements = [_place(p.split, link) for p, link in zip(scenario.placements, own.link_of, strict=True)]
        self._raw = [0.0] * (len(self.table) - site.features)
        self._write = specialised(
            request_features, {"site": site, "placements": placements, "f": 0}, state | {"vector": self._raw}
        )
        self._budget = Budget(
            e, scenario.episode.requests, scenario.slo.latency_ms, carried,
            specialised(advance, {"site": site}, state | {"device": own.device}),
        )  # fmt: skip

    def _prepare_encoding(self) -> None:
        first = self._site.features
        count = len(self.table) - first
        self._first = first
        packed = bytearray(4 * count)
        self._single = np.frombuffer(packed, np.float32)
        # Bound to what stays the same: every look-up costs.
        self._pack = partial(struct.Struct(f"{count}f").pack_into, packed, 0)
        self._factor = (np.float32(1.0) / self.table.scale)[first:]
        self._low, self._high = self.table.low[first:], self.table.high[first:]
        self._vector = np.zeros(len(self.table), np.float32)
        self._part = self._vector[first:]
        self._single_number = memoryview(bytearray(4)).cast("f")  # rounds what is put in

    # Once a second.

    def refresh(self, snapshot: ProbeSnapshot, zones: Mapping[str, ZoneReading], now_ms: float) -> None:
        """Take in what probes and feeds know by now.

        Args:
            snapshot: `ProbeLoop.latest`.
            zones: newest readings by zone of the scenario; a zone without one is missing.
            now_ms: now.
        """
        self._throttle.look()
        self._view = view = self._maker.make(snapshot, zones, now_ms)  # replaced whole: never half new
        self.doubts = view.doubts

    @property
    def view(self) -> SecondView:
        """What is known by now of the world."""
        return self._view

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
        view = self._view
        if view is not self._shown:
            self._show(view)
        self._write(view.believed, self._single_kb(payload_kb))
        self._pack(*self._raw)
        part = self._part
        # What `envs.encoder.observe` does with one feature after the other.
        _multiply(self._single, self._factor, part)
        _maximum(part, self._low, out=part)
        _minimum(part, self._high, out=part)
        return self._vector.copy()

    def _show(self, view: SecondView) -> None:
        """Take over the telemetry's part of the vector."""
        self._shown = view
        self._vector[: self._first] = view.encoded[: self._first]

    @property
    def frame(self) -> int:
        """Number of the newest frame, from 0 in this process; for `finished`."""
        return self._budget.frame

    def placed(self, now_ms: float, placement: int, payload_kb: float) -> Attempt:
        """An attempt begins: the decision's, or a fallback's.

        Args:
            now_ms: now.
            placement: where it is executed (in shadow mode: not where the policy wanted).
            payload_kb: what it sends; of no account on the device and for split models.
        """
        expected_ms = float(self._single[placement])  # as the observation showed it
        return self._attempts.placed(
            now_ms, placement, self._single_kb(payload_kb), self._view.believed, expected_ms
        )

    def headed(self, attempt: Attempt, now_ms: float, head_ms: float) -> None:
        """The device has computed the head of a split model; ``head_ms`` is what that took, alone."""
        if self._attempts.computed(attempt, now_ms, head_ms):
            calibrated_ms = self._attempts.head_ms[attempt.placement]
            assert calibrated_ms is not None
            self._throttle.served(now_ms, head_ms, calibrated_ms)

    def withdrawn(self, attempt: Attempt, now_ms: float) -> None:
        """An attempt with a split model has ended before anything was sent: its head failed, or was not needed."""
        self._attempts.withdrawn(attempt, now_ms)

    def sent(self, attempt: Attempt, now_ms: float) -> None:
        """An attempt's bytes have left; if that is not known, `answered` stands for it."""
        self._attempts.sent(attempt, now_ms)

    def answered(
        self,
        attempt: Attempt,
        now_ms: float,
        latency_ms: float | None = None,
        service_ms: float | None = None,
        sending_ms: float | None = None,
    ) -> None:
        """An attempt has ended: it was answered, failed or was given up; ending it twice changes nothing.

        Args:
            attempt: of `placed`.
            now_ms: now.
            latency_ms: what it took; None: since it was placed. For a failure say what it is as bad as: a server that
                refuses at once must not look quick.
            service_ms: measured computing time of an answer on the device, alone.
            sending_ms: how long its bytes took to leave, lost ones sent again; None: not known.
        """
        if (
            self._attempts.ended(attempt, now_ms, latency_ms, service_ms, sending_ms)
            and service_ms is not None
        ):
            calibrated_ms = self._view.believed[self._site.row_believed + attempt.placement]
            self._throttle.served(now_ms, service_ms, calibrated_ms)

    def finished(self, frame: int, now_ms: float, missed: bool) -> None:
        """A frame has its result, or never will; without this it counts as missed from its deadline on.

        Args:
            frame: its number (`frame` right after `observe`).
            now_ms: when the result was there.
            missed: it came after the deadline, or not at all.
        """
        self._budget.finished(frame, now_ms, missed)

    def skipped(self, now_ms: float, missed: bool = True) -> None:
        """A frame comes to no decision: an image that is none, or a queue that is full. It counts for the budget."""
        self._begin(now_ms, now_ms)
        self._budget.finished(self.frame, now_ms, missed)

    def _begin(self, now_ms: float, issued_ms: float) -> None:
        """Bring the state up to a new frame."""
        e = self._episode
        if self._begun:
            if now_ms < e.issued_ms:
                now_ms = e.issued_ms
            if self._attempts.unanswered:
                self._attempts.keep_open(now_ms)
            self._budget.advance(now_ms)
        else:
            self._begun = True
            e.issued_ms = e.previous_ms = now_ms
        e.throttled = 1.0 if self._throttle.throttled(now_ms) else 0.0
        self._budget.open(issued_ms)

    def _single_kb(self, payload_kb: float) -> float:
        """In single precision, as on a tape."""
        self._single_number[0] = payload_kb
        return self._single_number[0]

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
            if why == UNKNOWN
        }
        return shown | {n: v for n, v in zip(names, self._raw, strict=True) if n not in doubtful}

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the features without a value; the vector shows the worst that their row can hold."""
        return self._view.unknown

    def carry(self) -> Carried:
        """What the next process needs to go on; frames without result count as missed."""
        return self._budget.carry(self._begun)
