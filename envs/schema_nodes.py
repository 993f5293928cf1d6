"""The part of the scenario schema about what computes: servers, the device, and the placements on them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .schema_base import Fraction, NonNegative, Percent, Positive, Strict, check_order
from .schema_shift import Availability


class Batching(Strict):
    """Triton's dynamic batcher: a batch of b takes service x (1 + marginal_service_share x (b - 1))."""

    max_batch: Annotated[int, Field(ge=1, le=64)]
    queue_delay_ms: NonNegative
    marginal_service_share: Fraction


class Burst(Strict):
    """Short rises of the background load."""

    per_minute: NonNegative
    low_load: Fraction
    high_load: Fraction
    low_s: Positive
    high_s: Positive


class LoadPhase(Strict):
    """A stretch of constant background load (share of the node's capacity)."""

    until: Positive | None = None
    load: Annotated[float, Field(ge=0, lt=1)]


class Background(Strict):
    """Other tenants of a node: Poisson requests whose offered load changes each second."""

    service_ms: Positive
    service_distribution: Literal["deterministic", "exponential"]
    mean_low_load: Fraction | None = None
    mean_high_load: Fraction | None = None
    ar1_per_s: Fraction | None = None  # correlation of the load from one second to the next
    sigma_load: NonNegative | None = None  # standard deviation of the load around its mean
    bursts: Burst | None = None
    phases: list[LoadPhase] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Background:
        random_form = [self.mean_low_load, self.mean_high_load, self.ar1_per_s, self.sigma_load]
        if (self.phases is None) == any(v is None for v in random_form):
            raise ValueError(
                "give either phases, or all of mean_low_load, mean_high_load, ar1_per_s, sigma_load"
            )
        return self


class Node(Strict):
    """A remote server."""

    link: str
    extra_rtt_ms: NonNegative
    zone: str
    pue: Annotated[float, Field(ge=1)]
    parallelism: Annotated[int, Field(ge=1, le=64)]
    idle_power_w: NonNegative
    batching: Batching | None = None
    background: Background | None = None
    availability: Availability | None = None  # absent: the node is there in every episode


class Throttling(Strict):
    """Device slows down while a low-pass of its utilisation plus a hidden ambient offset is high."""

    slowdown: Annotated[float, Field(ge=1)]
    time_constant_s: Positive
    hot_utilisation: Fraction
    cool_utilisation: Fraction
    ambient_spread: NonNegative  # hidden per-episode offset, uniform +- this


class Radio(Strict):
    """Radio power while sending and in the tail after it."""

    transmit_power_w: NonNegative
    tail_power_w: NonNegative
    tail_s: NonNegative


class Device(Strict):
    """The camera device, node 0."""

    zone: str
    idle_power_w: NonNegative
    throttling: Throttling | None = None
    radio: Radio | None = None


class Service(Strict):
    """Service time of one request alone on the node."""

    distribution: Literal["deterministic", "lognormal", "exponential"]
    mean_ms: Positive | None = None  # deterministic, exponential
    p50_ms: Positive | None = None  # lognormal
    p95_ms: Positive | None = None  # lognormal

    @model_validator(mode="after")
    def _complete(self) -> Service:
        if self.distribution == "lognormal":
            if self.p50_ms is None or self.p95_ms is None or self.mean_ms is not None:
                raise ValueError("lognormal needs p50_ms and p95_ms, not mean_ms")
            check_order(self.p50_ms, self.p95_ms, "lognormal p50_ms to p95_ms")
        elif self.mean_ms is None or self.p50_ms is not None or self.p95_ms is not None:
            raise ValueError(f"{self.distribution} needs mean_ms, not p50_ms or p95_ms")
        return self


class Split(Strict):
    """The first part of a split model: the device computes up to a cut, the node the rest."""

    cut: str  # name of the cut in the model's segments
    service: Service  # of the first part, on the device
    active_energy_j: NonNegative  # of the first part, above idle
    activation_kb: Positive  # what crosses the cut, and so the link, instead of the payload


class Placement(Strict):
    """A (node, model) pair, or a (node, model, cut): one action. Of a split model the numbers are the node's part's."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    node: str  # "local" or a key of nodes
    model: str
    service: Service
    active_energy_j: NonNegative  # above idle, one request alone
    batched_energy_j: NonNegative | None = None  # what one more request in a batch adds (with batching)
    accuracy_miou: Percent
    split: Split | None = None  # absent: the whole model runs in one place
