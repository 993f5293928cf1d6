"""The trials of a sweep: one training run each, resolved and checked before anything starts."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...envs.errors import InputError, nearest
from .. import commands
from ..settings_file import nested, settings_text
from ..training_plan import Plan, make_plan
from .heads import HeadTrial, given_head, head_trial
from .spec import TRAIN, AgentSpec, HeadSpec, SweepSpec

# Parameters of the command `train` that a sweep gives itself.
OWN = {"scenario", "out", "algo", "steps", "seed", "traces", "resume", "settings", "risk"}


@dataclass(frozen=True)
class Trial:
    """One training run.

    Attributes:
        name: folder below ``runs``.
        agent: name of the agent; trials that differ in their seed only share it.
        scenario: as `carbonpilot train` takes it; a path is absolute.
        plan: the resolved training.
        options: further words of the command line.
        needs: name of the trial that makes the risk head under it, and must have finished before; None where the head,
            if there is one, lies in a folder already.
    """

    name: str
    agent: str
    scenario: str
    plan: Plan
    options: tuple[str, ...] = ()
    needs: str | None = None

    @property
    def steps(self) -> int:
        """Environment steps of its training."""
        return self.plan.steps

    def record(self) -> dict[str, Any]:
        """What must stay the same when a sweep goes on; more steps extend a run."""
        head = self.needs or self.plan.risk
        return {
            "agent": self.agent,
            "scenario": self.plan.scenario.name,
            "algorithm": self.plan.algo,
            "steps": self.plan.steps,
            "seed": self.plan.seed,
            "options": list(self.options),
            **({} if head is None else {"risk": str(head)}),
        }

    @property
    def settings_name(self) -> str:
        """Name of the settings file; seeds share it."""
        return f"{self.plan.scenario.name}-{self.agent}.yaml"

    def settings_text(self, notes: str) -> str:
        """A settings file that `carbonpilot train --settings` takes, with a comment."""
        return settings_text(self.plan.algo, self.plan.settings, notes)

    def words(self, out: Path, settings: Path, risk: Path | None) -> tuple[str, ...]:
        """Its command line without the program; it goes on where there is a run already."""
        plan = self.plan
        head = risk or plan.risk
        words = ["train", self.scenario, "--algo", plan.algo, "--steps", str(plan.steps)]
        words += ["--seed", str(plan.seed), "--settings", str(settings)]
        words += [] if plan.traces_dir is None else ["--traces", plan.traces_dir]
        words += [] if head is None else ["--risk", str(head)]
        words += ["--out", str(out), *self.options]
        return (*words, "--resume") if (out / "config.yaml").is_file() else tuple(words)


AnyTrial = Trial | HeadTrial


def expand(spec: SweepSpec, beside: Path) -> list[AnyTrial]:
    """Every trial of a sweep, seed by seed: one that is cut short has all agents with fewer seeds.

    Risk heads stand before the trainings that are laid over them.

    Args:
        spec: the sweep.
        beside: folder that the file's paths count from.

    Raises:
        InputError: a scenario, an algorithm, a setting or an option does not exist or cannot be.
    """
    traces = None if spec.traces is None else _beside(beside, spec.traces)
    first: list[AnyTrial] = []
    over: dict[str, str] = {}  # agent -> its ``risk`` as the file has it
    for scenario, (name, agent) in itertools.product(spec.scenarios, spec.agents.items()):
        path = "/" in scenario or scenario.endswith((".yaml", ".yml"))
        place = _beside(beside, scenario) if path else scenario
        file = None if agent.file is None else _beside(beside, agent.file)
        options = _options(name, agent.options)
        for variant, changes in variants(name, agent):
            plan = _plan(variant, place, agent, traces, file, changes)
            trial = Trial(f"{plan.scenario.name}-{variant}", variant, place, plan, options)
            if agent.risk == TRAIN:
                head = head_trial(_heads(spec, beside), place, plan.scenario, traces)
                first += [] if head in first else [head]
                trial = replace(trial, needs=head.name)
            first.append(trial)
        if agent.risk not in (None, TRAIN):
            over |= {variant: agent.risk for variant, _ in variants(name, agent)}
    found = [_of_seed(trial, seed, over, beside) for seed, trial in itertools.product(spec.seeds, first)]
    names = [trial.name for trial in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two trials of the sweep would be called '{twice}'. Give the agents other names.")
    return found


def _of_seed(trial: AnyTrial, seed: int, over: Mapping[str, str], beside: Path) -> AnyTrial:
    """A trial with its seed, and with the risk head of that seed."""
    name = f"{trial.name}-{seed}"
    if isinstance(trial, HeadTrial):
        return replace(trial, name=name, seed=seed)
    plan = replace(trial.plan, seed=seed)
    if trial.agent in over:
        with _named(trial.agent):
            plan = replace(plan, risk=given_head(over[trial.agent], beside, plan.scenario, seed))
    return replace(
        trial, name=name, plan=plan, needs=None if trial.needs is None else f"{trial.needs}-{seed}"
    )


def _heads(spec: SweepSpec, beside: Path) -> HeadSpec:
    """How heads are made, with an absolute path."""
    heads = spec.heads or HeadSpec(settings={})
    return heads if heads.file is None else heads.model_copy(update={"file": _beside(beside, heads.file)})


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
    later = agent.risk is not None
    with _named(variant):
        return make_plan(scenario, agent.algo, agent.steps, 0, traces, file, changes, risk_later=later)


@contextlib.contextmanager
def _named(agent: str) -> Iterator[None]:
    """Errors say which agent they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"Agent '{agent}' of the sweep: {error}") from error


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
