"""What verify says of one figure: within the limit, off, or off by no more than the prediction leaves open."""

from __future__ import annotations

import pytest

from carbonpilot.real.verify.checks import placement_checks
from carbonpilot.real.verify.compare import Comparison, Figure


@pytest.mark.parametrize(
    ("mean_ms", "ok", "open_still"),
    [
        (Figure(100.0, 104.0, 103.0, 105.0), True, False),  # 4 % off, 5 are allowed
        (
            Figure(100.0, 115.0, 90.0, 140.0),
            True,
            True,
        ),  # 15 %, but few requests over a lossy link tell no more
        (Figure(100.0, 115.0, 110.0, 120.0), False, False),  # 15 %, and not by chance
    ],
)
def test_a_figure_beyond_its_limit_passes_by_its_interval_only_and_says_so(
    tiny_scenario, mean_ms, ok, open_still
):
    scenario = tiny_scenario()
    name, fits = scenario.placements[0].name, Figure(1.0, 1.0, 1.0, 1.0)
    mean, *others = placement_checks(
        scenario, [Comparison(name, "all", "calibrated", 80, mean_ms, fits, fits, fits)]
    )
    assert (mean.ok, "within what the prediction leaves open" in mean.detail) == (ok, open_still)
    assert all(check.ok and "leaves open" not in check.detail for check in others)
