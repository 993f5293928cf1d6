"""Which policies know the dial, and where those that do not may be played.

An agent that was trained at one position has never seen another wish: its network would make anything of it. So it is
played at its own position or not at all. Rules and static placements do not read the wishes; they play everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..envs.dial import checked_wishes
from ..envs.errors import InputError
from ..envs.schema import Wishes


def knows_dial(policy: object) -> bool:
    """Whether a policy heeds the wishes."""
    return bool(getattr(policy, "knows_dial", False))


def wishes_record(trained: Wishes, knows_all: bool = False) -> dict[str, Any]:
    """The wishes that an agent was made with, for a bundle's card: the position, and whether it knows the others.

    ``knows_all`` is for what was not trained with sampled wishes and heeds them nonetheless.
    """
    position = {"carbon": trained.carbon, "latency": trained.latency, "accuracy": trained.accuracy}
    return {**position, "sampled": knows_all or trained.sampled is not None}


def recorded_wishes(record: Mapping[str, Any]) -> tuple[Wishes, bool]:
    """What `wishes_record` wrote: the position, and whether others were seen in training."""
    return checked_wishes(*(float(record[k]) for k in ("carbon", "latency", "accuracy"))), bool(
        record["sampled"]
    )


def check_position(what: str, trained: Wishes, sampled: bool, here: Wishes, scenario: str) -> None:
    """Refuse an agent at a position of the dial that it has never seen.

    Args:
        what: the agent, for the message.
        trained: position that it was trained at.
        sampled: whether positions were drawn in its training, so that it knows all of them.
        here: where it shall be played.
        scenario: name of the site.

    Raises:
        InputError: it knows its own position only, and this is another one.
    """
    if sampled or trained.features == here.features:
        return
    raise InputError(
        f"{what} was trained at one position of the dial, {position_text(trained)}, and would see "
        f"{position_text(here)} for the first time. Play it with --wish {wish_text(trained)}, or train one that knows "
        f"the dial: carbonpilot train {scenario} --wish sampled --out RUN_DIR"
    )


def position_text(wishes: Wishes) -> str:
    """A position in words."""
    return f"carbon {wishes.carbon:g}, latency {wishes.latency:g}, accuracy {wishes.accuracy:g}"


def wish_text(wishes: Wishes) -> str:
    """A position as a user types it."""
    return f"{wishes.carbon:g},{wishes.latency:g},{wishes.accuracy:g}"
