"""Every rule that can be tuned: its tunables, how it is made with parameters, and the parameters that are shipped."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envs.errors import InputError, unknown_name
from ..envs.scenario import load_scenario
from ..envs.schema import Scenario
from .bandit import Bandit
from .baselines import CleanestZone, RttThreshold
from .policy import Policy
from .predictive import SloPredictive, SloPredictiveBudget
from .predictive_zone import CleanestZoneSlo
from .tunable import Tunable, check_parameters
from .tuned_file import TUNED, read_tuned

Make = Callable[[Scenario, "Mapping[str, Any] | None"], Policy]


@dataclass(frozen=True)
class TunableRule:
    """A rule with its tunables; ``make`` takes the scenario and parameters, each a number or one per episode."""

    name: str
    tunables: tuple[Tunable, ...]
    make: Make


# RTT limits: from below any link's round trip to far above what a 150 ms objective leaves.
_RTT = (
    Tunable("offload_below_ms", 1, 200, 40, log=True, meaning="start to offload under this smoothed RTT"),
    Tunable("return_above_ms", 1, 200, 50, log=True, meaning="go back to local above this smoothed RTT"),
)


def _rtt_threshold(scenario: Scenario, parameters: Mapping[str, Any] | None) -> Policy:
    return RttThreshold(scenario, **(parameters or {}))


def _cleanest_zone(scenario: Scenario, parameters: Mapping[str, Any] | None) -> Policy:
    return CleanestZone(scenario)


_OWN = (
    TunableRule(RttThreshold.name, _RTT, _rtt_threshold),
    TunableRule(CleanestZone.name, (), _cleanest_zone),
    TunableRule(CleanestZoneSlo.name, CleanestZoneSlo.TUNABLES, CleanestZoneSlo),
    TunableRule(SloPredictive.name, SloPredictive.TUNABLES, SloPredictive),
    TunableRule(SloPredictiveBudget.name, SloPredictiveBudget.TUNABLES, SloPredictiveBudget),
    TunableRule(Bandit.name, Bandit.TUNABLES, Bandit),
)
# Modules of the papers' schedulers, which tell their own names and tunables; imported when they are asked for.
_SCHEDULERS = ("carbonedge_policy", "ng_policy", "neurosurgeon")
RULE_NAMES = tuple(rule.name for rule in _OWN)


def tunable_rules() -> dict[str, TunableRule]:
    """Every rule and scheduler by name; those without tunables have an empty tuple."""
    found = {rule.name: rule for rule in _OWN}
    for module_name in _SCHEDULERS:
        module = importlib.import_module(f".{module_name}", __package__)
        for name in module.NAMES:
            found[name] = TunableRule(name, tuple(module.TUNABLES.get(name, ())), _maker(module.make, name))
    return found


def _maker(make: Callable[..., Policy], name: str) -> Make:
    return lambda scenario, parameters: make(name, scenario, parameters)


def _rule(name: str) -> TunableRule:
    own = {rule.name: rule for rule in _OWN}
    rules = own if name in own else tunable_rules()
    if name not in rules:
        raise unknown_name("rule", name, rules)
    return rules[name]


def tunables_of(name: str) -> tuple[Tunable, ...]:
    """The tunables of a rule.

    Raises:
        InputError: there is no such rule; the nearest name is offered.
    """
    return _rule(name).tunables


def default_parameters(name: str) -> dict[str, float]:
    """The parameters that a rule has without tuning."""
    return {t.name: float(t.default) for t in tunables_of(name)}


def make_rule(
    name: str, scenario: Scenario, parameters: Mapping[str, Any] | None = None, seed: int = 0
) -> Policy:
    """Build a rule.

    Args:
        name: one of `RULE_NAMES`, or a scheduler of one of the papers.
        scenario: the site it decides for.
        parameters: by name, each a number or one per episode (B,); what is left out keeps the rule's default.
        seed: for rules that draw; none does so far.

    Raises:
        InputError: unknown rule or parameter, or a value outside of its range.
    """
    rule = _rule(name)
    if parameters is not None:
        check_parameters(name, rule.tunables, parameters)
    return rule.make(scenario, parameters)


@dataclass(frozen=True)
class TunedRules:
    """Parameters of rules for a scenario, and where they are from.

    Attributes:
        parameters: rule -> name -> value; rules that were not tuned are missing.
        source: one sentence for a person: the file, or why the defaults are used.
    """

    parameters: dict[str, dict[str, float]]
    source: str


def tuned_rules(scenario: Scenario, file: str | Path | None = None) -> TunedRules:
    """The tuned parameters for a scenario; for one that is held out, those of the scenario that is trained on instead.

    Args:
        scenario: the site.
        file: made by `carbonpilot tune`; default: the shipped configs/tuned/SCENARIO.yaml, if there is one.

    Raises:
        InputError: a given file (not a shipped one) was made for another scenario, or any is broken.
    """
    if scenario.held_out_from is not None:
        scenario = load_scenario(scenario.held_out_from)
    path = TUNED / f"{scenario.name}.yaml" if file is None else Path(file)
    if file is None and not path.is_file():
        return TunedRules(
            {}, f"no tuned parameters are shipped for '{scenario.name}': rules use their defaults"
        )
    content = read_tuned(path)
    reason = content.mismatch(scenario)
    if reason and file is not None:
        raise InputError(reason)
    if reason:
        return TunedRules({}, f"{reason} Rules use their defaults")
    for name, entry in content.policies.items():
        check_parameters(f"{path}: {name}", tunables_of(name), entry)
    return TunedRules(content.policies, f"parameters tuned on training tapes, from {path.name}")


def tuned_parameters(scenario: Scenario, file: str | Path | None = None) -> dict[str, dict[str, float]]:
    """Rule -> parameters, tuned where `tuned_rules` finds them, else the defaults."""
    tuned = tuned_rules(scenario, file).parameters
    return {name: tuned.get(name, default_parameters(name)) for name in tunable_rules()}
