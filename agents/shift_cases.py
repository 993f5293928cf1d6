"""The shifts of a shift report: what happens to a site, and the site after it.

A case changes the section ``shift`` of a scenario only. All that device, rules and bundles believe of the site stays
what it was (`envs.schema_shift`), so they learn of a shift by what they measure, as they would in the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..envs.schema import ClosedLoop, ConstantZone, Scenario
from ..envs.schema_shift import Factor, Shift, SilentFeed

UNCHANGED = "unchanged"
# The factors are those of the project's limits (docs/generalisation.md).
DIRTIER, WORSE, BUSIER, SLOWER = 1.5, 2.0, 1.5, 1.2
SILENT_LOW_H, SILENT_HIGH_H = (
    6.0,
    18.0,
)  # assumed: a feed lost in the night and not missed until the afternoon


@dataclass(frozen=True)
class ShiftCase:
    """One shift.

    Attributes:
        name: in tables, JSON and on the command line.
        meaning: what it is, for a person.
        parts: the shift's keys with their values.
        does_not_apply: says why a scenario cannot have it; None if it can.
    """

    name: str
    meaning: str
    parts: dict[str, Any]
    does_not_apply: Callable[[Scenario], str | None] = lambda scenario: None

    def of(self, scenario: Scenario) -> Scenario:
        """The scenario after the shift; factors multiply with those that it has already."""
        if not self.parts:
            return scenario
        before = scenario.shift or Shift()
        changes = {key: _with(getattr(before, key), value) for key, value in self.parts.items()}
        return scenario.model_copy(update={"shift": before.model_copy(update=changes)})


def _with(old: Any, new: Any) -> Any:
    return old.times(new.low) if isinstance(old, Factor) and isinstance(new, Factor) else new


def _always(factor: float) -> Factor:
    return Factor(low=factor, high=factor)


def _needs_links(scenario: Scenario) -> str | None:
    return None if scenario.links else "there is no link"


def _needs_a_rate(scenario: Scenario) -> str | None:
    return "a closed loop has no rate of its own" if isinstance(scenario.arrivals, ClosedLoop) else None


def _needs_a_moving_grid(scenario: Scenario) -> str | None:
    moving = any(not isinstance(zone, ConstantZone) for zone in scenario.zones.values())
    return None if moving else "the grids never change, so an old value is a true one"


def _no_other_grid(scenario: Scenario) -> str | None:
    """Two shifts of grids would need two factors; the schema has one."""
    shifted = scenario.shift is not None and scenario.shift.grid_factor is not None
    return "the scenario shifts its grids already" if shifted else None


CASES = (
    ShiftCase(UNCHANGED, "the site as it is described", {}),
    ShiftCase(
        "dirty-device",
        f"the device's grid (and every zone that is the same) {DIRTIER:g} times as dirty, and the feed says so",
        {"grid_factor": _always(DIRTIER), "grid_of": "device"},
        _no_other_grid,
    ),
    ShiftCase(
        "dirty-grids",
        f"all grids {DIRTIER:g} times as dirty, and the feeds say so",
        {"grid_factor": _always(DIRTIER), "grid_of": "all"},
        _no_other_grid,
    ),
    ShiftCase(
        "bad-link",
        "the link twice as bad: half the rate, twice the round trip, jitter and loss",
        {
            "link_rate_factor": _always(1 / WORSE),
            "link_rtt_factor": _always(WORSE),
            "link_loss_factor": _always(WORSE),
        },
        _needs_links,
    ),
    ShiftCase(
        "busy", f"{BUSIER:g} times as many requests a second", {"rate_factor": _always(BUSIER)}, _needs_a_rate
    ),
    ShiftCase(
        "silent-feed",
        f"grid feeds silent for {SILENT_LOW_H:g} to {SILENT_HIGH_H:g} hours: old values, whose age is shown",
        {"silent_feed": SilentFeed(probability=1.0, low_h=SILENT_LOW_H, high_h=SILENT_HIGH_H)},
        _needs_a_moving_grid,
    ),
    ShiftCase(
        "slow-device",
        f"the device takes {SLOWER:g} times as long as it is believed to, for the same energy",
        {"device_service_factor": _always(SLOWER)},
    ),
)
