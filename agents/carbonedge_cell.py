"""How a printed figure and ours become a cell of the CarbonEdge reproduction."""

from __future__ import annotations

from . import carbonedge_paper as paper
from .carbonedge_runs import CALIBRATED, Figures, Key
from .paper_cells import TOLERANCE, Cell

V2 = paper.MOBILENET_V2
OTHER = ", other readings"  # end of the names of tables that the paper does not have
Runs = dict[Key, Figures]


def cell(
    place: tuple[str, str, str, str], printed: float, ours: float, note: str = "", kind: str | None = None
) -> Cell:
    """Build a cell; without a kind it is predicted if it is within the tolerance, else not reproducible."""
    error = 0.0 if ours == printed else None if printed == 0 else (ours - printed) / printed
    if kind is None:
        kind = "predicted" if error is not None and abs(error) <= TOLERANCE else "not_reproducible"
    return Cell(*place, paper=printed, ours=ours, relative_error=error, kind=kind, note=note)


def reduction_pct(runs: Runs, key: Key) -> float:
    """Carbon saved against the monolithic run of the same model, %."""
    mono = runs[Key(key.model, CALIBRATED.name, paper.MONOLITHIC)]
    return 100 * (1 - runs[key].carbon_g / mono.carbon_g)
