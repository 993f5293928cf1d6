"""A printed figure of a paper beside ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

SCHEMA = "carbonpilot/reproduce/1"
SEED = 20261120  # of the tapes that papers are reproduced on
TOLERANCE = 0.10  # a prediction further off is reported as not reproducible, with its reason


class Range(NamedTuple):
    """A figure that a paper prints as a range."""

    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """One printed figure beside ours.

    Attributes:
        table, row, column, unit: where the figure stands in the paper.
        paper: the printed figure; the middle where a range is printed; None where it is only drawn.
        ours: the same from the simulator, or None where it has no such quantity.
        relative_error: (ours - paper) / paper; for a range 0 inside it, else against its nearer end.
        kind: "fitted" (used for calibration), "predicted" or "not_reproducible".
        note: the reason, and which contradiction of the paper bites.
    """

    table: str
    row: str
    column: str
    unit: str
    paper: float | None
    ours: float | None
    relative_error: float | None
    kind: str
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The cell under the keys of the JSON contract."""
        return asdict(self)


def error(printed: float | Range, ours: float) -> float:
    """Relative error against a figure, or against the nearer end of a range."""
    if isinstance(printed, Range):
        printed = min(max(ours, printed.low), printed.high)
    return (ours - printed) / printed


def cell(
    place: tuple[str, str, str, str],
    printed: float | Range,
    ours: float,
    note: str = "",
    *,
    fitted: bool = False,
) -> Cell:
    """Build a cell; a prediction beyond the tolerance is not reproducible, and ``note`` is its reason."""
    off = error(printed, ours)
    kind = "fitted" if fitted else "predicted" if abs(off) <= TOLERANCE else "not_reproducible"
    if isinstance(printed, Range):
        note = f"Printed as {printed.low:g}-{printed.high:g}; the error is to the nearer end. {note}".strip()
        printed = (printed.low + printed.high) / 2
    return Cell(*place, paper=float(printed), ours=ours, relative_error=off, kind=kind, note=note)
