"""The trials of a sweep: one training run each, resolved and checked before anything starts."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...envs.errors import InputError, nearest
from .. import commands
from ..settings_file import nested
from ..training_plan import Plan, make_plan
from .spec import AgentSpec, SweepSpec

# Parameters of the command `train` that a sweep gives itself.
OWN = {"scenario", "out", "algo", "steps", "seed", "traces", "resume", "settings"}


@dataclass(frozen=True)
class Trial:
    """One training run.

    Attributes:
        name: folder below ``runs``.
        agent: name of the agent; trials that differ in their seed only share it.
        scenario: as `carbonpilot train` takes it; a path is absolute.
        plan: the resolved training.
        options: further words of the command line.
    """

    name: str
    agent: str
    scenario: str
    plan: Plan
    options: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """What must stay the same when a sweep goes on; more steps extend a run."""
        return {
            "agent": self.agent,
            "scenario": self.plan.scenario.name,
            "algorithm": self.plan.algo,
            "steps": self.plan.steps,
            "seed": self.plan.seed,
            "options": list(self.options),
        }

    @property
    def settings_name(self) -> str:
        """Name of the settings file; seeds share it."""
        return f"{self.plan.scenario.name}-{self.agent}.yaml"


def expand(spec: SweepSpec, beside: Path) -> list[Trial]:
    """Every trial of a sweep, seed by seed: one that is cut short has all agents with fewer seeds.

    Args:
        spec: the sweep.
        beside: folder that the file's paths count from.

    Raises:
        InputError: a scenario, an algorithm, a setting or an option does not exist or cannot be.
    """
    traces = None if spec.traces is None else _beside(beside, spec.traces)
    first: list[Trial] = []
    for scenario, (name, agent) in itertools.product(spec.scenarios, spec.agents.items()):
        path = "/" in scenario or scenario.endswith((".yaml", ".yml"))
        place = _beside(beside, scenario) if path else scenario
        file = None if agent.file is None else _beside(beside, agent.file)
        options = _options(name, agent.options)
        for variant, changes in variants(name, agent):
            plan = _plan(variant, place, agent, traces, file, changes)
            first.append(Trial(f"{plan.scenario.name}-{variant}", variant, place, plan, options))
    found = [
        replace(trial, name=f"{trial.name}-{seed}", plan=replace(trial.plan, seed=seed))
        for seed, trial in itertools.product(spec.seeds, first)
    ]
    names = [trial.name for trial in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two trials of the sweep would be called '{twice}'. Give the agents other names.")
    return found


def variants(name: str, agent: AgentSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each combination of an agent's grid: its name, and the settings laid over those of the file."""
    for values in itertools.product(*agent.grid.values()):
        chosen = dict(zip(agent.grid, values, strict=True))
        words = [f"{key.rpartition('.')[2]}-{_word(value)}" for key, value in chosen.items()]
        yield "-".join([name, *words]), nested({**agent.settings, **chosen})


def _word(value: Any) -> str:
    """A value as part of a folder's name."""
    text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())


def _plan(
    variant: str,
    scenario: str,
    agent: AgentSpec,
    traces: str | None,
    file: str | None,
    changes: Mapping[str, Any],
) -> Plan:
    try:
        return make_plan(scenario, agent.algo, agent.steps, 0, traces, file, changes)
    except InputError as error:
        raise InputError(f"Agent '{variant}' of the sweep: {error}") from error


def _options(agent: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Further options as words of the command line."""
    known = [
        name.replace("_", "-") for name in inspect.signature(commands.train).parameters if name not in OWN
    ]
    words: list[str] = []
    for name, value in given.items():
        if name not in known:
            raise InputError(
                f"Agent '{agent}' of the sweep: options.{name}: `carbonpilot train` has no such option, or the "
                f"sweep gives it itself.{nearest(name, known)} Known: {', '.join(known)}."
            )
        if value is not False:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return tuple(words)


def _beside(folder: Path, path: str) -> str:
    return str((folder / path).absolute())
