"""How long calibrate measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Counts and times.

    Attributes:
        probes: round trips of a link.
        paired: small remote calls that are held against a probe each.
        fresh: uploads over a new connection each, for the rate.
        upload_bytes, upload_s: size of an upload, and for how long they go on over one connection at most.
        losses, segments: lost segments that are enough, or segments without any loss.
        calls: inferences of each placement at the camera's rate.
        alone: local inferences one after the other with rests.
        bursts: bursts of each size for the batch times.
        heat_s: local inferences back to back, to see whether the device slows down.
        idle_s, active_s: windows of the meters.
        images: frames whose payload is measured.
        runtime: frames that the runtime plays with stand-ins, for its own overhead; 0: it is not measured.
        at_work: frames in each of three turns of the device's own model in the runtime, and frames of each split
            model's head there; 0: they are called as they are, without the runtime.
    """

    probes: int
    paired: int
    fresh: int
    upload_bytes: int
    upload_s: float
    losses: int
    segments: int
    calls: int
    alone: int
    bursts: int
    heat_s: float
    idle_s: float
    active_s: float
    images: int
    runtime: int
    at_work: int = 0


# 150 lost segments leave a standard error of 8 % of the share of lost segments (1 / sqrt(n)), 40 left 16 %.
FULL = Effort(
    probes=150,
    paired=60,
    fresh=12,
    upload_bytes=2_000_000,
    upload_s=25.0,
    losses=150,
    segments=20_000,
    calls=150,
    alone=30,
    bursts=12,
    heat_s=60.0,
    idle_s=20.0,
    active_s=20.0,
    images=100,
    runtime=60,
    at_work=100,
)
QUICK = Effort(
    probes=60,
    paired=25,
    fresh=8,
    upload_bytes=2_000_000,
    upload_s=5.0,
    losses=25,
    segments=6_000,
    calls=40,
    alone=10,
    bursts=4,
    heat_s=0.0,
    idle_s=5.0,
    active_s=5.0,
    images=30,
    runtime=20,
    at_work=20,
)
