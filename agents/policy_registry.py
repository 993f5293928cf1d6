"""Find a policy by its name, or by the folder of a run or a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..envs.errors import InputError, nearest
from ..envs.schema import Scenario
from ..oracle.per_request import PER_REQUEST, WARM_RADIO, PerRequestOracle
from .baselines import baseline_names, make_policy, static_names
from .policy import Policy

Kind = Literal["static", "rule", "oracle", "learned"]


@dataclass(frozen=True)
class Contestant:
    """A policy with the name it has in tables and JSON, and what sort of policy it is."""

    name: str
    kind: Kind
    policy: Policy


def resolve(name_or_dir: str, scenario: Scenario, seed: int = 0) -> Policy:
    """Find a policy; see `contestant`."""
    return contestant(name_or_dir, scenario, seed).policy


def default_policies(scenario: Scenario) -> list[str]:
    """Every baseline of the scenario, and its oracles."""
    return [*baseline_names(scenario), *oracle_names(scenario)]


def oracle_names(scenario: Scenario) -> list[str]:
    """The oracles, the usually strongest one last; without a radio both are the same and one is enough."""
    return [PER_REQUEST] if scenario.device.radio is None else [PER_REQUEST, WARM_RADIO]


def contestants(names: Iterable[str], scenario: Scenario, seed: int = 0) -> list[Contestant]:
    """Find several policies; each is taken once, and folders of the same name go by their whole path.

    Raises:
        InputError: one of them does not exist or does not fit the scenario.
    """
    found: dict[str, Contestant] = {}
    for given in dict.fromkeys(names):
        entry = contestant(given, scenario, seed)
        if entry.name in found and entry.kind == "learned":
            entry = Contestant(given, entry.kind, entry.policy)
        found.setdefault(entry.name, entry)
    return list(found.values())


def contestant(name_or_dir: str, scenario: Scenario, seed: int = 0) -> Contestant:
    """Find a policy and say what it is.

    Args:
        name_or_dir: a baseline, an oracle (`oracle` for the strongest), a run folder or a bundle folder.
        scenario: the site it shall decide for; a bundle or run made for another family is refused.
        seed: for policies that draw.

    Raises:
        InputError: there is no such policy, or it does not fit the scenario.
    """
    if name_or_dir in ("oracle", PER_REQUEST, WARM_RADIO):
        name = oracle_names(scenario)[-1] if name_or_dir == "oracle" else name_or_dir
        return Contestant(name, "oracle", PerRequestOracle(count_radio=name == PER_REQUEST))
    if name_or_dir in baseline_names(scenario):
        kind: Kind = "static" if name_or_dir in static_names(scenario) else "rule"
        return Contestant(name_or_dir, kind, make_policy(name_or_dir, scenario, seed))
    path = Path(name_or_dir)
    if path.is_dir():
        policy = _from_folder(path, scenario)
        return Contestant(policy.name, "learned", policy)
    raise _unknown(name_or_dir, scenario)


def _from_folder(path: Path, scenario: Scenario) -> Policy:
    if (path / "card.json").is_file():
        return _bundle(path, scenario)
    if (path / "config.yaml").is_file():
        return _run(path, scenario)
    raise InputError(
        f"{path} is neither a bundle (a folder with card.json, made by `carbonpilot export`) nor a run "
        "(a folder with config.yaml, made by `carbonpilot train`)."
    )


def _bundle(path: Path, scenario: Scenario) -> Policy:
    from ..envs.observation import build_table
    from .compatibility import check_compatible
    from .frozen import FrozenPolicy

    policy = FrozenPolicy.load(path)
    check_compatible(policy.card, scenario, build_table(scenario))
    return policy


def _run(path: Path, scenario: Scenario) -> Policy:
    from .sb3_policy import Sb3Policy  # late: torch takes seconds to import

    return Sb3Policy.load(path, scenario)


def _unknown(given: str, scenario: Scenario) -> InputError:
    known = [*default_policies(scenario), "oracle"]
    if Path(given).is_file():
        return InputError(f"'{given}' is a file. Expected the folder of a run or a bundle that holds it.")
    if "/" in given:
        return InputError(f"Policy folder '{given}' does not exist. Expected a run or a bundle folder.")
    return InputError(
        f"Unknown policy '{given}' for scenario '{scenario.name}'.{nearest(given, known)} "
        f"Known: {', '.join(known)}, or the folder of a run or a bundle."
    )
