"""What the device observes: the simulator's feature table, filled from probes, feeds and own requests."""

from __future__ import annotations

from .attempts import Attempt
from .budget import Carried
from .levels import node_levels, site_levels
from .observer import DeviceState, Observer
from .throttle import MeasuredThrottle
from .view import Doubts

__all__ = [
    "Attempt",
    "Carried",
    "DeviceState",
    "Doubts",
    "MeasuredThrottle",
    "Observer",
    "node_levels",
    "site_levels",
]
