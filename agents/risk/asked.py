"""What a training of a risk head was asked for, checked before anything is started."""

from __future__ import annotations

from pathlib import Path

from ...envs.errors import InputError
from ...envs.files import check_output_file
from ...envs.observation import build_table
from ...envs.scenario import load_scenario, refuse_held_out
from ...envs.schema import Scenario
from .folder import CARD_FILE


def pricing_site(name: str | None, scenario: Scenario, traces_dir: str | None) -> Scenario:
    """The scenario that the final price is searched on; ``name`` is None for the head's own.

    Raises:
        InputError: no such scenario, one that is held out, or one of other placements or telemetry.
    """
    if name is None:
        return scenario
    site = load_scenario(name, traces=traces_dir is not None)
    refuse_held_out(site)
    if (site.family, build_table(site).sha256) != (scenario.family, build_table(scenario).sha256):
        raise InputError(
            f"price_on: '{name}' is of family '{site.family}' and '{scenario.name}' of '{scenario.family}', or their "
            "telemetry differs: a price can be searched on a site of the same placements and telemetry only."
        )
    return site


def check_folder(out: str | Path) -> Path:
    """The folder, if it can be created: before hours of work, not after.

    Raises:
        InputError: there is something in it, or nothing can be written there.
    """
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"Output folder {path} exists and is not empty. Give a new one, or remove it first.")
    check_output_file(path / CARD_FILE if path.is_dir() else path)
    return path
