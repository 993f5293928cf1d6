"""One line of the doctor's report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# ok: as it should be. missing: not there, and only some uses need it. failed: needed, and not as it should be.
State = Literal["ok", "missing", "failed"]


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        group: heading of the report.
        name: what was looked at.
        state: see `State`.
        detail: what is there.
        mend: what to do; "" where nothing is wrong.
    """

    group: str
    name: str
    state: State
    detail: str
    mend: str = ""


def looked_at(group: str, name: str, look: Callable[[], Finding]) -> Finding:
    """Look; whatever goes wrong is a finding as well, since a doctor does not fall ill."""
    try:
        return look()
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        return Finding(
            group, name, "failed", f"could not be looked at: {told[:300]}", "Report this as a bug."
        )
