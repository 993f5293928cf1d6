"""The scenario schema: every key, its unit and its range. Units stand in the key names.

A scenario is plain YAML validated by these records. Unknown and missing keys are errors, never defaults:
only keys whose absence means "this part is switched off" are optional.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from .errors import nearest
from .schema_base import LOCAL, Fraction, NonNegative, Percent, Positive, Strict, check_order
from .schema_links import (
    GeneratedLink,
    Link,
    LinkCondition,
    LinkPhase,
    LinkSource,
    PhasedLink,
    SwitchedLink,
    TraceLink,
    Transfer,
    UplinkRange,
)
from .schema_nodes import (
    Background,
    Batching,
    Burst,
    Device,
    LoadPhase,
    Node,
    Placement,
    Radio,
    Service,
    Split,
    Throttling,
)
from .schema_shift import Shift
from .schema_zones import ConstantZone, GeneratedZone, SameZone, TraceZone, Zone

SCHEMA_VERSION = "carbonpilot/scenario/1"

__all__ = [
    "LOCAL", "SCHEMA_VERSION", "Arrivals", "Background", "Batching", "Burst", "ClosedLoop",
    "ConstantZone", "Device", "Episode", "Fraction", "GeneratedLink", "GeneratedZone", "Link",
    "LinkCondition", "LinkPhase", "LinkSource", "LoadPhase", "Node", "NonNegative", "Payload", "Percent", "Periodic",
    "PhasedLink", "Placement", "Poisson", "Positive", "Radio", "RewardWeights", "SameZone", "SampledWishes", "Scenario",
    "Service", "Slo", "Split", "Strict", "SwitchedLink", "Telemetry", "Throttling", "TraceArrivals", "TraceLink",
    "TraceZone", "Transfer", "UplinkRange", "Wishes", "Zone",
]  # fmt: skip


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
        check_order(self.low_per_s, self.high_per_s, "arrival rate")
        return self


class Poisson(Strict):
    """Poisson arrivals with a rate drawn per episode."""

    kind: Literal["poisson"]
    low_per_s: Positive
    high_per_s: Positive

    @model_validator(mode="after")
    def _order(self) -> Poisson:
        check_order(self.low_per_s, self.high_per_s, "arrival rate")
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
    episode_share: Fraction | None = None  # an episode's sizes span this share of the range, anywhere in it

    @model_validator(mode="after")
    def _order(self) -> Payload:
        check_order(self.low_kb, self.high_kb, "payload")
        return self


class Telemetry(Strict):
    """What the device may observe, how late and how noisy. The simulator's telemetry has one row a second."""

    probe_interval_s: Annotated[float, Field(json_schema_extra={"minimum": 1, "multipleOf": 1})]
    rtt_noise_fraction: NonNegative
    uplink_noise_fraction: NonNegative
    load_delay_low_s: NonNegative
    load_delay_high_s: NonNegative
    load_noise: NonNegative
    feed_delay_h: NonNegative  # the grid feed shows the value of that long ago

    @field_validator("probe_interval_s")
    @classmethod
    def _whole_seconds(cls, value: float) -> float:
        """Refuse what would be simulated as another interval than it says."""
        if not (value >= 1 and value.is_integer()):
            raise ValueError(
                f"must be a whole number of seconds, at least 1 (telemetry is simulated second by second), got {value}"
            )
        return value

    @model_validator(mode="after")
    def _order(self) -> Telemetry:
        check_order(self.load_delay_low_s, self.load_delay_high_s, "load delay")
        return self


class RewardWeights(Strict):
    """Weights of the reward's terms; each term is a cost, the reward is minus their weighted sum."""

    carbon_per_mg: NonNegative
    slo_miss: NonNegative
    latency_excess_per_s: NonNegative
    accuracy_per_miou: NonNegative


class SampledWishes(Strict):
    """Another position of the dial for every episode, for agents that shall know all of them."""

    presets_share: Fraction  # of the episodes: these have a preset or the scenario's own position


class Wishes(Strict):
    """A position of the operator's dial (`dial.py` says what it means); the ``reward`` holds at the scenario's own."""

    carbon: Fraction
    latency: Fraction
    accuracy: Fraction
    sampled: SampledWishes | None = None  # absent: the dial stands still

    @property
    def vector(self) -> npt.NDArray[np.float64]:
        """Wishes for carbon, latency and accuracy (3,)."""
        return np.array([self.carbon, self.latency, self.accuracy])

    @property
    def features(self) -> dict[str, float]:
        """The wishes by the names that they have in the observation."""
        return {
            "wish_carbon": self.carbon,
            "wish_latency": self.latency,
            "wish_accuracy": self.accuracy,
        }


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
    shift: Shift | None = None  # how the truth departs from all of the above; absent: it does not
    held_out_from: str | None = None  # for evaluation only: the scenario that is trained on instead

    @property
    def can_split(self) -> bool:
        """Whether any placement splits its model."""
        return any(p.split is not None for p in self.placements)

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
            elif p.split is not None:
                raise ValueError(f"placements.{i}.split: its rest runs on a server; give a node of nodes")
        if self.shift is not None and self.shift.rate_factor and isinstance(self.arrivals, ClosedLoop):
            raise ValueError("shift.rate_factor: a closed loop has no rate of its own; leave it out")
        return self


def _known(path: str, name: str, known: dict) -> None:
    if name not in known:
        raise ValueError(f"{path}: '{name}' is not defined.{nearest(name, known)} Known: {sorted(known)}")
