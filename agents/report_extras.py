"""What a report shows beside the benchmark itself, handed in by the caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Extras:
    """Results of other commands on the same scenario.

    Attributes:
        conclusion: the break-even analysis in one line; printed first.
        map_svg: its picture, as an ``<svg>`` element or a whole SVG document.
        calibrations: of the risk heads: policy -> placement -> reliability curve.
    """

    conclusion: str = ""
    map_svg: str = ""
    calibrations: dict[str, dict[str, Any]] = field(default_factory=dict)
