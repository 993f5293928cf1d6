"""What the benchmark keeps of one policy, of an agent trained with several seeds, and of one that failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .metrics import SLO_LATENCY
from .policy_registry import Kind
from .seed_levels import Siblings

# Fixed before any result was seen: a policy complies when it meets the SLO in this share of its episodes.
# Carbon is compared among complying policies only; whoever misses more can always be cleaner.
COMPLIANT_SHARE = 0.95
CARBON, MET = "carbon_mg_per_request", "episodes_meeting_slo"

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PolicyResult:
    """One policy on all tapes.

    Attributes:
        name, kind: as in `Contestant`.
        metrics: per episode, name -> (B,).
        shares: share of each placement per episode (P, B).
        latency_cdf_ms: latencies at evenly spaced quantiles from 0 to 1, over all requests, ms.
        time, time_shares: placements over the course of the episode, see `share_over_time`.
        requests: requests that were played.
        placement: chosen placements of the first 256 episodes (N, up to 256), -1 after an episode's end; None where
            they were not kept.
        seconds: what playing it took.
        tuned: whether its parameters were searched on training tapes of this scenario.
        note: what a reader of its scores should know; else empty.
    """

    name: str
    kind: Kind
    metrics: dict[str, F64]
    shares: F64
    latency_cdf_ms: F64
    time: F64
    time_shares: F64
    requests: int
    placement: npt.NDArray[np.int8] | None = None
    seconds: float = 0.0
    tuned: bool = False
    note: str = ""

    @property
    def compliance(self) -> float:
        """Share of the episodes that meet the SLO."""
        return float(self.metrics[MET].mean())

    @property
    def complies(self) -> bool:
        """Whether it meets the SLO often enough for its carbon to count."""
        return self.compliance >= COMPLIANT_SHARE

    @property
    def carbon_mg(self) -> float:
        """Mean CO2 per request, mg."""
        return float(self.metrics[CARBON].mean())

    @property
    def slo_latency_ms(self) -> float:
        """Mean over the episodes of the latency at the objective's quantile, ms."""
        return float(self.metrics[SLO_LATENCY].mean())


@dataclass(frozen=True, eq=False)
class SeedGroup(PolicyResult):
    """One agent trained with several seeds; every metric (B,) is the mean over the seeds.

    Attributes:
        members: names of its policies.
        seeds: their training seeds.
        levels: metric -> (S, B).
    """

    members: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    levels: dict[str, F64] = field(default_factory=dict)


@dataclass(frozen=True)
class Excluded:
    """A policy that could not be judged.

    Attributes:
        name, kind: as in `Contestant`.
        reason: what it did.
        asked: whether it was named in the call, and not one of the defaults.
    """

    name: str
    kind: Kind
    reason: str
    asked: bool = True

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(self.__dict__)


def seed_group(group: Siblings, members: list[PolicyResult]) -> SeedGroup:
    """Put the policies of one agent, trained with several seeds, together."""
    levels = {name: np.stack([m.metrics[name] for m in members]) for name in members[0].metrics}
    pooled = np.concatenate([m.latency_cdf_ms for m in members])
    return SeedGroup(
        name=group.name,
        kind="learned",
        metrics={name: values.mean(axis=0) for name, values in levels.items()},
        shares=np.mean([m.shares for m in members], axis=0),
        latency_cdf_ms=np.quantile(pooled, np.linspace(0, 1, len(members[0].latency_cdf_ms))),
        time=members[0].time,
        time_shares=np.mean([m.time_shares for m in members], axis=0),
        requests=sum(m.requests for m in members),
        seconds=sum(m.seconds for m in members),
        members=group.members,
        seeds=group.seeds,
        levels=levels,
    )
