"""Commands that put a paper's numbers beside ours. Each imports what it needs, so ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envs.options import JsonFile

Plots = Annotated[Path | None, typer.Option("--plots", metavar="DIR", help="Draw the pictures as PNG there.")]


def khan(json_file: JsonFile = None) -> None:
    """Tables 1 and 2, the batching figures, Fig. 3 and 4 of Khan et al., each cell beside ours.

    Cells that cannot be reproduced are marked, with the reason.

    Example: carbonpilot reproduce khan --json khan.json
    """
    from .khan import reproduce

    raise typer.Exit(reproduce(json_file))


def carbonedge(json_file: JsonFile = None, plots: Plots = None) -> None:
    """Tables II, IV and V of CarbonEdge, its weight sweep and its inferences per gram, each cell beside ours.

    Calibrated on the monolithic rows; everything else is predicted, and the unit slip of S_C is shown.

    Example: carbonpilot reproduce carbonedge --plots plots
    """
    from .carbonedge import reproduce

    raise typer.Exit(reproduce(json_file, plots))


def ng(json_file: JsonFile = None, plots: Plots = None) -> None:
    """Both case studies of Ng et al. as time lines, the crossovers, and the closed forms against the simulator.

    Example: carbonpilot reproduce ng --plots plots
    """
    from .ng import reproduce

    raise typer.Exit(reproduce(json_file, plots))
