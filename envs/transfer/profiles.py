"""The emulated links by name: one table for the test bed, the recorded uploads and the comparison with the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import InputError, unknown_name


@dataclass(frozen=True)
class Profile:
    """What an emulated link does to packets.

    Attributes:
        name: of the profile.
        rtt_ms: mean round-trip time, half of it each way.
        rtt_jitter_ms: standard deviation of its slowly varying (100 ms) Gaussian offset.
        loss: share of the packets towards the server that are lost, each by itself, 0 to 1.
        rate_mbps: of each direction, Mbit/s on the wire (IP header counted).
        outage: nothing passes, either way.
    """

    name: str
    rtt_ms: float
    rtt_jitter_ms: float
    loss: float
    rate_mbps: float
    outage: bool = False

    def __post_init__(self) -> None:
        """Refuse what no link can do."""
        for field in ("rtt_ms", "rtt_jitter_ms"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0.0):
                raise InputError(f"profile {self.name}: {field} must be 0 or more, got {value}")
        if not 0.0 <= self.loss <= 1.0:
            hint = " The loss is a share: 1 % is 0.01." if self.loss > 1.0 else ""
            raise InputError(f"profile {self.name}: loss must be from 0 to 1, got {self.loss}.{hint}")
        if not (math.isfinite(self.rate_mbps) and self.rate_mbps > 0.0):
            raise InputError(f"profile {self.name}: rate_mbps must be above 0, got {self.rate_mbps}")

    def cut(self) -> Profile:
        """The same link with nothing passing."""
        return replace(self, outage=True)


# lan, clean-30, emu-a and emu-b are those of the recorded uploads (uploads_kernel_tcp.csv); RTT, jitter and loss of
# emu-a and emu-b are Khan et al.'s Emu-A and Emu-B, whose rates are not published (assumed). An outage has the
# delay of emu-a, which nothing ever notices.
_ALL = (
    Profile("lan", 2.0, 0.5, 0.0, 940.0),
    Profile("clean-30", 30.0, 5.0, 0.0, 100.0),
    Profile("emu-a", 30.0, 10.0, 0.002, 100.0),
    Profile("emu-b", 60.0, 20.0, 0.01, 50.0),
    Profile("outage", 30.0, 10.0, 0.002, 100.0, outage=True),
)
PROFILES = {profile.name: profile for profile in _ALL}


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        InputError: there is none; names the nearest.
    """
    if name not in PROFILES:
        raise unknown_name("profile", name, PROFILES)
    return PROFILES[name]
