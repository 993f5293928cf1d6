"""How the test bed's link changes during a run: the demo's four stretches, or a draw of the site's own chain."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ...envs.errors import InputError
from ...envs.schema import SwitchedLink
from ...envs.switched_links import next_second
from .link_control import CONTROL, LinkControl
from .profiles import PROFILES, Schedule, profile_named

# Start in seconds and profile: the stretches of `make testbed-demo`, for 300 frames at five a second.
DEMO = ((0.0, "lan"), (18.0, "emu-b"), (34.0, "outage"), (42.0, "lan"))
DEMO_S = 60.0
START_S = 8  # a run begins on a link that is there: it asks its servers first


def schedule(stretches: tuple[tuple[float, str], ...], end_s: float, name: str) -> Schedule:
    """Named profiles from their times on."""
    return Schedule(
        name, tuple(t for t, _ in stretches), tuple(profile_named(p) for _, p in stretches), end_s
    )


def demo_schedule(length_s: float = DEMO_S) -> Schedule:
    """LAN, Emu-B, outage, LAN, in the demo's proportions."""
    scale = length_s / DEMO_S
    return schedule(tuple((scale * t, name) for t, name in DEMO), length_s, "demo")


def drawn_schedule(source: SwitchedLink, length_s: float, rng: np.random.Generator) -> Schedule:
    """A link that switches as the site's scenario says; its conditions go by the names of profiles.

    Args:
        source: the conditions, and how long they stay.
        length_s: how long it shall be.
        rng: draws it.

    Raises:
        InputError: a condition has no profile of its name, so the test bed cannot shape it.
    """
    names = list(source.conditions)
    for name in names:
        if name not in PROFILES:
            raise InputError(
                f"The site's link has a condition '{name}', and the test bed can be {', '.join(PROFILES)}. Calibrate "
                "on the base configs/testbed/base.yaml."
            )
    chain = next_second(source)
    open_ = np.array([c.outage is None for c in source.conditions.values()])
    weights = np.array([c.weight for c in source.conditions.values()]) * open_
    state = int(rng.choice(len(names), p=weights / weights.sum()))
    stretches = [(0.0, names[state])]
    for second in range(START_S, int(np.ceil(length_s))):
        state = int(rng.choice(len(names), p=chain[state]))
        if names[state] != stretches[-1][1]:
            stretches.append((float(second), names[state]))
    return schedule(tuple(stretches), length_s, "drawn")


def told(plan: Schedule) -> str:
    """A schedule in words, as "lan 0 s, emu-b 18 s"."""
    return ", ".join(f"{p.name} {t:g} s" for t, p in zip(plan.times_s, plan.profiles, strict=True))


def main() -> None:
    """Play the demo's stretches on a test bed that runs."""
    parser = argparse.ArgumentParser(description="Let the link of a running test bed change as in the demo.")
    parser.add_argument("--state", type=Path, required=True, help="state folder of the test bed")
    LinkControl(parser.parse_args().state / CONTROL).play(demo_schedule())


if __name__ == "__main__":
    main()
