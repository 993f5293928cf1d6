"""How large a frame is when it travels as a whole; an activation's size is no property of the frame."""

from __future__ import annotations

from collections.abc import Mapping

from ...envs.schema import LOCAL, Scenario
from ...envs.units import BYTES_PER_KB


class Payloads:
    """Of the frames of a site.

    Where every server's placement splits the model no frame travels whole, and nothing depends on its size: it has the
    middle of the scenario's range then, as the features must be within it.
    """

    def __init__(self, scenario: Scenario) -> None:
        """See which placements send frames."""
        self._whole = [p.name for p in scenario.placements if p.node != LOCAL and p.split is None]
        self._middle_kb = (scenario.payload.low_kb + scenario.payload.high_kb) / 2

    def largest_kb(self, payload_bytes: Mapping[str, int]) -> float:
        """The most that sending the frame would take; ``payload_bytes`` is by placement."""
        sizes = [payload_bytes[name] for name in self._whole if name in payload_bytes]
        return max(sizes) / BYTES_PER_KB if sizes else 0.0 if self._whole else self._middle_kb

    def of_kb(self, payload_bytes: Mapping[str, int], placement: str | None) -> float:
        """What sending it to a placement would take; the most, where that does not send frames."""
        sent = payload_bytes.get(placement, 0) if placement in self._whole else 0
        return sent / BYTES_PER_KB or self.largest_kb(payload_bytes)
