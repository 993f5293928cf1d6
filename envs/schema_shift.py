"""The part of the scenario schema about how the true world departs from what device and policies believe of it.

Every other number of a scenario is believed: beliefs, rules, features and bundles go by it. A shift changes the truth
only; it reaches a policy through what it can measure (docs/generalisation.md).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .schema_base import Fraction, NonNegative, Positive, Strict, check_order


class Factor(Strict):
    """A factor drawn once per episode, uniform between two bounds; equal bounds fix it."""

    low: Positive
    high: Positive
    probability: Fraction = 1.0  # of an episode in which it is drawn
    otherwise: Positive = 1.0  # in all others

    @model_validator(mode="after")
    def _order(self) -> Factor:
        check_order(self.low, self.high, "factor")
        return self

    @property
    def least(self) -> float:
        """The lowest that it can be."""
        return min(self._bounds())

    @property
    def most(self) -> float:
        """The highest that it can be."""
        return max(self._bounds())

    def times(self, factor: float) -> Factor:
        """What comes of it where everything is so many times as much besides."""
        low, high, otherwise = (factor * value for value in (self.low, self.high, self.otherwise))
        return Factor(low=low, high=high, probability=self.probability, otherwise=otherwise)

    def _bounds(self) -> tuple[float, ...]:
        drawn = (self.low, self.high) if self.probability > 0 else ()
        return (*drawn, self.otherwise) if self.probability < 1 else drawn


class Availability(Strict):
    """Whether a node is there at all in an episode; where it is not, the mask forbids its placements."""

    probability: Fraction


class SilentFeed(Strict):
    """Grid feeds that have fallen silent: they show what they showed some hours ago, and say how old it is."""

    probability: Fraction  # of an episode with silent feeds; all zones' feeds are silent together
    low_h: NonNegative  # silent since, uniform; beside telemetry.feed_delay_h
    high_h: Annotated[float, Field(ge=0, le=48)]

    @model_validator(mode="after")
    def _order(self) -> SilentFeed:
        check_order(self.low_h, self.high_h, "silent since")
        return self


class Shift(Strict):
    """How the truth departs from the believed numbers; each part is absent where they are right."""

    device_service_factor: Factor | None = None  # true over believed service time of every local placement
    rate_factor: Factor | None = None  # true over declared arrival rate
    link_rate_factor: Factor | None = None  # these three: of every link, after its source was drawn
    link_rtt_factor: Factor | None = None
    link_loss_factor: Factor | None = None  # a loss share never exceeds one
    grid_factor: Factor | None = None  # intensity of the zones that `grid_of` names, truth and feed alike
    grid_of: Literal["device", "all"] | None = None  # device: its zone, and every zone that is the same as it
    silent_feed: SilentFeed | None = None

    @model_validator(mode="after")
    def _complete(self) -> Shift:
        if (self.grid_factor is None) != (self.grid_of is None):
            raise ValueError("grid_factor and grid_of are needed together: which grids, and by how much")
        return self
