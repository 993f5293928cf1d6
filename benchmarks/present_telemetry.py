"""Any command in a world whose telemetry shows the second under way instead of the one before it.

What probes of the present could give at most: round trips, losses, rates, outages and loads of this very second, for a
policy that is tuned or trained on them (docs/learned-risk.md, "Where the limit is").

Run: python benchmarks/present_telemetry.py risk train metro --out runs/present
     python benchmarks/present_telemetry.py benchmark metro --policy runs/present --episodes 200
"""

from __future__ import annotations

import sys

import numpy as np

from carbonpilot.cli import main
from carbonpilot.envs import telemetry


def show_the_present() -> None:
    """Show every row of what is probed or reported one second earlier."""
    probe_link, probe_load = telemetry._probe_link, telemetry._probe_load

    def shifted(shown: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([values[1:], values[-1:]]) for name, values in shown.items()}

    telemetry._probe_link = lambda *args: shifted(probe_link(*args))
    telemetry._probe_load = lambda *args: shifted(probe_load(*args))


show_the_present()  # in processes that this one starts as well

if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main()
