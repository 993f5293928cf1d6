"""The process behind `carbonpilot testbed up`: owns the test bed until it is told to end.

Started by `up.py`; says on its standard output in one line of JSON how the start went, then nothing more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from ...envs.errors import CarbonPilotError
from .bed import Testbed
from .namespaces import owner
from .state import BedState, ServerState, read_settings, write_owner, write_state


def describe(bed: Testbed) -> BedState:
    """What later commands need to know of a running test bed."""
    servers = {
        node: ServerState(
            namespace=bed.namespace(node),
            address=server.address,
            grpc=server.grpc,
            http=server.http,
            metrics=server.metrics,
            echo_port=bed.settings.echo_port,
            log=str(server.log),
        )
        for node, server in bed.servers.items()
    }
    echoes = bed.echoes.values() if bed.settings.loopback else ()
    return BedState(
        started_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        owner=owner(os.getpid()),
        device=bed.device,
        link=str(bed.link.control) if bed.link else None,
        link_kind=bed.link.kind if bed.link else None,
        servers=servers,
        helpers=[owner(echo.pid) for echo in echoes],
    )


def main() -> int:
    """Run the test bed of a state folder, the only argument, until SIGTERM."""
    folder = Path(sys.argv[1])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        write_owner(folder)
        with Testbed(read_settings(folder), folder) as bed:
            write_state(folder, describe(bed))
            _say({"ready": True})
            while True:
                signal.pause()
    except CarbonPilotError as error:
        _say({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except Exception:
        _say({"error": f"The test bed failed, which is a bug.\n{traceback.format_exc()}", "exit_code": 1})
        return 1


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough; the way out must not be cut short
    raise SystemExit(0)


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)
    sys.stdout.close()


if __name__ == "__main__":
    raise SystemExit(main())
