"""The part of the scenario schema about access links: what they do and how transfers behave on them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .schema_base import NonNegative, Percent, Positive, Strict, check_order


class LinkPhase(Strict):
    """A stretch of constant link conditions. ``until`` counts seconds, or requests with the request clock."""

    until: Positive | None = None  # none: to the end of the episode
    rtt_ms: NonNegative
    jitter_ms: NonNegative  # scale of the jitter distribution
    loss_pct: Percent
    rate_mbps: Positive


class PhasedLink(Strict):
    """A link that is constant in stretches, as the papers' emulated profiles are."""

    kind: Literal["phases"]
    phases: Annotated[list[LinkPhase], Field(min_length=1)]


class LinkCondition(Strict):
    """A state of a link that changes at random; constant while it lasts, some seconds on the average."""

    mean_stay_s: Positive
    weight: Positive  # how often it is the next one, against the other conditions
    outage: Literal[True] | None = None  # nothing gets through while it lasts
    rtt_ms: NonNegative
    jitter_ms: NonNegative
    loss_pct: Percent
    rate_mbps: Positive


class SwitchedLink(Strict):
    """A link that switches between named conditions at random moments, for sites whose conditions are known."""

    kind: Literal["switched"]
    conditions: Annotated[dict[str, LinkCondition], Field(min_length=2)]


class UplinkRange(Strict):
    """Uplink rate: episode median drawn log-uniformly between the bounds."""

    low_mbps: Positive
    high_mbps: Positive

    @model_validator(mode="after")
    def _order(self) -> UplinkRange:
        check_order(self.low_mbps, self.high_mbps, "uplink median")
        return self


class GeneratedLink(Strict):
    """A link made by the regime-switching generator; the family is drawn per episode by weight."""

    kind: Literal["generated"]
    families: dict[str, Positive]  # name of a file in configs/links -> weight
    uplink_median: UplinkRange


class TraceLink(Strict):
    """A link read from recorded files: RTT and loss from one, the shape of the uplink from another."""

    kind: Literal["traces"]
    training: Annotated[list[str], Field(min_length=1)]  # globs below the trace folder, FILE or FILE@0.0-0.6
    evaluation: Annotated[list[str], Field(min_length=1)]
    uplink_median: UplinkRange


LinkSource = Annotated[PhasedLink | SwitchedLink | GeneratedLink | TraceLink, Field(discriminator="kind")]


class Transfer(Strict):
    """How long an upload takes beyond one RTT and its bytes at the link's rate."""

    model: Literal["tcp", "empirical"]
    congestion_control: Literal["bbr", "cubic"] | None = None
    # The link's jitter as a share of its round-trip time, where that is known (tcp only); the nearest table is used.
    jitter_share: NonNegative | None = None
    jitter: Literal["normal", "empirical"]
    # Quantiles of the standardised jitter, evenly spaced from 0 to 1 (empirical only).
    jitter_quantiles: list[float] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Transfer:
        if (self.model == "tcp") != (self.congestion_control is not None):
            raise ValueError("congestion_control is needed with model tcp and meaningless with empirical")
        if self.model != "tcp" and self.jitter_share is not None:
            raise ValueError("jitter_share is for model tcp and meaningless with empirical")
        if (self.jitter == "empirical") != (self.jitter_quantiles is not None):
            raise ValueError("jitter_quantiles is needed with jitter empirical and meaningless otherwise")
        return self


class Link(Strict):
    """An access link: what it does, how transfers behave on it, what a bit costs."""

    source: LinkSource
    transfer: Transfer
    network_energy_nj_per_bit: NonNegative
    network_zone: str  # the grid zone that powers the network
