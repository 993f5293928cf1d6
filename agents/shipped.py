"""The agents that are shipped: bundles below ``pretrained/``, each in a folder named as a site or a family of sites.

The device finds them too, so nothing of ``envs`` or of the training is imported before something goes wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .bundle import CARD_FILE, read_card
from .compatibility import check_compatible

NAME = "pretrained"  # of the policy
SHIPPED = Path(__file__).resolve().parent / "pretrained"
RANDOMISED = "-wide"  # a family's site that is another one in every episode has this behind the family's name
MAKE = (
    "carbonpilot risk train {site} --out RISK_DIR",
    "carbonpilot train {site} --risk RISK_DIR --settings configs/train/ppo-risk-taught.yaml --out RUN_DIR",
    "carbonpilot export RUN_DIR --out BUNDLE_DIR",
)


def shipped_folder(scenario: Any, on_device: bool = False) -> Path | None:
    """Folder of the bundle for a scenario or its family (`folder_names`); None without one."""
    names = folder_names(scenario, on_device)
    return next((SHIPPED / name for name in names if (SHIPPED / name / CARD_FILE).is_file()), None)


def folder_names(scenario: Any, on_device: bool = False) -> list[str]:
    """Names under which what decides for a scenario may be shipped, the best first.

    Its own, then that of the site that is trained on in its place, because its family's may have met what is held out.
    On a device the scenario is a calibrated one that has the name of its base and other numbers, which moreover drift:
    there what has met randomised sites comes first.
    """
    names = [scenario.name, scenario.held_out_from, scenario.family]
    names = [scenario.family + RANDOMISED, *names] if on_device else names
    return list(dict.fromkeys(n for n in names if n is not None))


def shipped_bundle(scenario: Any, table: Any, on_device: bool = False) -> Path:
    """Folder of the bundle that is shipped for a scenario and decides there.

    Args:
        scenario: the ``Scenario``.
        table: its ``ObservationTable``.
        on_device: it is a calibrated site.

    Raises:
        InputError: none is shipped for it; says how to make one.
        BundleError: the one that is was made for other placements or features, or another position of the dial.
    """
    folder = shipped_folder(scenario, on_device)
    if folder is None:
        raise _nothing_shipped(scenario)
    check_compatible(read_card(folder), scenario, table)
    return folder


def is_shipped(scenario: Any, table: Any) -> bool:
    """Whether the policy `pretrained` exists for a scenario: a bundle is shipped, and it fits."""
    from ..envs.errors import InputError

    try:
        return shipped_folder(scenario) is not None and shipped_bundle(scenario, table) is not None
    except InputError:
        return False


def _nothing_shipped(scenario: Any) -> Exception:
    from ..envs.errors import InputError

    commands = "; ".join(f"`{command.format(site=scenario.name)}`" for command in MAKE)
    return InputError(
        f"No agent is shipped for site '{scenario.name}' of family '{scenario.family}'. Make one with {commands}; then "
        "give BUNDLE_DIR."
    )
