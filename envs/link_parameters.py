"""What the link generator is made of: one record per family, fitted to recorded links and shipped as YAML."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .errors import unknown_name
from .schema import Fraction, NonNegative, Positive, Strict
from .strict_yaml import parse_yaml
from .validation import validated

Regime = Literal["good", "degraded", "lossy", "blocked"]
REGIMES: tuple[Regime, ...] = ("good", "degraded", "lossy", "blocked")
Correlation = Annotated[float, Field(ge=0, lt=1)]
ScoreTable = Annotated[list[Positive], Field(min_length=25, max_length=25)]  # at the normal scores -3 ... 3
LossTable = Annotated[list[Fraction], Field(min_length=11, max_length=11)]  # quantiles 0, 0.1 ... 1
PROBABILITY_SLACK = 1e-3  # the YAML holds rounded probabilities


class ScoreProcess(Strict):
    """How a table's score moves: slow_share of its variance is slow, the rest is new each second."""

    slow_share: Fraction
    slow_correlation_per_s: Correlation
    smoothing_correlation_per_s: Correlation


class RegimeParameters(Strict):
    """One regime; what does not exist in it is absent."""

    share: Fraction  # of all seconds; the regime of an episode's first second is drawn from it
    next_per_s: dict[Regime, Fraction]  # the regime one second later
    mean_stay_s: Positive
    rtt_multiple: ScoreTable | None = None  # RTT over the episode's base level
    jitter_multiple: NonNegative | None = None  # scale of the jitter within the second, over the RTT
    loss_fraction: LossTable | None = None
    rate_multiple: Annotated[float, Field(gt=0, le=1)] | None = None


class UplinkParameters(Strict):
    """Shape of the uplink rate around the episode's median."""

    rate_shape: ScoreTable
    score: ScoreProcess


class ObservedLink(Strict):
    """What the recordings say, for comparison; the generator does not read it."""

    files: list[str]
    seconds: int
    rtt_p5_ms: Positive
    rtt_p25_ms: Positive
    rtt_p50_ms: Positive
    rtt_p75_ms: Positive
    rtt_p95_ms: Positive
    rtt_p99_ms: Positive
    log_rtt_acf_1s: float
    log_rtt_acf_2s: float
    log_rtt_acf_5s: float
    log_rtt_acf_10s: float
    log_rtt_acf_30s: float | None  # absent where no segment is that long
    blocked_share: Fraction
    mean_blocked_s: NonNegative
    lossy_share: Fraction
    mean_lossy_loss_fraction: Fraction


class LinkParameters(Strict):
    """One family of links."""

    schema_version: Annotated[Literal["carbonpilot/link-family/1"], Field(alias="schema")]
    name: str
    base_rtt_ms: ScoreTable  # level of an episode, drawn once
    score: ScoreProcess
    regimes: dict[Regime, RegimeParameters]
    uplink: UplinkParameters
    observed: ObservedLink

    @model_validator(mode="after")
    def _chain(self) -> LinkParameters:
        if "good" not in self.regimes:
            raise ValueError("regimes: 'good' is missing; every family has it")
        for name, regime in self.regimes.items():
            total = sum(regime.next_per_s.values())
            if abs(total - 1.0) > PROBABILITY_SLACK:
                raise ValueError(f"regimes.{name}.next_per_s must add up to 1, got {total:g}")
            unknown = set(regime.next_per_s) - set(self.regimes)
            if unknown:
                raise ValueError(
                    f"regimes.{name}.next_per_s leads to {sorted(unknown)}, which is not defined"
                )
            if name != "blocked" and (regime.rtt_multiple is None or regime.jitter_multiple is None):
                raise ValueError(f"regimes.{name} needs rtt_multiple and jitter_multiple")
            if (name == "lossy") != (regime.loss_fraction is not None):
                raise ValueError(f"regimes.{name}: loss_fraction is needed in 'lossy' and only there")
        return self


def link_families() -> list[str]:
    """Names of the shipped families."""
    folder = resources.files("carbonpilot.configs").joinpath("links")
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


@lru_cache(maxsize=64)
def load_link_family(name: str) -> LinkParameters:
    """Load a shipped link family.

    Raises:
        InputError: no such family; the nearest name is offered.
        ScenarioError: the file does not follow the schema.
    """
    if name not in link_families():
        raise unknown_name("link family", name, link_families())
    file = resources.files("carbonpilot.configs").joinpath("links").joinpath(f"{name}.yaml")
    return validated(LinkParameters, parse_yaml(file.read_text(encoding="utf-8"), file.name), file.name)
