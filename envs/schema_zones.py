"""The part of the scenario schema about grid zones: where their carbon intensity comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .schema_base import NonNegative, Strict


class ConstantZone(Strict):
    """A grid zone of constant intensity."""

    kind: Literal["constant"]
    carbon_g_per_kwh: NonNegative


class GeneratedZone(Strict):
    """A grid zone made by the daily-and-seasonal generator; the region is drawn per episode."""

    kind: Literal["generated"]
    regions: Annotated[list[str], Field(min_length=1)]  # names of files in configs/zones


class TraceZone(Strict):
    """A grid zone read from an hourly file, drawn per episode from the list."""

    kind: Literal["traces"]
    files: Annotated[list[str], Field(min_length=1)]  # globs below the trace folder
    training_before: str  # ISO 8601 UTC: hours before it are for training
    evaluation_from: str  # hours from here on are for evaluation


class SameZone(Strict):
    """A zone that is another zone: the edge server usually stands in the device's grid."""

    kind: Literal["same_as"]
    zone: str


Zone = Annotated[ConstantZone | GeneratedZone | TraceZone | SameZone, Field(discriminator="kind")]
