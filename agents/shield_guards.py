"""The guards that need nothing but the observation: one stream of requests, one decision after the other.

They mask what cannot be relied on before the policy is asked, and overrule the policy where its choice is predicted to
cost more misses than the SLO still allows. Mostly plain numbers: a decision takes microseconds on a device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..envs.schema import Scenario
from ..envs.service import mean_ms, service_p95_ms
from .shield_settings import ShieldSettings
from .shield_sight import Bounds, ShieldSight
from .shield_tracker import QuantileTracker

# Every reason that a decision can have, with its meaning.
GUARDS = {
    "policy": "no guard objected",
    "bad-observation": "a feature is NaN, infinite or out of its range; the policy was not asked",
    "unknown": "what a decision needs has never been measured",
    "absent": "the node is not there: the site leaves it out",
    "stale-probe": "the link has not answered probes for too long",
    "stale-load": "the node's load report is too old",
    "stale-feed": "the grid feed is too old to say anything about now",
    "breaker": "the node, or a split model's head, has failed several times in a row and rests",
    "device-failing": "the device's own model fails; another placement is tried",
    "masked": "the caller forbids the placement",
    "predicted-late": "misses run well ahead of plan, and the placement's tracked upper latency is above the SLO",
    "budget": "few misses are left; the placement of the least believed carbon among those well within the SLO",
    "policy-error": "the policy raised",
    "illegal-action": "the policy answered with something that is no placement",
    "shield-error": "the shield itself failed",
}

LOCAL_INDEX = 0
LEAST_MS = 1e-3  # believed latencies are above this, so that ratios exist
OVERDRAWN = (
    -0.5
)  # misses left: fewer, and the budget is overdrawn; half a miss, so that rounding does not matter


class Guards:
    """The state of the guards for one stream.

    For each request: `look`, then the policy decides within `allowed`, then `judge`; answers come in by `answer`.

    Attributes:
        allowed: placements that may be chosen now (P,).
        limited: whether any may not.
        why: reason of each that may not (P,).
        scarce: whether too few misses are left to risk one; not where as many are left as requests, nor where more are
            spent than there were: then nothing is left to save at any price.
        ample: whether misses are neither scarce nor farther ahead of plan than the head start, so one may be risked.
        calm: whether a vector (F,) is sound and all in it young enough: mostly so, and then nothing else need be asked.
        trackers: of the logarithm of answered over believed latency (P,).
    """

    def __init__(self, sight: ShieldSight, settings: ShieldSettings) -> None:
        """Nothing was answered yet."""
        scenario = sight.scenario
        self._sight, self._settings = sight, settings
        self._slo_ms = scenario.slo.latency_ms
        count = len(scenario.placements)
        self.allowed, self.why = [True] * count, [""] * count
        self.trackers = [
            QuantileTracker(settings.miss_level, settings.tracker_step, math.log(start))
            for start in upper_starts(scenario, settings)
        ]
        self._passed_ms = 0.0
        self._values: Sequence[float] = [0.0] * len(sight.bounds.low)
        self._late_ms: Sequence[float] = [0.0] * (len(sight.probe_age) + 1)
        self._remote = range(1, count)
        self._everywhere, self.limited = [True] * count, False
        self._prepare_limits(scenario)
        self._prepare_look()
        self._scarce_ms = settings.scarce_slo_share * self._slo_ms
        self._left, self.scarce, self.ample = sight.miss_budget, False, True

    def _prepare_limits(self, scenario: Scenario) -> None:
        """Limits as they stand in the vector, a little lower, so that its rounding does not matter.

        The table cuts ages off at its bound, so a longer limit cannot be seen.
        """
        s, spec, settings = self._sight, scenario.telemetry, self._settings
        probe_s = min(max(3.0, settings.probe_limit * spec.probe_interval_s), 30.0)
        load_s = min(max(settings.load_limit_s, 2.0 * spec.load_delay_high_s), 30.0)
        feed_h = max(settings.feed_limit_h, 2.0 * spec.feed_delay_h)
        self._probe_limits = [(i, probe_s / scale - 1e-4) for i, scale in s.probe_age]
        self._load_limits = [None if age is None else (age[0], load_s / age[1] - 1e-4) for age in s.load_age]
        self._feed_at, self._feed_limit = s.feed_age[0], feed_h / s.feed_age[1]
        self._age_limits = self._probe_limits + [limit for limit in self._load_limits if limit is not None]

    def _prepare_look(self) -> None:
        """Lay out what every request reads, because every look-up costs."""
        s, high = self._sight, self._sight.bounds.high.copy()
        for i, limit in [*self._age_limits, (self._feed_at, self._feed_limit)]:
            if limit <= high[i]:
                high[i] = np.nextafter(np.float32(limit), np.float32(-math.inf))
        self.calm = Bounds(s.bounds.low, high).hold
        # Of each placement: where its latency stands, its tracker, and its link.
        self._plan = [(*s.latency[a], t, s.link_of[a]) for a, t in enumerate(self.trackers)]
        self._miss_budget, self._requests = s.miss_budget, s.requests
        self._reserve_misses, self._head_start = self._settings.reserve_misses, self._settings.head_start
        self._request = (*s.gap, *s.spent, *s.progress)

    def look(self, values: Sequence[float], late_ms: Sequence[float], calm: bool = False) -> None:
        """Take in a sound observation: what is allowed, and how late each placement may be.

        Args:
            values: the encoded vector (F,) as plain numbers.
            late_ms: how much later than believed an answer over each link must be, by what is overdue there, and last
                an answer of the device (L + 1,).
            calm: `calm` has said so; else ages are looked at here.
        """
        self._values, self._late_ms = values, late_ms
        gap_at, gap_ms, spent_at, spent, progress_at, progress = self._request
        self._passed_ms += values[gap_at] * gap_ms
        if self._passed_ms >= 1000.0:
            self._forget()
        if self.limited:
            self.allowed[:], self.limited = self._everywhere, False
        if not calm and not self._fresh(values):
            self._forbid_stale(values)
        # What is left of the budget of misses, by the shares of it and of the requests that are used up.
        spent, progress = values[spent_at] * spent, values[progress_at] * progress
        self._left = left = (1.0 - spent) * self._miss_budget
        self.scarce = OVERDRAWN < left < self._reserve_misses and left < (1.0 - progress) * self._requests
        self.ample = not self.scarce and spent <= progress + self._head_start

    def _fresh(self, values: Sequence[float]) -> bool:
        """Whether all that was measured or reported is young enough."""
        for i, limit in self._age_limits:
            if values[i] >= limit:
                return False
        return values[self._feed_at] <= self._feed_limit

    def _forbid_stale(self, values: Sequence[float]) -> None:
        """Take away what cannot be relied on, with the first reason that there is."""
        s, old_feed = self._sight, values[self._feed_at] > self._feed_limit
        for a in self._remote:
            node = s.node_of[a]
            if node == 0:
                continue
            i, limit = self._probe_limits[s.link_of[a]]
            load = self._load_limits[node - 1]
            if values[i] >= limit:
                self.forbid(a, "stale-probe")
            elif old_feed:
                self.forbid(a, "stale-feed")
            elif load is not None and values[load[0]] >= load[1]:
                self.forbid(a, "stale-load")

    def forbid(self, placement: int, reason: str) -> None:
        """Take a placement away from this request; the device stays."""
        if self._sight.node_of[placement] != 0:
            self.allowed[placement], self.why[placement], self.limited = False, reason, True

    def upper_ms(self, placement: int) -> float:
        """Predicted upper latency of a placement; not made for all, because mostly two are asked for."""
        i, scale, tracker, link = self._plan[placement]
        return self._values[i] * scale * tracker.factor + self._late_ms[link]  # link -1 is the device's

    def misses_left(self) -> float:
        """Misses that the block of requests may still have, by what is known."""
        return self._left

    def judge(self, wanted: int) -> tuple[int, str]:
        """The placement for a request whose policy wants one, and the reason."""
        if not self.allowed[wanted]:
            wanted_or_local, reason = LOCAL_INDEX, self.why[wanted]
        else:
            wanted_or_local, reason = wanted, "policy"
        if self.ample:
            return wanted_or_local, reason
        upper_ms = self.upper_ms(wanted_or_local)
        if self.scarce and upper_ms > self._scarce_ms:
            other = self._cleanest(self._scarce_ms)
            if other is not None:
                return other, "budget"
        if upper_ms > self._slo_ms:
            other = self._cleanest(self._slo_ms)
            if other is not None:
                return other, "predicted-late"
        return wanted_or_local, reason

    def _cleanest(self, within_ms: float) -> int | None:
        """The allowed placement of the least believed carbon whose upper latency is within a limit, if there is one."""
        best, least_mg = None, math.inf
        for a, (i, scale) in enumerate(self._sight.carbon):
            if self.allowed[a] and self.upper_ms(a) <= within_ms and self._values[i] * scale < least_mg:
                best, least_mg = a, self._values[i] * scale
        return best

    def _forget(self) -> None:
        """Let the trackers return to their start: what is kept back gives no answers to learn from."""
        for tracker in self.trackers:
            tracker.forget(self._passed_ms / (1000.0 * self._settings.forget_s))
        self._passed_ms = 0.0

    def answer(self, placement: int, latency_ms: float, believed_ms: float) -> None:
        """Learn from an answer; a request that failed took infinitely long."""
        self.trackers[placement].update(math.log(max(latency_ms, LEAST_MS) / max(believed_ms, LEAST_MS)))


def upper_starts(scenario: Scenario, settings: ShieldSettings) -> list[float]:
    """Upper over believed latency of each placement before anything was answered (P,): the device's is calibrated."""
    return [
        max(1.0, service_p95_ms(p.service) / mean_ms(p.service))
        if p.node == "local"
        else settings.upper_start
        for p in scenario.placements
    ]
