"""Files of training settings that this program writes: by sweeps and searches, for `carbonpilot train --settings`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..envs.errors import InputError
from ..envs.files import atomic_write_text
from .training_settings import TrainingConfig

SCHEMA = "carbonpilot/train/1"


def settings_text(algo: str, settings: TrainingConfig, notes: str = "") -> str:
    """A complete settings file: one section that holds everywhere.

    Args:
        algo: the algorithm that the settings are of.
        settings: resolved settings.
        notes: lines about where they come from; written as comments.
    """
    comment = "".join(f"# {line}".rstrip() + "\n" for line in notes.splitlines())
    content = {
        "schema": SCHEMA,
        "algorithm": algo,
        "default": settings.model_dump(mode="json"),
        "scenarios": {},
    }
    return comment + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def write_settings(path: Path, algo: str, settings: TrainingConfig, notes: str = "") -> None:
    """Write a settings file whole; see `settings_text`."""
    atomic_write_text(path, settings_text(algo, settings, notes))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with dotted keys (``constraint.kp``) as mappings in mappings.

    Raises:
        InputError: a key is given twice, once in either way.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"Setting '{key}': '{section}' has a value of its own and no section.")
        if last in place:
            raise InputError(f"Setting '{key}' is given twice.")
        place[last] = nested(value) if isinstance(value, Mapping) else value
    return found
