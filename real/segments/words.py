"""Segments in a line each."""

from __future__ import annotations

from .check import Checked
from .manifest import Segment


def segment_line(segment: Segment) -> str:
    """What was cut, what crosses, what was proved."""
    proof = _proof(
        segment.max_abs_difference, segment.wire_max_abs_difference, segment.agreement, segment.wire
    )
    return f"{_what(segment)}; {proof}"


def checked_line(checked: Checked) -> str:
    """The same for a segment that was checked just now."""
    segment, seen = checked.segment, checked.comparison
    if seen is None:
        return f"{_what(segment)}; whole, and runs here (give --model to compare with the whole model)"
    proof = _proof(seen.max_abs_difference, seen.wire_max_abs_difference, seen.agreement, segment.wire)
    return f"{_what(segment)}; {proof}, on {seen.checked_on}"


def _what(segment: Segment) -> str:
    shape = " x ".join(str(side) for side in segment.shape)
    size = f"{segment.wire_bytes / 1000:.1f} kB as {segment.wire}"
    return f"{segment.cut} ({segment.tensor}, {shape}): {size}, on the server {segment.triton_model}"


def _proof(plain: float, wired: float, agreement: float, wire: str) -> str:
    lost = "" if wire == "float32" else f", {wired:.2g} over the wire"
    return f"largest difference from the whole model {plain:.2g}{lost}, {agreement:.4%} of the answers equal"
