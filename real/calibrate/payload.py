"""How large real frames are when they travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..interfaces import Executor, Frame
from .ledger import Ledger
from .statistics import uniform_range


def measure_payload(
    ledger: Ledger, remote: Mapping[str, Executor], frames: Sequence[Frame], images: str, largest: int
) -> None:
    """Enter the range of payloads; a uniform one with the mean and spread of the frames.

    The simulator gives a request one size wherever it goes; where placements encode differently, the sizes of all
    placements are taken together, and a note says so.
    """
    if not remote:
        return
    used = frames[:largest]
    sizes = {name: [e.payload_bytes(f) / 1000 for f in used] for name, e in remote.items()}
    means = {name: sum(v) / len(v) for name, v in sizes.items()}
    if max(means.values()) > 1.05 * min(means.values()):
        told = ", ".join(f"{name} {mean:.4g} kB" for name, mean in means.items())
        ledger.notes.append(
            f"The placements send differently large payloads ({told}), and the simulator knows one size a frame: "
            "predictions lie between. Use one encoding for all placements."
        )
    low, high = uniform_range([v for values in sizes.values() for v in values])
    method = f"uniform with the mean and spread of {len(used)} frames of {images} as they are sent"
    ledger.measured("payload.low_kb", low, method)
    ledger.measured("payload.high_kb", high, method)
