"""What the stages of a risk training gave, for people and for the card; and behaviours whose prices differ by tape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...envs.schema import Scenario
from ..policy import Policy
from .calibration import Curve
from .parameters import PRICE

MISS_PRICES = ("miss_price_mg", "miss_price_locals")


@dataclass(frozen=True)
class Stage:
    """What one stage gave.

    Attributes:
        name: of the stage.
        samples: labelled requests that the head has seen so far.
        requests: requests simulated in this stage.
        loss: held-out cross-entropy by placement, nats; empty for the rule.
        carbon_mg, compliance: per request, and share of episodes keeping the SLO, on fresh training tapes.
        seconds: what it took.
    """

    name: str
    samples: int
    requests: int
    loss: dict[str, float]
    carbon_mg: float
    compliance: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For the card."""
        return {
            "stage": self.name,
            "samples": self.samples,
            "requests_simulated": self.requests,
            "held_out_loss": {name: round(value, 5) for name, value in self.loss.items()},
            "fresh_mg_per_request": round(self.carbon_mg, 6),
            "fresh_episodes_meeting_slo": round(self.compliance, 6),
            "seconds": round(self.seconds, 1),
        }

    def line(self) -> str:
        """For a person."""
        loss = f", held-out loss {sum(self.loss.values()) / len(self.loss):.4f}" if self.loss else ""
        return (
            f"{self.name}: {self.carbon_mg:.4f} mg per request, SLO kept in {100 * self.compliance:.1f} % of fresh "
            f"tapes{loss}; {self.samples:,} samples, {self.requests / 1e6:.1f} M requests, {self.seconds:.0f} s"
        )


def calibration_line(found: Mapping[str, Curve]) -> str:
    """The calibration for a person."""
    words = (
        f"{name} {100 * c.error:.1f} % ({100 * c.mean_predicted:.1f} % predicted, {100 * c.mean_observed:.1f} % "
        f"observed, {c.samples:,} samples)"
        for name, c in found.items()
    )
    return "calibration error on fresh tapes: " + "; ".join(words)


class SpreadPrices:
    """A policy with a price of a miss, whose price differs from tape to tape.

    A head that has seen bolder and more careful prices knows the states that a search for a price leads to.
    """

    def __init__(
        self,
        make: Callable[[Scenario, Mapping[str, Any]], Policy],
        scenario: Scenario,
        parameters: Mapping[str, float],
        spread: float,
        rng: np.random.Generator,
    ) -> None:
        """Remember what to make; prices are drawn in `reset`.

        Args:
            make: takes the scenario and parameters of one value per episode (B,).
            scenario: the site.
            parameters: its numbers; those of `MISS_PRICES` are multiplied.
            spread: standard deviation of the logarithm of a tape's factor.
            rng: draws them.
        """
        self.name = "learned-risk with spread prices"
        self._make, self._scenario, self._parameters = make, scenario, dict(parameters)
        self._spread, self._rng = spread, rng
        self._ranges = {t.name: (t.low, t.high) for t in PRICE}

    def reset(self, batch: int) -> None:
        """Draw a factor for each tape."""
        factor = np.exp(self._spread * self._rng.standard_normal(batch))
        drawn = {name: np.clip(self._parameters[name] * factor, *self._ranges[name]) for name in MISS_PRICES}
        self._policy = self._make(self._scenario, {**self._parameters, **drawn})
        self._policy.reset(batch)

    def decide(self, observation: Any, mask: Any) -> Any:
        """See `Policy.decide`."""
        return self._policy.decide(observation, mask)
