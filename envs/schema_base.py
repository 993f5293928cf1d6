"""What every part of the scenario schema is made of: ranges, strict records, the name of the device."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]

LOCAL = "local"  # node 0, the device itself


class Strict(BaseModel):
    """A record that refuses unknown keys and never changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def check_order(low: float, high: float, what: str) -> None:
    """Refuse a range whose bounds are the wrong way round."""
    if low > high:
        raise ValueError(f"{what}: low ({low}) must not exceed high ({high})")
