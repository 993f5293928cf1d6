"""The error of a probe that got no usable answer."""

from __future__ import annotations

from ...envs.errors import CarbonPilotError


class ProbeFailure(CarbonPilotError):  # noqa: N818 - a failed probe is an event, counted, not a bug
    """Nothing was measured: the values of before stay, and age."""
