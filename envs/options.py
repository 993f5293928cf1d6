"""Arguments and options that several commands of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A shipped name, or the path of a YAML file.")
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Everything random follows from it.")]
Traces = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Folder of real traces; takes the form of the scenario that reads them (metro: metro-traces).",
    ),
]
Wish = Annotated[
    str | None,
    typer.Option(
        metavar="WISH",
        help="Position of the dial: green, balanced, performance, or carbon,latency,accuracy of 0 to 1 each. "
        "Default: the scenario's.",
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")]
