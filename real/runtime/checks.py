"""What is checked before the first frame: each failure is one line with its mend."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ...agents.compatibility import check_compatible
from ...agents.frozen import FrozenPolicy
from ...agents.policy import Policy
from ...envs.errors import InputError
from ...envs.observation import ObservationTable
from ...envs.schema import Scenario
from ..calibrate.machine import differences, this_machine
from ..site_file import SiteFile, file_sha256
from .static_policy import static_policy

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


def open_policy(
    bundle: Path | None, name: str | None, scenario: Scenario, table: ObservationTable
) -> tuple[Policy, str, str]:
    """The policy, its name and its card's hash ("" where it has none).

    Raises:
        BundleError: the bundle is damaged, or was made for another site.
        InputError: there is no static policy of this name.
    """
    if bundle is None:
        assert name is not None
        policy = static_policy(name, [p.name for p in scenario.placements])
        return policy, policy.name, ""
    frozen: Any = FrozenPolicy.load(bundle)
    check_compatible(frozen.card, scenario, table)
    return frozen, frozen.name, file_sha256(bundle / "card.json")
