"""Changes the link of a running test bed by name, by file or number by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...envs.errors import InputError
from .link import LinkControl
from .profiles import Profile, Schedule, profile_or_schedule
from .state import BedState


def shape_link(
    bed: BedState, text: str | None, numbers: Mapping[str, float | bool | None], loop: bool
) -> str:
    """Change it.

    Args:
        bed: the running test bed.
        text: a profile's name or a recording's path; None starts from what the link is now.
        numbers: fields of `Profile` to set; None leaves one as it is.
        loop: play a recording again and again.

    Returns:
        What it is now, for the user.

    Raises:
        InputError: nothing to change, a profile that cannot be, or a test bed without a link.
    """
    if bed.link is None:
        raise InputError("This test bed is on loopback and has no link. Start one without --loopback.")
    control = LinkControl(bed.link)
    given = {name: value for name, value in numbers.items() if value is not None}
    if text is None and not given:
        raise InputError(
            "Say what the link shall be: a profile's name, a file, or numbers such as --rtt-ms 60."
        )
    rate_mbps = given.get("rate_mbps")
    wanted = control.profile if text is None else profile_or_schedule(text, rate_mbps)
    if isinstance(wanted, Schedule):
        if set(given) - {"rate_mbps"}:
            raise InputError(
                "A recorded link has its own numbers: give no others with it, except --rate-mbps."
            )
        control.play(wanted, loop)
        return f"The link plays {wanted.name}: {wanted.end_s:g} s{', again and again' if loop else ''}."
    if loop:
        raise InputError("--loop is for a recorded link.")
    named = wanted.name if not given else f"{wanted.name.removesuffix(' (changed)')} (changed)"
    profile = replace(wanted, name=named, **given)
    control.shape(profile)
    return f"The link is {words(profile)}."


def words(profile: Profile) -> str:
    """A profile in a line."""
    if profile.outage:
        return f"{profile.name}: outage, nothing passes"
    return (
        f"{profile.name}: RTT {profile.rtt_ms:g} ms, jitter {profile.rtt_jitter_ms:g} ms, "
        f"loss {100 * profile.loss:g} %, {profile.rate_mbps:g} Mbit/s"
    )
