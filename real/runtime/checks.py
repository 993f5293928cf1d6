"""What is checked before the first frame: each failure is one line with its mend."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...agents.compatibility import check_compatible
from ...agents.frozen import FrozenPolicy
from ...agents.policy import Policy
from ...agents.shipped import NAME as PRETRAINED
from ...agents.shipped import shipped_bundle
from ...envs.absence import always_absent
from ...envs.errors import InputError
from ...envs.observation import ObservationTable
from ...envs.scenario import scenario_sha256
from ...envs.schema import Scenario
from ...envs.units import BYTES_PER_KB
from ..calibrate.machine import differences, this_machine
from ..interfaces import Executor, Frame
from ..site_file import SiteFile, file_sha256
from .static_policy import ALWAYS, static_policy

ACTIVATION_TOLERANCE = 0.01  # of the size of what crosses a cut, for rounded numbers in a site file

log = logging.getLogger(__name__)


def check_machine(site: SiteFile, path: Path, allow: bool) -> None:
    """Refuse a site file of another device.

    Raises:
        InputError: it was measured on another machine, and that is not allowed.
    """
    other = differences(site.deployment.machine, this_machine())
    if not other:
        return
    said = f"{path} was measured on another device ({site.deployment.machine.hostname}): {'; '.join(other)}."
    if not allow:
        raise InputError(
            f"{said} Its times and joules do not hold here. Run `carbonpilot calibrate` on this device, or give "
            "--allow-other-device to run all the same."
        )
    log.warning("%s Run all the same, as asked for.", said)


def check_activations(site: SiteFile, executors: Mapping[str, Executor]) -> None:
    """Refuse segments that send another size than the site was calibrated with.

    Raises:
        InputError: likely another cut or wire under the same name.
    """
    nothing = Frame(0, "", None, None, 0.0)
    for p in site.scenario.placements:
        if p.split is None or p.name not in executors:
            continue
        sent_kb = executors[p.name].payload_bytes(nothing) / BYTES_PER_KB
        if abs(sent_kb / p.split.activation_kb - 1.0) > ACTIVATION_TOLERANCE:
            raise InputError(
                f"Placement {p.name}: its segments send {sent_kb:.4g} kB for a frame, the site file says "
                f"{p.split.activation_kb:.4g} kB (split.activation_kb). Likely cause: they were written anew with "
                "another --wire; run `carbonpilot calibrate` again, or take the old segments."
            )


def open_policy(
    bundle: Path | None, name: str | None, scenario: Scenario, table: ObservationTable
) -> tuple[Policy, str, str]:
    """The policy, its name and its card's hash ("" where it has none).

    Args:
        bundle: a bundle's folder, or `pretrained` for the one that is shipped for the site; None: ``name`` holds.
        name: of a static policy.
        scenario, table: the site's.

    Raises:
        BundleError: the bundle is damaged, or was made for another site.
        InputError: there is no static policy of this name, or its placement is on an absent node.
    """
    if bundle is None:
        assert name is not None
        policy = static_policy(name, [p.name for p in scenario.placements])
        _check_there(policy.name, scenario)
        return policy, policy.name, ""
    shipped = bundle == Path(PRETRAINED)
    folder = shipped_bundle(scenario, table, on_device=True) if shipped else bundle
    frozen: Any = FrozenPolicy.load(folder)
    check_compatible(frozen.card, scenario, table)
    if shipped:
        frozen.name = PRETRAINED
    return frozen, frozen.name, file_sha256(folder / "card.json")


def policy_note(policy: Policy, scenario: Scenario) -> str | None:
    """What a reader of the log should know of a bundle: that it was trained on other numbers; None where it was not.

    That is the usual case: a device is calibrated after the agent was trained. Placements, nodes and features are the
    same, or the bundle would have been refused.
    """
    card = getattr(policy, "card", None)
    if card is None or card["scenario_sha256"] == scenario_sha256(scenario):
        return None
    here, there = scenario_sha256(scenario)[:12], card["scenario_sha256"][:12]
    return (
        f"policy '{policy.name}' was trained on scenario '{card['scenario']}' ({there}), this site is "
        f"'{scenario.name}' ({here}): the same placements, nodes and features, other numbers"
    )


def _check_there(policy: str, scenario: Scenario) -> None:
    """Refuse a static policy whose only placement can never be used."""
    for p in scenario.placements:
        if policy == f"{ALWAYS}{p.name}" and p.node in always_absent(scenario):
            raise InputError(
                f"Policy '{policy}' wants node '{p.node}', which the site file leaves out: it is never used. "
                "Take another policy, or a site file with its server."
            )
