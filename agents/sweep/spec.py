"""The sweep file: what is trained, with which seeds, on which scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ...envs.errors import InputError
from ...envs.schema_base import Strict
from ...envs.strict_yaml import read_yaml
from ...envs.validation import validated

SCHEMA = "carbonpilot/sweep/1"
TRAIN = "train"  # in place of the folder of a risk head: the sweep makes it
NAME = r"^[a-z0-9][a-z0-9._-]*$"  # it becomes part of a folder's name

Name = Annotated[str, Field(pattern=NAME)]
SeedNumber = Annotated[int, Field(ge=0)]
Choices = Annotated[list[Any], Field(min_length=1)]


class AgentSpec(Strict):
    """One kind of agent, or with ``grid`` one for each combination.

    Attributes:
        algo: learning algorithm.
        steps: requests to learn from.
        file: settings instead of the shipped ones; a path beside the sweep file.
        settings: single settings laid over those of the file; a dotted key goes into a section.
        grid: setting -> values; every combination is an agent of its own.
        options: further options of `carbonpilot train` without the dashes, true for those without a value.
        risk: risk head that the policy is laid over: a folder beside the sweep file, in whose path ``{scenario}`` and
            ``{seed}`` stand for the trial's; or "train" for heads that the sweep makes first, one for each seed.
    """

    algo: str
    steps: Annotated[int, Field(ge=0)]
    file: str | None = None
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]
    grid: Annotated[dict[str, Choices], Field(default_factory=dict)]
    options: Annotated[dict[str, bool | int | float | str], Field(default_factory=dict)]
    risk: str | None = None


class HeadSpec(Strict):
    """How the risk heads of agents with ``risk: train`` are made.

    Attributes:
        file: settings instead of configs/train/risk.yaml; a path beside the sweep file.
        settings: single settings laid over those of the file.
    """

    file: str | None = None
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]


class SweepSpec(Strict):
    """A sweep: every agent on every scenario with every seed.

    Attributes:
        scenarios: shipped names, or paths of YAML files beside the sweep file.
        agents: name -> what is trained.
        seeds: training seeds; at least five are asked for behind a figure that is published.
        traces: folder of recorded traces for all scenarios; a path beside the sweep file.
        heads: how risk heads are made; left out: as `carbonpilot risk train` makes them by itself.
    """

    schema_version: Annotated[Literal["carbonpilot/sweep/1"], Field(alias="schema")]
    scenarios: Annotated[list[str], Field(min_length=1)]
    agents: Annotated[dict[Name, AgentSpec], Field(min_length=1)]
    seeds: Annotated[list[SeedNumber], Field(min_length=1)]
    traces: str | None = None
    heads: HeadSpec | None = None

    @model_validator(mode="after")
    def _heads_are_wanted(self) -> SweepSpec:
        if self.heads is not None and not self.makes_heads:
            raise ValueError(f"heads: no agent has `risk: {TRAIN}`, so no head is made")
        return self

    @property
    def makes_heads(self) -> bool:
        """Whether an agent wants a head of its own seed."""
        return any(agent.risk == TRAIN for agent in self.agents.values())

    @field_validator("seeds", "scenarios")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        twice = sorted({v for v in values if values.count(v) > 1})
        if twice:
            raise ValueError(f"{twice[0]} stands there twice; the same training twice is no second one")
        return values


def read_spec(file: Path) -> SweepSpec:
    """Read a sweep file.

    Raises:
        InputError: it does not exist, or something in it is misspelt, missing or cannot be.
    """
    return validated(SweepSpec, read_yaml(file), str(file))


def spec_of_options(
    scenarios: Sequence[str],
    algorithms: Sequence[str],
    steps: int,
    seeds: str,
    traces: Path | None = None,
) -> SweepSpec:
    """The sweep that a command line without a file asks for; each algorithm with its shipped settings.

    Args:
        scenarios: names or paths.
        algorithms: names.
        steps: requests to learn from.
        seeds: ``0,1,2`` or ``0-4``.
        traces: trace folder.

    Raises:
        InputError: something is missing or cannot be.
    """
    for option, given in (("--scenario", scenarios), ("--algo", algorithms)):
        if not given:
            raise InputError(
                f"Nothing to sweep: give a sweep file, or {option} (may be given several times)."
            )
    content = {
        "schema": SCHEMA,
        "scenarios": list(scenarios),
        "agents": {algo: {"algo": algo, "steps": steps} for algo in algorithms},
        "seeds": seed_list(seeds),
        "traces": None if traces is None else str(traces.absolute()),
    }
    return validated(SweepSpec, content, "options")


def seed_list(text: str) -> list[int]:
    """Seeds from ``0,1,2``, ``0-4`` or both.

    Raises:
        InputError: it is something else.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"--seeds: expected seeds like 0,1,2 or 0-4, got '{text}'.")
        found += range(int(first), int(last if dash else first) + 1)
    if not found:
        raise InputError(f"--seeds: '{text}' holds no seed; the smaller number comes first, as in 0-4.")
    return found
