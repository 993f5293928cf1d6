"""Search the settings of an algorithm for a scenario and write a file that `carbonpilot train --settings` takes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ...envs.console import Progress
from ...envs.files import check_output_file
from ...envs.scenario import scenario_sha256
from ..provenance import command_line
from ..run_dir import risk_hashes
from ..settings_file import write_settings
from ..training_guard import stopping_on_signals
from ..training_plan import Plan, make_plan
from ..tune import tape_seeds
from ..tune_search import open_study
from .finals import UNTUNED, Finalist, choose, finalist, play_finals
from .options import AgentTuneOptions
from .pool import Pool
from .search import AgentSearch, Tried, best, ended, trial_folder
from .space import Space, check_space, read_space
from .worker import Job


@dataclass(frozen=True)
class AgentTuned:
    """What a search found.

    Attributes:
        plan: the training with the settings that were chosen.
        finalists: settings of the last choice, the chosen one first.
        trials, pruned: trials that ended, and those of them that were given up.
    """

    plan: Plan
    finalists: list[Finalist]
    trials: int
    pruned: int

    @property
    def chosen(self) -> Finalist:
        """The settings that were written."""
        return self.finalists[0]


def tune_agent(
    scenario: str,
    algo: str,
    out: Path,
    options: AgentTuneOptions,
    *,
    space_file: Path | None = None,
    settings_file: Path | None = None,
    study: Path | None = None,
    traces: Path | None = None,
    risk: Path | None = None,
    progress: Progress | None = None,
) -> AgentTuned:
    """Tune an algorithm's settings on training tapes and write them.

    Args:
        scenario: shipped name or path.
        algo: learning algorithm.
        out: settings file to write.
        options: how to search.
        space_file: what is searched; None for the shipped space of the algorithm.
        settings_file: settings that every trial starts from; None for the shipped ones.
        study: optuna journal; a search that was stopped goes on from it. Its runs lie in a folder beside it.
        traces: trace folder of a scenario that reads files.
        risk: folder of the risk head and price that every trial's policy is laid over.
        progress: called with what is being done, trainings done and trainings in all.

    Raises:
        InputError: something does not exist, cannot be, or belongs to another search; nothing was trained then.
        CarbonPilotError: stopped by a signal, or a training failed.
    """
    folder = None if traces is None else str(traces)
    plan = make_plan(scenario, algo, options.steps, options.seed, folder, settings_file, {}, risk=risk)
    path = check_output_file(out)
    file = None if study is None else check_output_file(study)
    space = read_space(algo, space_file)
    check_space(space, plan.settings)
    tuner = _Tuner(scenario, plan, space, options, settings_file)
    opened = open_study(
        file, f"{plan.scenario.name}/{algo}", options.sampler, options.seed, tuner.meant_for()
    )
    with _runs_folder(file) as runs:
        found = tuner.run(opened, runs, progress or (lambda *_: None))
    write_settings(path, algo, found.plan.settings, notes(found, options))
    return found


class _Tuner:
    """One search and its last choice."""

    def __init__(
        self,
        scenario: str,
        plan: Plan,
        space: Space,
        options: AgentTuneOptions,
        settings_file: Path | None,
    ) -> None:
        self.scenario, self.plan, self.space, self.options = scenario, plan, space, options
        self.settings_file = None if settings_file is None else str(settings_file)
        self._stop = False

    def meant_for(self) -> dict[str, Any]:
        """Everything that the trials of a study depend on."""
        o = self.options
        return {
            "scenario_sha256": scenario_sha256(self.plan.scenario),
            "algorithm": self.plan.algo,
            "settings": self.plan.settings.model_dump(mode="json"),
            "space": self.space.model_dump(mode="json"),
            "steps": self.plan.steps,
            "seed": o.seed,
            "sampler": o.sampler,
            "objective": o.objective.as_dict(),
            "tapes": o.tapes,
            "rungs": o.rungs,
            **({} if self.plan.risk is None else {"risk": risk_hashes(self.plan.risk)}),
        }

    def run(self, study: Any, runs: Path, progress: Progress) -> AgentTuned:
        """Search and choose."""
        o = self.options
        total, done = o.trials + (o.finalists + 1) * o.final_seeds, 0

        def report(what: str, more: int) -> None:
            nonlocal done
            done += more
            progress(what, done, total)

        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(self.space.stored(self.plan.settings))
        with Pool(o.jobs) as pool, stopping_on_signals(self._ask_to_stop):
            job = partial(self._job, runs)
            AgentSearch(study, self.space, o, job, pool, partial(report, "search"), self._asked).run()
            tried = best(study, self.space, o.finalists)
            finalists = self._finals(tried, runs, pool, partial(report, "last choice"))
        progress("done", total, total)  # fewer finals where a finalist is the untuned one
        chosen = choose(finalists, o.objective)
        finalists.insert(0, finalists.pop(chosen))
        over = ended(study)
        pruned = sum(t.state.name == "PRUNED" for t in over)
        return AgentTuned(self._plan(finalists[0].changes), finalists, len(over), pruned)

    def _ask_to_stop(self) -> None:
        self._stop = True

    def _asked(self) -> bool:
        return self._stop

    def _job(self, runs: Path, number: int, changes: Mapping[str, Any]) -> Job:
        o = self.options
        folder = trial_folder(runs, number)
        return self._training(
            number, changes, folder, o.seed, tape_seeds(o.seed, o.tapes, fresh=False), o.rungs
        )

    def _training(
        self, key: Any, changes: Mapping[str, Any], folder: Path, seed: int, tapes: npt.NDArray, rungs: int
    ) -> Job:
        return Job(
            key=key,
            scenario=self.scenario,
            traces=self.plan.traces_dir,
            algo=self.plan.algo,
            steps=self.plan.steps,
            seed=seed,
            settings_file=self.settings_file,
            changes=changes,
            folder=folder,
            tapes=tapes,
            rungs=rungs,
            risk=self.plan.risk,
        )

    def _finals(
        self, tried: list[Tried], runs: Path, pool: Pool, report: Callable[[int], None]
    ) -> list[Finalist]:
        """The best trials and the untuned settings, each with several seeds on fresh tapes."""
        o = self.options
        entrants: list[tuple[str, Mapping[str, Any]]] = [
            (f"trial {t.number}", t.changes)
            for t in tried
            if self._plan(t.changes).settings != self.plan.settings  # the untuned ones come anyway
        ]
        entrants.append((UNTUNED, {}))
        fresh = tape_seeds(o.seed, o.fresh_tapes, fresh=True)
        jobs = []
        for name, changes in entrants:
            for seed in range(o.seed, o.seed + o.final_seeds):
                folder = runs / f"final-{name.replace(' ', '-')}-seed-{seed}"
                if seed == o.seed and name != UNTUNED:
                    folder = trial_folder(runs, int(name.removeprefix("trial ")))  # has been trained already
                jobs.append(self._training((name, seed), changes, folder, seed, fresh, 1))
        scores = play_finals(jobs, pool, report, self._asked)
        return [
            finalist(name, changes, [scores[name, seed] for seed in range(o.seed, o.seed + o.final_seeds)])
            for name, changes in entrants
        ]

    def _plan(self, changes: Mapping[str, Any]) -> Plan:
        p = self.plan
        file, risk = self.settings_file, p.risk
        return make_plan(self.scenario, p.algo, p.steps, p.seed, p.traces_dir, file, changes, risk=risk)


def notes(found: AgentTuned, options: AgentTuneOptions) -> str:
    """Where the settings come from, for the head of their file."""
    seeds = f"{options.final_seeds} training seeds from {options.seed}"
    lines = [
        "Written by `carbonpilot tune`; for: carbonpilot train --settings FILE",
        f"{command_line()}",
        f"{found.plan.algo} on {found.plan.scenario.name}, scenario_sha256 {scenario_sha256(found.plan.scenario)}",
        *([] if found.plan.risk is None else [f"over the risk head in {found.plan.risk}"]),
        f"{found.trials} trials of {found.plan.steps} steps, {found.pruned} of them given up early.",
        f"Chosen on {options.fresh_tapes} fresh training tapes with {seeds}; evaluation tapes were not touched:",
    ]
    for one in found.finalists:
        what = "chosen: " if one is found.chosen else ""
        lines.append(f"  {what}{one.name}: {score_line(one)}")
    return "\n".join(lines)


def score_line(one: Finalist) -> str:
    """Carbon and compliance of a finalist in words."""
    return (
        f"{float(one.scores.mean_carbon_mg[0]):.4f} mg per request, SLO met in "
        f"{100 * float(one.scores.compliance[0]):.1f} % of the episodes"
    )


@contextlib.contextmanager
def _runs_folder(study: Path | None) -> Iterator[Path]:
    """Where the runs of the trials lie: beside the study, or nowhere for long."""
    if study is not None:
        yield study.with_name(f"{study.name}.runs")
        return
    with tempfile.TemporaryDirectory(prefix="carbonpilot-tune-") as folder:
        yield Path(folder)
