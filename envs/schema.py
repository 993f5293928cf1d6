"""The scenario schema: every key, its unit and its range. Units stand in the key names.

A scenario is plain YAML validated by these records. Unknown and missing keys are errors, never defaults:
only keys whose absence means "this part is switched off" are optional.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]

SCHEMA_VERSION = "carbonpilot/scenario/1"
LOCAL = "local"  # node 0, the device itself


class Strict(BaseModel):
    """A record that refuses unknown keys and never changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ordered(low: float, high: float, what: str) -> None:
    if low > high:
        raise ValueError(f"{what}: low ({low}) must not exceed high ({high})")


class Slo(Strict):
    """The latency objective: the given quantile of an episode's latencies must not exceed ``latency_ms``."""

    latency_ms: Positive
    quantile: Annotated[float, Field(gt=0, lt=1)]


class Episode(Strict):
    """Length of an episode; it ends only by truncation."""

    requests: Annotated[int, Field(ge=1, le=1_000_000)]


class ClosedLoop(Strict):
    """The next request is issued when the last one is answered (Khan et al.'s single stream)."""

    kind: Literal["closed_loop"]


class Periodic(Strict):
    """Camera frames: a rate drawn per episode, each gap jittered."""

    kind: Literal["periodic"]
    low_per_s: Positive
    high_per_s: Positive
    jitter_fraction: Annotated[float, Field(ge=0, lt=0.5)]  # standard deviation of a gap, share of the gap

    @model_validator(mode="after")
    def _order(self) -> Periodic:
        _ordered(self.low_per_s, self.high_per_s, "arrival rate")
        return self


class Poisson(Strict):
    """Poisson arrivals with a rate drawn per episode."""

    kind: Literal["poisson"]
    low_per_s: Positive
    high_per_s: Positive

    @model_validator(mode="after")
    def _order(self) -> Poisson:
        _ordered(self.low_per_s, self.high_per_s, "arrival rate")
        return self


class TraceArrivals(Strict):
    """Arrivals read from a per-request trace file, scaled to a mean rate."""

    kind: Literal["trace"]
    file: str  # relative to the trace folder, e.g. arrivals/azure_llm_code_2023-11-16.csv
    mean_per_s: Positive


Arrivals = Annotated[ClosedLoop | Periodic | Poisson | TraceArrivals, Field(discriminator="kind")]


class Payload(Strict):
    """Request size, uniform between two bounds. 1 kB is 1000 bytes."""

    low_kb: NonNegative
    high_kb: NonNegative

    @model_validator(mode="after")
    def _order(self) -> Payload:
        _ordered(self.low_kb, self.high_kb, "payload")
        return self


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


class UplinkRange(Strict):
    """Uplink rate: episode median drawn log-uniformly between the bounds."""

    low_mbps: Positive
    high_mbps: Positive

    @model_validator(mode="after")
    def _order(self) -> UplinkRange:
        _ordered(self.low_mbps, self.high_mbps, "uplink median")
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


LinkSource = Annotated[PhasedLink | GeneratedLink | TraceLink, Field(discriminator="kind")]


class Transfer(Strict):
    """How long an upload takes beyond one RTT and its bytes at the link's rate."""

    model: Literal["tcp", "empirical"]
    congestion_control: Literal["bbr", "cubic"] | None = None
    jitter: Literal["normal", "empirical"]
    # Quantiles of the standardised jitter, evenly spaced from 0 to 1 (empirical only).
    jitter_quantiles: list[float] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Transfer:
        if (self.model == "tcp") != (self.congestion_control is not None):
            raise ValueError("congestion_control is needed with model tcp and meaningless with empirical")
        if (self.jitter == "empirical") != (self.jitter_quantiles is not None):
            raise ValueError("jitter_quantiles is needed with jitter empirical and meaningless otherwise")
        return self


class Link(Strict):
    """An access link: what it does, how transfers behave on it, what a bit costs."""

    source: LinkSource
    transfer: Transfer
    network_energy_nj_per_bit: NonNegative
    network_zone: str  # the grid zone that powers the network


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
            _ordered(self.p50_ms, self.p95_ms, "lognormal p50_ms to p95_ms")
        elif self.mean_ms is None or self.p50_ms is not None or self.p95_ms is not None:
            raise ValueError(f"{self.distribution} needs mean_ms, not p50_ms or p95_ms")
        return self


