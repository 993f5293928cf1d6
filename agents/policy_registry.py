"""Find a policy by its name, or by the folder of a run or a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..envs.errors import InputError, nearest
from ..envs.observation import build_table
from ..envs.schema import Scenario
from ..oracle.per_request import PER_REQUEST, WARM_RADIO, PerRequestOracle
from ..oracle.solvers import BUDGET, COUPLED, ORACLES, make_oracle
from . import carbonedge_policy, neurosurgeon, shipped
from .baselines import RandomPlacement, RoundRobin, make_policy, static_names
from .policy import Policy
from .risk import policy as learned_risk
from .risk.folder import is_risk_folder
from .rule_parameters import RULE_NAMES, TunedRules, make_rule, tunable_rules, tuned_rules
from .shield import ShieldedPolicy

Kind = Literal["static", "rule", "oracle", "learned"]
_UNTUNABLE = (RoundRobin.name, RandomPlacement.name)
SHIELD_END = "+shield"  # of any policy's name or folder: it plays under the shield
TUNED_END = "-tuned"  # of the name of a paper's scheduler whose parameters are not the paper's


@dataclass(frozen=True)
class Contestant:
    """A policy with the name it has in tables and JSON, and what sort of policy it is.

    Attributes:
        name: in tables and JSON.
        kind: what sort of policy it is.
        policy: what decides.
        folder: the run or bundle that it was read from, if it was.
    """

    name: str
    kind: Kind
    policy: Policy
    folder: Path | None = None


def resolve(name_or_dir: str, scenario: Scenario, seed: int = 0) -> Policy:
    """Find a policy; see `contestant`."""
    return contestant(name_or_dir, scenario, seed).policy


def default_policies(scenario: Scenario, tuned: TunedRules | None = None) -> list[str]:
    """Every static placement of the scenario, every rule, every scheduler of a paper, every oracle but the slow one.

    Neurosurgeon's choice stands among them where a model can be split, `learned-risk` and `pretrained` where a risk
    head or an agent is shipped. A scheduler plays with its paper's parameters, and once more as ``NAME-tuned`` where
    there are tuned ones.
    """
    found = (tuned or tuned_rules(scenario)).parameters
    schedulers = [f"{name}{TUNED_END}" for name in found if name not in RULE_NAMES]
    return [
        *static_names(scenario),
        *_UNTUNABLE,
        *(name for name in tunable_rules() if name not in neurosurgeon.NAMES or scenario.can_split),
        *([learned_risk.NAME] if learned_risk.is_shipped(scenario) else []),
        *([shipped.NAME] if shipped.is_shipped(scenario, build_table(scenario)) else []),
        *schedulers,
        *oracle_names(scenario),
        BUDGET,
    ]


def oracle_names(scenario: Scenario) -> list[str]:
    """The oracles that decide as they go, the usually stronger last; without a radio both are the same."""
    return [PER_REQUEST] if scenario.device.radio is None else [PER_REQUEST, WARM_RADIO]


def contestants(
    names: Iterable[str], scenario: Scenario, seed: int = 0, tuned: TunedRules | None = None
) -> list[Contestant]:
    """Find several policies; each is taken once, and folders of the same name go by their whole path.

    Arguments as `contestant`.

    Raises:
        InputError: one of them does not exist or does not fit the scenario.
    """
    tuned = tuned or tuned_rules(scenario)
    found: dict[str, Contestant] = {}
    for given in dict.fromkeys(names):
        entry = contestant(given, scenario, seed, tuned)
        if entry.name in found and entry.kind == "learned":
            entry = replace(entry, name=given)
        found.setdefault(entry.name, entry)
    return list(found.values())


def contestant(
    name_or_dir: str, scenario: Scenario, seed: int = 0, tuned: TunedRules | None = None
) -> Contestant:
    """Find a policy and say what it is.

    Args:
        name_or_dir: a baseline, rule, scheduler or oracle (`oracle` for the strongest, which takes seconds a tape),
            `learned-risk` or `pretrained` for what is shipped for the site, a run folder, a bundle folder or a risk
            folder; any of them with ``+shield`` at its end plays under the shield.
        scenario: the site it shall decide for; a bundle or run made for another family is refused.
        seed: for policies that draw.
        tuned: parameters of the rules; None: those that are shipped for the scenario.

    Raises:
        InputError: there is no such policy, or it does not fit the scenario.
    """
    if name_or_dir.endswith(SHIELD_END):
        return _shielded(contestant(name_or_dir.removesuffix(SHIELD_END), scenario, seed, tuned), scenario)
    if name_or_dir in ("oracle", *ORACLES):
        name = COUPLED if name_or_dir == "oracle" else name_or_dir
        return Contestant(name, "oracle", _oracle(name, scenario))
    if name_or_dir in static_names(scenario):
        return Contestant(name_or_dir, "static", make_policy(name_or_dir, scenario))
    if name_or_dir in _UNTUNABLE:
        return Contestant(name_or_dir, "rule", make_policy(name_or_dir, scenario, seed))
    if name_or_dir.removesuffix(TUNED_END) in tunable_rules():
        return Contestant(name_or_dir, "rule", _rule(name_or_dir, scenario, tuned or tuned_rules(scenario)))
    if name_or_dir == learned_risk.NAME:
        folder = learned_risk.shipped_folder(scenario)
        return Contestant(learned_risk.NAME, "learned", learned_risk.shipped(scenario), folder)
    if name_or_dir == shipped.NAME:
        return _pretrained(scenario)
    if name_or_dir in carbonedge_policy.VARIANTS:
        return Contestant(name_or_dir, "rule", carbonedge_policy.make(name_or_dir, scenario))
    path = Path(name_or_dir)
    if path.is_dir():
        policy = _from_folder(path, scenario)
        return Contestant(policy.name, "learned", policy, path)
    raise _unknown(name_or_dir, scenario)


def _shielded(entry: Contestant, scenario: Scenario) -> Contestant:
    if entry.kind == "oracle":
        raise InputError(
            f"{entry.name} knows the outcomes, a shield over it would say nothing: leave {SHIELD_END} out."
        )
    policy = ShieldedPolicy(entry.policy, scenario)
    return Contestant(policy.name, entry.kind, policy, entry.folder)


def _rule(name: str, scenario: Scenario, tuned: TunedRules) -> Policy:
    base = name.removesuffix(TUNED_END)
    if name != base and base not in tuned.parameters:
        raise InputError(
            f"There is no '{name}' for '{scenario.name}': {tuned.source}. "
            f"Make some with `carbonpilot tune {scenario.name} --policy {base} --out FILE`, then give --tuned FILE."
        )
    wanted = base in RULE_NAMES or name != base
    policy = make_rule(base, scenario, tuned.parameters.get(base) if wanted else None)
    policy.name, policy.tuned = name, wanted and base in tuned.parameters  # type: ignore[attr-defined]  # for the report
    return policy


def _oracle(name: str, scenario: Scenario) -> Policy:
    if name in (PER_REQUEST, WARM_RADIO):
        return PerRequestOracle(count_radio=name == PER_REQUEST)
    return make_oracle(name, scenario)


def _from_folder(path: Path, scenario: Scenario) -> Policy:
    if (path / "card.json").is_file():
        return _bundle(path, scenario)
    if (path / "config.yaml").is_file():
        return _run(path, scenario)
    if is_risk_folder(path):
        return learned_risk.LearnedRisk.load(path, scenario)
    raise InputError(
        f"{path} is neither a bundle (a folder with card.json, made by `carbonpilot export`) nor a run "
        "(a folder with config.yaml, made by `carbonpilot train`), nor a risk head with its price (a folder with "
        "price.json, made by `carbonpilot risk train`)."
    )


def _pretrained(scenario: Scenario) -> Contestant:
    folder = shipped.shipped_bundle(scenario, build_table(scenario))
    policy = _bundle(folder, scenario)
    policy.name = shipped.NAME
    return Contestant(policy.name, "learned", policy, folder)


def _bundle(path: Path, scenario: Scenario) -> Policy:
    from .compatibility import check_compatible
    from .frozen import FrozenPolicy

    policy = FrozenPolicy.load(path)
    check_compatible(policy.card, scenario, build_table(scenario))
    return policy


def _run(path: Path, scenario: Scenario) -> Policy:
    from .sb3_policy import Sb3Policy  # late: torch takes seconds to import

    return Sb3Policy.load(path, scenario)


def _unknown(given: str, scenario: Scenario) -> InputError:
    learned = (learned_risk.NAME, shipped.NAME)
    names = [*default_policies(scenario), *learned, *ORACLES, *carbonedge_policy.VARIANTS, "oracle"]
    known = list(dict.fromkeys(names))
    if Path(given).is_file():
        return InputError(f"'{given}' is a file. Expected the folder of a run or a bundle that holds it.")
    if "/" in given:
        return InputError(f"Policy folder '{given}' does not exist. Expected a run or a bundle folder.")
    return InputError(
        f"Unknown policy '{given}' for scenario '{scenario.name}'.{nearest(given, known)} "
        f"Known: {', '.join(known)}, or the folder of a run or a bundle; each also with {SHIELD_END} at its end."
    )
