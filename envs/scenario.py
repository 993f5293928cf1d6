"""Scenarios: find one by name or path, resolve what it extends, check it, hash it.

A scenario may start with ``extends: NAME`` (a shipped name, or a path relative to the file) and give only
what differs, beside a ``name`` and a ``description`` of its own. Mappings are merged key by key; lists are
replaced whole; a part whose ``kind`` or ``distribution`` changes is replaced whole; ``key: null`` removes
an inherited key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .absence import scenario_of_site
from .errors import InputError, ScenarioError, unknown_name
from .schema import Scenario
from .strict_yaml import read_yaml
from .validation import validated

SITE_SCHEMA = (
    "carbonpilot/site/1"  # a site file (`real.site_file`) holds a whole scenario under its key `scenario`
)
SCENARIOS = Path(__file__).resolve().parent.parent / "configs" / "scenarios"
TRACES_SUFFIX = "-traces"
_FORM_KEYS = ("kind", "distribution")  # a part in another form shares no keys with its parent's


def shipped_scenarios() -> list[str]:
    """Names of the scenarios that come with the package."""
    return sorted(path.stem for path in SCENARIOS.glob("*.yaml"))


def load_scenario(name_or_path: str | Path, traces: bool = False) -> Scenario:
    """Load a scenario and check it.

    Args:
        name_or_path: a shipped name, or the path of a YAML file: a scenario, or a site file that holds one.
        traces: take the form that reads a trace folder: NAME-traces for a shipped NAME.

    Raises:
        InputError: there is no such scenario, or none that reads traces.
        ScenarioError: the file is broken; names file, dotted path, rule and nearest known key.
    """
    path = _find(str(name_or_path), traces)
    content, parents = _resolve(path, ())
    where = str(path) + (f" (extends {', '.join(parents)})" if parents else "")
    if content.get("schema") == SITE_SCHEMA:
        try:
            content = scenario_of_site(content)
        except ValueError as err:
            raise ScenarioError(f"{where}: {err}") from None
    scenario = validated(Scenario, content, where)
    if traces and scenario.split != "traces":
        raise InputError(
            f"{where}: split is '{scenario.split}', so it reads no trace folder. {_with_traces()}"
        )
    return scenario


def refuse_held_out(scenario: Scenario) -> None:
    """Refuse to learn anything on a scenario that is kept for evaluation.

    Raises:
        InputError: names the scenario to learn on instead.
    """
    if scenario.held_out_from is not None:
        raise InputError(
            f"Scenario '{scenario.name}' is held out for evaluation: nothing may be trained or tuned on its regions, "
            f"operators and days. Use '{scenario.held_out_from}', then benchmark here."
        )


def scenario_dict(scenario: Scenario) -> dict[str, Any]:
    """The scenario as plain data under the keys of its YAML file; parts that are off are left out."""
    return scenario.model_dump(mode="json", by_alias=True, exclude_none=True)


def scenario_sha256(scenario: Scenario) -> str:
    """Hash of the resolved scenario: SHA-256 of its JSON with sorted keys, no spaces and 5 as 5.0."""
    canonical = json.dumps(scenario_dict(scenario), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def scenario_yaml(scenario: Scenario) -> str:
    """The resolved scenario as a YAML text that loads to the same hash."""
    return yaml.safe_dump(scenario_dict(scenario), sort_keys=False, allow_unicode=True, width=100)


def scenario_json_schema() -> dict[str, Any]:
    """The JSON schema of a resolved scenario, for editors and other tools."""
    schema = Scenario.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _find(given: str, traces: bool) -> Path:
    """The file of a scenario: a path where it looks like one, else a shipped name."""
    if "/" in given or given.endswith((".yaml", ".yml")):
        return Path(given)
    known = shipped_scenarios()
    if given not in known:
        raise unknown_name("scenario", given, known)
    if traces and not given.endswith(TRACES_SUFFIX):
        if given + TRACES_SUFFIX not in known:
            raise InputError(f"Scenario '{given}' has no form that reads traces. {_with_traces()}")
        given += TRACES_SUFFIX
    return SCENARIOS / f"{given}.yaml"


def _with_traces() -> str:
    bases = [name.removesuffix(TRACES_SUFFIX) for name in shipped_scenarios() if name.endswith(TRACES_SUFFIX)]
    return f"Scenarios that do: {', '.join(bases) or 'none is shipped'}."


def _resolve(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, Any], list[str]]:
    """Read a file and everything that it extends.

    Returns:
        The merged content, and the names of the parents, nearest first.
    """
    content = read_yaml(path)
    if "extends" not in content:
        return content, []
    parent = content.pop("extends")
    if not isinstance(parent, str):
        raise ScenarioError(f"{path}: extends: must be the name or the path of one scenario, got {parent!r}")
    parent_path = _parent(path, parent)
    if parent_path.resolve() in (p.resolve() for p in (*seen, path)):
        raise ScenarioError(f"{path}: extends: '{parent}' leads back to this file")
    for own in ("name", "description"):
        if own not in content:
            raise ScenarioError(f"{path}: {own}: missing. A scenario that extends another needs its own")
    base, parents = _resolve(parent_path, (*seen, path))
    return merge(base, content), [parent, *parents]


def _parent(path: Path, parent: str) -> Path:
    try:
        found = _find(parent, traces=False)
    except InputError as err:
        raise ScenarioError(f"{path}: extends: {err}") from None
    return path.parent / found  # an absolute path (a shipped one) stays as it is


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``changes`` over ``base`` by the rules at the top of this file; neither is altered."""
    merged = dict(base)
    for key, new in changes.items():
        old = base.get(key)
        if new is None and key in base:
            del merged[key]
        elif isinstance(old, Mapping) and isinstance(new, Mapping) and not _other_form(old, new):
            merged[key] = merge(old, new)
        else:
            merged[key] = new
    return merged


def _other_form(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(key in new and new[key] != old.get(key) for key in _FORM_KEYS)
