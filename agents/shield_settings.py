"""The shield's numbers, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..envs.errors import InputError


@dataclass(frozen=True)
class ShieldSettings:
    """What the guards go by. All assumed unless a source is named; docs/shield.md shows what they cost and save.

    Attributes:
        reserve_misses: with fewer misses left than this in the budget, no request goes where its predicted upper
            latency is near the SLO, as long as another placement's is not.
        scarce_slo_share: share of the SLO up to which an upper latency is not near it (docs/shield.md has others).
        head_start: share of the budget by which misses may run ahead of plan before predictions of lateness count.
            Tuned rules and prices plan with 0.04 to 0.3 themselves; at 0 the shield cost the shipped agents 2 to 6 %
            on the training tapes that it was chosen on (docs/shield.md).
        miss_level: share of answers that may be above the tracked upper latency; 0.05 tracks the 95th percentile.
        tracker_step: step of the quantile tracker, in logarithms of latency over belief: an answer above the tracked
            quantile raises it by about a tenth.
        upper_start: upper over believed latency of a remote placement before anything was answered.
        forget_s: tracked quantiles return to their start with this time constant, because a placement that is kept back
            gives no answers that could tell of better times.
        probe_limit: a link without an answered probe for this many probe intervals (at least 3 s) is not used.
        load_limit_s: a node whose load report is older than this is not used.
        feed_limit_h: a grid feed older than this says nothing about now; the device's runtime asks the feed itself.
    """

    reserve_misses: float = 6.0
    scarce_slo_share: float = 0.85
    head_start: float = 0.1
    miss_level: float = 0.05
    tracker_step: float = 0.1
    upper_start: float = 1.25
    forget_s: float = 30.0
    probe_limit: float = 3.0
    load_limit_s: float = 10.0
    feed_limit_h: float = 24.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not value >= 0:  # nor NaN
                raise InputError(f"shield: {field.name} must be a number from 0 on, got {value!r}.")
        if not 0 < self.miss_level < 1:
            raise InputError(f"shield: miss_level must be above 0 and below 1, got {self.miss_level}.")
        for name in ("tracker_step", "upper_start", "forget_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"shield: {name} must be above 0, got {getattr(self, name)}.")
