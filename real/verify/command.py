"""`carbonpilot verify`: a run's own log against the simulator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .regret import Hindsight


def verify_command(load_hindsight: Callable[[], Hindsight]) -> Callable[..., None]:
    """The command, with the oracle that the command line lends (this room does not know the oracle's).

    Args:
        load_hindsight: imports the oracle when it is needed; that takes a moment.
    """

    def verify(
        log: Annotated[
            Path, typer.Argument(metavar="LOG", help="Log file or log folder of `carbonpilot run`.")
        ],
        site: Annotated[Path, typer.Option(metavar="SITE.yaml", help="The site file that the run used.")],
        json_file: Annotated[
            Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")
        ] = None,
        draws: Annotated[int, typer.Option(min=2, help="Draws of the noise that is not in the log.")] = 64,
        seed: Annotated[int, typer.Option(min=0, help="Seed of these draws.")] = 0,
        regret: Annotated[
            bool, typer.Option("--regret/--no-regret", help="Also plan the run in hindsight.")
        ] = True,
    ) -> None:
        """Replay a run's log in the simulator: predicted against measured latency and energy, and the regret.

        Ends with 1 where the site file no longer fits the run and names the numbers to calibrate again.

        Example: carbonpilot verify logs/ --site site.yaml --json verify.json
        """
        from ...envs.console import progress
        from ...envs.files import check_output_file, write_json
        from ..site_file import load_site
        from .report import as_json, print_verification
        from .verification import verify_log

        if json_file is not None:
            check_output_file(json_file)
        with progress("verify") as tell:
            found = verify_log(log, load_site(site), seed, draws, load_hindsight() if regret else None, tell)
        print_verification(found, str(log))
        if json_file is not None:
            write_json(json_file, as_json(found, str(log), seed))
            typer.echo(f"wrote {json_file}")
        if not found.ok or not any(t.judged for t in found.totals):
            raise typer.Exit(1)

    return verify
