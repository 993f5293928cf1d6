"""Files of tuned parameters: what `carbonpilot tune` writes and rules are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..envs.errors import InputError, nearest
from ..envs.files import atomic_write_text
from ..envs.scenario import scenario_sha256
from ..envs.schema import Scenario
from ..envs.strict_yaml import read_yaml

SCHEMA = "carbonpilot/tuned/1"
TUNED = Path(__file__).resolve().parent.parent / "configs" / "tuned"
_KEYS = ("schema", "scenario", "scenario_sha256", "carbonpilot_version", "objective", "policies")


@dataclass(frozen=True)
class TunedFile:
    """A file's content as far as rules need it.

    Attributes:
        path: where it was read.
        scenario, sha256: what it was tuned for.
        policies: rule -> parameter -> value.
    """

    path: Path
    scenario: str
    sha256: str
    policies: dict[str, dict[str, float]]

    def mismatch(self, scenario: Scenario) -> str | None:
        """Why these parameters are not for this scenario, as a sentence; None if they are."""
        wanted = scenario_sha256(scenario)
        if self.sha256 == wanted:
            return None
        if self.scenario != scenario.name:
            return f"{self.path} was tuned for scenario '{self.scenario}', not for '{scenario.name}'."
        return (
            f"{self.path} was tuned for another version of '{scenario.name}' (scenario_sha256 {self.sha256[:12]}, "
            f"now {wanted[:12]}). Tune again: carbonpilot tune {scenario.name} --policy all --out {self.path}."
        )


def read_tuned(path: Path) -> TunedFile:
    """Read a file of tuned parameters.

    Raises:
        InputError: it does not exist, is not YAML, or lacks or misspells what such a file has.
    """
    content = read_yaml(path)
    if content.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: schema: expected '{SCHEMA}', got {content.get('schema')!r}. Is it made by `carbonpilot tune`?"
        )
    for key in content:
        if key not in _KEYS:
            raise InputError(f"{path}: unknown key '{key}'.{nearest(key, _KEYS)} Known: {', '.join(_KEYS)}.")
    for key in ("scenario", "scenario_sha256", "policies"):
        if key not in content:
            raise InputError(f"{path}: {key}: missing.")
    policies = content["policies"]
    if not isinstance(policies, dict):
        raise InputError(f"{path}: policies: expected one entry for each rule, got {policies!r}.")
    return TunedFile(
        path=path,
        scenario=str(content["scenario"]),
        sha256=str(content["scenario_sha256"]),
        policies={name: _parameters(path, name, entry) for name, entry in policies.items()},
    )


def _parameters(path: Path, name: str, entry: Any) -> dict[str, float]:
    where = f"{path}: policies.{name}.parameters"
    if not isinstance(entry, dict) or not isinstance(entry.get("parameters"), dict):
        raise InputError(f"{where}: expected parameter names and numbers, got {entry!r}.")
    for key, value in entry["parameters"].items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where}.{key}: expected a number, got {value!r}.")
    return {key: float(value) for key, value in entry["parameters"].items()}


def write_tuned(path: Path, content: dict[str, Any]) -> None:
    """Write a file of tuned parameters whole, with a line on top that says what made it."""
    header = "# Written by `carbonpilot tune`; the command of each rule stands beside it. Do not edit.\n"
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    atomic_write_text(path, header + text)
