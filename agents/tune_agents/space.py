"""The space that is searched: a strict YAML file of settings and their ranges.

schema: carbonpilot/space/1
algorithm: ppo
space:
  learning_rate: {kind: float, low: 0.0002, high: 0.003, log: true}
  n_epochs: {kind: int, low: 2, high: 8}
  hidden: {kind: choice, values: [[64, 64], [128, 128]]}
  constraint.ki: {kind: float, low: 0.02, high: 0.5, log: true}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from ...envs.errors import InputError, nearest
from ...envs.schema_base import Strict
from ...envs.strict_yaml import read_yaml
from ...envs.validation import validated
from ..settings_file import nested
from ..training_config import laid_over
from ..training_settings import TrainingConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SPACES = Path(__file__).resolve().parent.parent.parent / "configs" / "tune"

Number = Annotated[float, Field(allow_inf_nan=False)]


class FloatRange(Strict):
    """A number from a range, on a logarithmic scale if ``log``."""

    kind: Literal["float"]
    low: Number
    high: Number
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        _check_range(self.low, self.high, self.log)
        return self

    def distribution(self) -> BaseDistribution:
        """For optuna."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)

    def ends(self) -> list[Any]:
        """Values that must be possible."""
        return [self.low, self.high]


class IntRange(Strict):
    """A whole number from a range, on a logarithmic scale if ``log``."""

    kind: Literal["int"]
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        _check_range(self.low, self.high, self.log)
        return self

    def distribution(self) -> BaseDistribution:
        """For optuna."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log)

    def ends(self) -> list[Any]:
        """Values that must be possible."""
        return [self.low, self.high]


class Choice(Strict):
    """One of some values, which may be lists (layers) or nothing."""

    kind: Literal["choice"]
    values: Annotated[list[Any], Field(min_length=2)]

    def distribution(self) -> BaseDistribution:
        """For optuna, which keeps text only; `decoded` reads it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([json.dumps(value) for value in self.values])

    def ends(self) -> list[Any]:
        """Values that must be possible."""
        return self.values


def _check_range(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise ValueError(f"low ({low}) must be below high ({high})")
    if log and low <= 0:
        raise ValueError(f"low ({low}) must be above 0 on a logarithmic scale")


Range = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


class Space(Strict):
    """What is searched.

    Attributes:
        algorithm: whose settings they are.
        space: dotted key of a setting -> its range.
    """

    schema_version: Annotated[Literal["carbonpilot/space/1"], Field(alias="schema")]
    algorithm: str
    space: Annotated[dict[str, Range], Field(min_length=1)]

    def distributions(self) -> dict[str, BaseDistribution]:
        """For optuna."""
        return {key: entry.distribution() for key, entry in self.space.items()}

    def changes(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A point of the space, as optuna has it, as changes that are laid over the settings."""
        return nested({key: self._value(key, parameters[key]) for key in self.space})

    def _value(self, key: str, stored: Any) -> Any:
        return json.loads(stored) if isinstance(self.space[key], Choice) else stored

    def stored(self, settings: TrainingConfig) -> dict[str, Any]:
        """The settings as a point of the space; what lies outside of it is left out."""
        found = {}
        for key, entry in self.space.items():
            value = value_of(settings.model_dump(mode="json"), key)
            if isinstance(entry, Choice):
                if value in entry.values:
                    found[key] = json.dumps(value)
            elif isinstance(value, int | float) and entry.low <= value <= entry.high:
                found[key] = value
        return found


def read_space(algo: str, file: Path | None) -> Space:
    """Read a file, or the shipped one of an algorithm.

    Raises:
        InputError: there is none, it is for another algorithm, or something in it cannot be.
    """
    if file is None:
        file = SPACES / f"{algo}.yaml"
        if not file.is_file():
            shipped = ", ".join(sorted(p.stem for p in SPACES.glob("*.yaml")))
            raise InputError(
                f"No search space is shipped for '{algo}' (only for {shipped}). Give one with --space."
            )
    space = validated(Space, read_yaml(file), str(file))
    if space.algorithm != algo:
        raise InputError(f"{file} is a search space for '{space.algorithm}', not for '{algo}'.")
    return space


def check_space(space: Space, settings: TrainingConfig) -> None:
    """Refuse settings that do not exist and ends of ranges that cannot be, before anything is trained.

    Args:
        space: what is to be searched.
        settings: the algorithm's, which every trial is laid over.

    Raises:
        InputError: naming the key.
    """
    content = settings.model_dump(mode="json")
    known = dotted(content)
    for key, entry in space.space.items():
        if key not in known:
            raise InputError(f"space.{key}: there is no such setting.{nearest(key, known)}")
        for value in entry.ends():
            changed = laid_over(content, nested({key: value}))
            validated(type(settings), changed, f"space.{key} at {value}")


def dotted(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys of nested settings, sections included."""
    found = []
    for key, value in content.items():
        found.append(prefix + key)
        if isinstance(value, Mapping):
            found += dotted(value, f"{prefix}{key}.")
    return found


def value_of(content: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key; None where there is no such section."""
    value: Any = content
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
