"""Settings of a training run: one strict YAML file per algorithm, with overrides per scenario.

``configs/train/ALGO.yaml`` holds a complete ``default`` section and, under ``scenarios``, only what differs
for a scenario or for all scenarios of a family. Every number says in a comment where it comes from.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from ..envs.errors import InputError, unknown_name
from ..envs.schema_base import Strict
from ..envs.strict_yaml import parse_yaml, read_yaml
from ..envs.validation import validated
from .training_settings import SETTINGS, TrainingConfig

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "train"


def load_training_config(
    algo: str,
    scenario_name: str,
    family: str,
    file: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[TrainingConfig, str]:
    """Read the settings of an algorithm for a scenario.

    Args:
        algo: name of an algorithm (`training_settings.SETTINGS`).
        scenario_name: section looked for first.
        family: section looked for next; without either, ``default`` alone holds.
        file: another file than the shipped one.
        changes: values laid over those of the file (a command line's options); mappings go key by key.

    Returns:
        The settings and the name of the section that they come from.

    Raises:
        InputError: unknown algorithm, misspelt, missing or impossible key, with its dotted path.
    """
    if algo not in SETTINGS:
        raise unknown_name("algorithm", algo, SETTINGS)
    path = Path(file) if file is not None else CONFIGS / f"{algo}.yaml"
    settings = _read(algo, path)
    section = next((name for name in (scenario_name, family) if name in settings.scenarios), "default")
    found = settings.scenarios.get(section, settings.default)
    changed = laid_over(found.model_dump(), changes or {})
    return validated(type(found), changed, "training options"), section


def changes_from(words: Sequence[str]) -> dict[str, Any]:
    """Settings from words like ``gamma=0.9`` or ``constraint.start=2``; values are read as YAML.

    Raises:
        InputError: a word has no equals sign or its value is no YAML.
    """
    changes: dict[str, Any] = {}
    for word in words:
        path, sign, text = word.partition("=")
        keys = path.split(".")
        if not sign or not all(keys):
            raise InputError(f"--set {word}: expected KEY=VALUE, such as gamma=0.9 or constraint.start=2.")
        value = parse_yaml(f"value: {text}", f"--set {word}")["value"]
        for key in reversed(keys):
            value = {key: value}
        changes = laid_over(changes, value)
    return changes


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others laid over them: mappings key by key, anything else whole."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = laid_over(result[key], value) if both else value
    return result


@functools.cache
def _file_of(algo: str) -> type[Strict]:
    """The record of an algorithm's file; a section of ``scenarios`` is complete once laid over ``default``."""
    kind: Any = SETTINGS[algo]
    fields: dict[str, Any] = {
        "schema_version": (Literal["carbonpilot/train/1"], Field(alias="schema")),
        "algorithm": (Literal[algo], ...),  # pyright: ignore[reportInvalidTypeForm]
        "default": (kind, ...),
        "scenarios": (dict[str, kind], ...),
    }
    return create_model("SettingsFile", __base__=Strict, **fields)


def _read(algo: str, path: Path) -> Any:
    """Check ``default`` by itself first, so that a mistake there is reported once, then all sections."""
    kind, content = _file_of(algo), read_yaml(path)
    sections = content.get("scenarios")
    if not isinstance(sections, dict):
        return validated(kind, content, str(path))
    checked: Any = validated(kind, {**content, "scenarios": {}}, str(path))
    default = checked.default.model_dump()
    merged = {
        name: laid_over(default, over) if isinstance(over, dict) else over for name, over in sections.items()
    }
    return validated(kind, {**content, "scenarios": merged}, str(path))
