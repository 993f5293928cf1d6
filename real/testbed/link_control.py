"""A running link as any process of the same user sees it: changed and asked over its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError
from .orders import MESSAGE_BYTES
from .profiles import Profile, Schedule

_ANSWER_S = 5.0
CONTROL = "link.sock"


def default_state_folder() -> Path:
    """Where the test bed keeps its sockets: ``$XDG_RUNTIME_DIR/carbonpilot-testbed``, else below /run."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run") / "carbonpilot-testbed"


class LinkControl:
    """A running link as any process of the same user sees it: by its control socket.

    Args:
        control: the socket's path, usually ``link.sock`` in the test bed's state folder.
    """

    def __init__(self, control: str | Path) -> None:
        """Nothing is opened before the first order."""
        self.control = Path(control)

    def shape(self, profile: Profile) -> None:
        """Make the link that profile, within a few milliseconds; packets under way keep their time.

        A schedule that was playing ends.

        Raises:
            CarbonPilotError: the link is not running, or refused.
        """
        self._ask({"do": "shape", "profile": asdict(profile)})

    def play(self, schedule: Schedule, loop: bool = False) -> None:
        """Let the link change by itself from now on, by a schedule.

        At its end it begins again where ``loop`` says so; otherwise the link stays as it was last and
        `status` says that the schedule has ended.
        """
        steps = [(t, asdict(p)) for t, p in zip(schedule.times_s, schedule.profiles, strict=True)]
        # A drive of an hour does not fit into one message, so it goes by way of a file that the link removes.
        file = self.control.with_name(f".schedule-{secrets.token_hex(4)}.json")
        file.write_text(json.dumps({"steps": steps, "end_s": schedule.end_s, "loop": loop}))
        try:
            self._ask({"do": "play", "file": str(file)})
        finally:
            file.unlink(missing_ok=True)

    def counters(self, reset: bool = False) -> dict[str, Any]:
        """What the link did since it began, or since the last reset.

        Returns:
            ``up`` and ``down`` with packets, bytes, lost (by chance), overflowed (queue full), cut (outage);
            ``late_ms`` {p50, p99, max}: how late packets were released, the measure of a starved machine;
            ``cpu_us_per_packet``, ``cpu_share``: the relay's own cost; ``scheduling``; ``profile``;
            ``schedule``. Netem knows no lateness and no cost: None.
        """
        return self._ask({"do": "counters", "reset": reset})

    status = counters

    @property
    def profile(self) -> Profile:
        """What the link is now."""
        return Profile(**self._ask({"do": "counters"})["profile"])

    def running(self) -> bool:
        """Whether the link answers."""
        with contextlib.suppress(CarbonPilotError):
            self._ask({"do": "counters"})
            return True
        return False

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(_ANSWER_S)
            try:
                s.connect(str(self.control))
                s.send(json.dumps(order).encode())
                answer = json.loads(s.recv(MESSAGE_BYTES) or b"{}")
            except (OSError, ValueError) as error:
                raise CarbonPilotError(
                    f"The link at {self.control} does not answer ({error}). Is the test bed up? See `testbed status`."
                ) from error
        if "error" in answer:
            raise CarbonPilotError(f"The link refused {order['do']}: {answer['error']}.")
        return answer
