"""Everybody whom a sweep's agents are compared with, played on the same tapes, without and with the run-time shield."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from ...envs.console import Progress
from ...envs.errors import CarbonPilotError, InputError
from ...envs.schema import Scenario
from ..benchmark import play
from ..benchmark_result import BenchmarkResult
from ..policy_registry import SHIELD_END, contestant, default_policies
from ..policy_result import PolicyResult, SeedGroup, seed_group
from ..rule_parameters import TunedRules
from ..seed_levels import LEARNED_RISK, Siblings

ORACLE = "oracle-"


@dataclass(frozen=True, eq=False)
class SweepResult(BenchmarkResult):
    """A benchmark whose groups are the sweep's agents.

    Attributes:
        families: an agent's name with the policies and seeds that belong to it.
    """

    families: tuple[Siblings, ...] = ()

    @cached_property
    def groups(self) -> tuple[SeedGroup, ...]:
        """Agents with two seeds or more, as one entry each."""
        found = {r.name: r for r in self.results}
        return tuple(seed_group(f, [found[name] for name in f.members]) for f in self.families if _several(f))

    def of_agent(self, agent: str) -> tuple[PolicyResult, tuple[int, ...]] | None:
        """The row of an agent, its seeds together or its only run, and the seeds; None where no run could be judged."""
        for family in self.families:
            if family.name == family_name(agent, len(family.members)):
                return self[family.name if _several(family) else family.members[0]], family.seeds
        return None


@dataclass(frozen=True)
class Game:
    """What is played, for a process of its own.

    Attributes:
        scenario: the site.
        episodes, seed: of the evaluation tapes.
        traces_dir: trace folder of a scenario that reads files.
        tuned: parameters of the rules.
    """

    scenario: Scenario
    episodes: int
    seed: int
    traces_dir: str | None
    tuned: TunedRules

    def play(self, name: str, label: str | None = None) -> BenchmarkResult | str:
        """Play one policy, under a name of its own if one is given; the reason, if it could not be judged."""
        try:
            entry = contestant(name, self.scenario, self.seed, self.tuned)
            entry = entry if label is None else replace(entry, name=label)
            return play([entry], self.scenario, self.episodes, self.seed, self.traces_dir)
        except CarbonPilotError as error:
            return str(error)


@dataclass(frozen=True)
class Field:
    """All policies on the same tapes.

    Attributes:
        result: without the shield.
        shielded: name -> the same policy, or group, under the shield; hindsight needs none.
        failed: names that could not be judged, with the reason.
    """

    result: SweepResult
    shielded: dict[str, PolicyResult]
    failed: dict[str, str]


def play_field(
    game: Game,
    agents: dict[str, dict[int, Path]],
    jobs: int = 1,
    progress: Progress | None = None,
    labels: Mapping[str, str] | None = None,
) -> Field:
    """Play baselines, rules, `learned-risk` where there is one, hindsight, and the runs of the agents.

    Args:
        game: the tapes.
        agents: agent -> training seed -> run folder, or folder of a risk head.
        jobs: processes.
        progress: called with what was played, policies done and policies in all.
        labels: folder -> name in tables, for those whose own name tells nothing.

    Raises:
        CarbonPilotError: no policy could be judged.
    """
    runs = [str(run) for seeds in agents.values() for run in seeds.values()]
    names = [*field_names(game.scenario, game.tuned), *runs]
    bare = [name for name in names if not name.startswith(ORACLE)]
    shown = {**(labels or {})}
    shown |= {folder + SHIELD_END: label + SHIELD_END for folder, label in shown.items()}
    played = _play_all(game, [*names, *(name + SHIELD_END for name in bare)], jobs, progress, shown)
    failed = {name: found for name, found in played.items() if isinstance(found, str)}
    results = {name: found for name, found in played.items() if not isinstance(found, str)}
    plain = [results[name] for name in names if name in results]
    if not plain:
        raise CarbonPilotError(f"No policy could be judged: {'; '.join(failed.values())}")
    families = _families(agents, results)
    result = SweepResult(
        game.scenario,
        game.seed,
        game.episodes,
        "evaluation",
        tuple(found.results[0] for found in plain),
        trainings={name: t for found in plain for name, t in found.trainings.items()},
        world=plain[0].world,
        preparation_s=sum(found.preparation_s for found in plain),
        families=families,
    )
    return Field(result, _shielded(result, bare, results), failed)


def field_names(scenario: Scenario, tuned: TunedRules) -> list[str]:
    """Every policy of the benchmark, and `learned-risk` where there is one for the site."""
    names = default_policies(scenario, tuned)
    if LEARNED_RISK not in names:
        with suppress(InputError):
            contestant(LEARNED_RISK, scenario, 0, tuned)
            names.append(LEARNED_RISK)
    return names


def _play_all(
    game: Game, names: Sequence[str], jobs: int, progress: Progress | None, labels: Mapping[str, str]
) -> dict[str, BenchmarkResult | str]:
    """Play each name, side by side in several processes; in the order of the names."""
    report = progress or (lambda name, done, total: None)
    found: dict[str, BenchmarkResult | str] = {}
    if jobs == 1:
        for name in names:
            found[name] = game.play(name, labels.get(name))
            report(name, len(found), len(names))
        return found
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread) as pool:
        tasks = {pool.submit(partial(Game.play, game), name, labels.get(name)): name for name in names}
        for task in as_completed(tasks):
            found[tasks[task]] = task.result()
            report(tasks[task], len(found), len(names))
    return {name: found[name] for name in names}


def _one_thread() -> None:
    import os

    os.environ["CARBONPILOT_THREADS"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"


def _families(
    agents: dict[str, dict[int, Path]], results: dict[str, BenchmarkResult]
) -> tuple[Siblings, ...]:
    """Each agent with the runs that could be judged."""
    found = []
    for agent, runs in agents.items():
        seeds = {seed: results[str(run)].results[0].name for seed, run in runs.items() if str(run) in results}
        if seeds:
            found.append(Siblings(family_name(agent, len(seeds)), tuple(seeds.values()), tuple(seeds)))
    return tuple(found)


def family_name(agent: str, seeds: int) -> str:
    """An agent's name in tables and JSON."""
    return f"{agent} ({seeds} training seed{'s' if seeds > 1 else ''})"


def _several(family: Siblings) -> bool:
    return len(family.members) > 1


def _shielded(
    result: SweepResult, names: Sequence[str], results: dict[str, BenchmarkResult]
) -> dict[str, PolicyResult]:
    """The same policies and groups under the shield, by their names without it."""
    found = {
        results[name].results[0].name: results[name + SHIELD_END].results[0]
        for name in names
        if name in results and name + SHIELD_END in results
    }
    for family in result.families:
        if _several(family) and all(name in found for name in family.members):
            members = [found[name] for name in family.members]
            under = replace(family, members=tuple(m.name for m in members))
            found[family.name] = seed_group(under, members)
    return found