class Placement(Strict):
    """A (node, model) pair: one action."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    node: str  # "local" or a key of nodes
    model: str
    service: Service
    active_energy_j: NonNegative  # above idle, one request alone
    batched_energy_j: NonNegative | None = None  # what one more request in a batch adds (with batching)
    accuracy_miou: Percent


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


class Telemetry(Strict):
    """What the device may observe, how late and how noisy."""

    probe_interval_s: Positive
    rtt_noise_fraction: NonNegative
    uplink_noise_fraction: NonNegative
    load_delay_low_s: NonNegative
    load_delay_high_s: NonNegative
    load_noise: NonNegative
    feed_delay_h: NonNegative  # the grid feed shows the value of that long ago

    @model_validator(mode="after")
    def _order(self) -> Telemetry:
        _ordered(self.load_delay_low_s, self.load_delay_high_s, "load delay")
        return self


class RewardWeights(Strict):
    """Weights of the reward's terms; each term is a cost, the reward is minus their weighted sum."""

    carbon_per_mg: NonNegative
    slo_miss: NonNegative
    latency_excess_per_s: NonNegative
    accuracy_per_miou: NonNegative


class Wishes(Strict):
    """Default setting of the operator's dial."""

    carbon: Fraction
    latency: Fraction
    accuracy: Fraction


class Scenario(Strict):
    """One site: everything the simulator, the agents and the judges need to know."""

    schema_version: Annotated[Literal["carbonpilot/scenario/1"], Field(alias="schema")]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    family: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]  # bundles work within one family
    description: str
    nothing_to_win: str | None = None  # honest checks say here why no policy can save much
    world_clock: Literal["time", "request"]  # what the rows of links, loads and grids are counted in
    split: Literal["seeds", "traces"]  # how training and evaluation are kept apart
    slo: Slo
    episode: Episode
    account: Literal["marginal", "attributional"]  # the account that the reward uses
    reward: RewardWeights
    wishes: Wishes
    arrivals: Arrivals
    payload: Payload
    device: Device
    links: dict[str, Link]
    nodes: dict[str, Node]
    zones: Annotated[dict[str, Zone], Field(min_length=1)]
    placements: Annotated[list[Placement], Field(min_length=1, max_length=32)]
    telemetry: Telemetry

    @model_validator(mode="after")
    def _references(self) -> Scenario:
        """Every name that is referred to exists; placement 0 is local."""
        _known("device.zone", self.device.zone, self.zones)
        for name, zone in self.zones.items():
            if isinstance(zone, SameZone):
                _known(f"zones.{name}.zone", zone.zone, self.zones)
                if isinstance(self.zones[zone.zone], SameZone):
                    raise ValueError(f"zones.{name}.zone: '{zone.zone}' is itself a same_as zone")
        for name, link in self.links.items():
            _known(f"links.{name}.network_zone", link.network_zone, self.zones)
        for name, node in self.nodes.items():
            _known(f"nodes.{name}.link", node.link, self.links)
            _known(f"nodes.{name}.zone", node.zone, self.zones)
        if self.placements[0].node != LOCAL:
            raise ValueError("placements.0.node must be 'local': node 0 is the device, always allowed")
        names = [p.name for p in self.placements]
        if len(set(names)) != len(names):
            raise ValueError(f"placements: names must differ, got {names}")
        for i, p in enumerate(self.placements):
            if p.node != LOCAL:
                _known(f"placements.{i}.node", p.node, self.nodes)
                batched = self.nodes[p.node].batching is not None
                if batched != (p.batched_energy_j is not None):
                    raise ValueError(
                        f"placements.{i}.batched_energy_j is needed on a batching node and only there"
                    )
            elif p.batched_energy_j is not None:
                raise ValueError(f"placements.{i}.batched_energy_j: the device does not batch")
        return self


def _known(path: str, name: str, known: dict) -> None:
    from .errors import nearest

    if name not in known:
        raise ValueError(f"{path}: '{name}' is not defined.{nearest(name, known)} Known: {sorted(known)}")
