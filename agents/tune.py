"""`carbonpilot tune`: search the parameters of rules on training tapes, as seriously as agents are trained.

All settings of a search meet the same tapes. The best few of it then meet fresh training tapes, and the one that is
shipped is chosen there: the winner of a search is the luckiest of thousands on the tapes of that search (winner's
curse), so its score there is no estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..envs.console import Progress
from ..envs.errors import InputError
from ..envs.files import check_output_file
from ..envs.scenario import load_scenario, refuse_held_out, scenario_sha256
from ..envs.schema import Scenario
from .provenance import command_line
from .rule_parameters import default_parameters, tunable_rules, tunables_of
from .tune_evaluate import Scores
from .tune_objective import PENALTY
from .tune_options import TuneOptions
from .tune_search import Search, Setting, Trial, open_study, run_search
from .tune_workers import Players
from .tuned_file import SCHEMA, read_tuned, write_tuned

ALL = "all"
FINALISTS = 16  # settings that meet the fresh tapes


def run_tune(
    scenario_name: str,
    policies: Sequence[str],
    out: str | Path,
    *,
    options: TuneOptions | None = None,
    study: str | Path | None = None,
    traces: str | Path | None = None,
    start: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Tune rules for a scenario and write their parameters.

    Args:
        scenario_name: shipped name or path.
        policies: rules to tune, or "all"; rules that ``out`` holds already are kept beside them.
        out: file to write (schema carbonpilot/tuned/1).
        options: budget, seed, sampler, aim, tapes, processes.
        study: optuna journal file; a search that was stopped goes on from it.
        traces: trace folder of a scenario that reads files.
        start: tuned parameters, of any scenario, that the searches begin at instead of the rules' defaults.
        progress: called with rule, trials done and trials of all rules.

    Returns:
        What was written.

    Raises:
        InputError: unknown scenario, rule or option; ``out`` cannot be written or is for another scenario; nothing
            was searched then.
    """
    options = options or TuneOptions()
    scenario = load_scenario(scenario_name, traces=traces is not None)
    refuse_held_out(scenario)
    names = _rules(policies)
    path = check_output_file(out)
    file = None if study is None else check_output_file(study)
    content = _content(path, scenario, options)
    known = {} if start is None else read_tuned(Path(start)).policies
    with ExitStack() as stack:
        search_tapes = stack.enter_context(_players(scenario, options, traces, fresh=False))
        fresh_tapes = stack.enter_context(_players(scenario, options, traces, fresh=True))
        tuners = [
            _Tuner(scenario, name, options, search_tapes, fresh_tapes, known.get(name, {})) for name in names
        ]
        total, done = sum(tuner.trials for tuner in tuners), 0

        def report(name: str, more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(name, done, total)

        for tuner in tuners:
            found = tuner.tune(file, partial(report, tuner.name))
            content["policies"][tuner.name] = found
            write_tuned(path, content)  # after each rule: what is found is kept, whatever comes next
    return content


class _Tuner:
    """One rule's search and selection."""

    def __init__(
        self, scenario: Scenario, name: str, options: TuneOptions, search_tapes: Players, fresh_tapes: Players,
        known: Setting,
    ) -> None:  # fmt: skip
        self.scenario, self.name, self.options = scenario, name, options
        self.search_tapes, self.fresh_tapes = search_tapes, fresh_tapes
        self.tunables = [
            replace(t, default=min(max(known.get(t.name, t.default), t.low), t.high))
            for t in tunables_of(name)
        ]
        self.trials = options.trials_for(len(self.tunables), search_tapes.requests)

    def tune(self, study_file: Path | None, report: Callable[[int], None]) -> dict[str, Any]:
        """Search, select on fresh tapes, and say what it cost; ``report`` is called with trials done since."""
        started = time.perf_counter()
        found = self._search(study_file, report)
        start = {t.name: t.default for t in self.tunables}
        finalists = _distinct_settings([*finalists_of(found, default_parameters(self.name)), start])
        fresh = self.fresh_tapes.score(self.name, finalists)
        chosen = self.options.objective.best(fresh)
        on_search = self.search_tapes.score(self.name, [finalists[chosen]])
        return {
            "parameters": {key: float(f"{value:.6g}") for key, value in finalists[chosen].items()},
            "search": _score(on_search, 0, self.options.search_tapes),
            "selection": _score(fresh, chosen, self.options.selection_tapes) | {"finalists": len(finalists)},
            "trials": len(found),
            "requests_simulated": len(found) * self.search_tapes.requests
            + len(finalists) * self.fresh_tapes.requests,
            "sampler": self.options.sampler,
            "seed": self.options.seed,
            "aim": self.options.objective.aim,
            "seconds": round(time.perf_counter() - started, 1),
            "carbonpilot_version": __version__,
            "command": command_line(),
        }

    def _search(self, file: Path | None, report: Callable[[int], None]) -> list[Trial]:
        o = self.options
        meant_for = {
            "scenario_sha256": scenario_sha256(self.scenario),
            "policy": self.name,
            "tunables": [[t.name, t.low, t.high, t.default, t.log] for t in self.tunables],
            "trials": self.trials,
            "seed": o.seed,
            "sampler": o.sampler,
            "objective": o.objective.as_dict(),
            "search_tapes": o.search_tapes,
        }
        study = open_study(file, f"{self.scenario.name}/{self.name}", o.sampler, o.seed, meant_for)
        search = Search(
            tunables=self.tunables,
            play=lambda settings: self.search_tapes.score(self.name, settings),
            objective=o.objective.values,
            together=self.search_tapes.together,
        )
        return run_search(study, search, o.sampler, self.trials, o.seed, report)


def finalists_of(trials: Sequence[Trial], default: Setting) -> list[Setting]:
    """The settings that meet the fresh tapes: the best of the search, the most careful good ones, the untuned one.

    The best of a search all have the same lucky compliance; the careful ones are there in case that it was luck. A
    search must not make a rule worse, hence the untuned one.
    """
    best = sorted(trials, key=lambda trial: trial.value)
    careful = sorted(trials, key=lambda trial: trial.carbon_mg * (1 + PENALTY * (1 - trial.compliance)))
    half = (FINALISTS - 1) // 2
    chosen = [*_distinct(best)[: FINALISTS - 1 - half], *_distinct(careful)[:half]]
    return [*_distinct_settings(chosen), default]


def _distinct(trials: Sequence[Trial]) -> list[Setting]:
    return _distinct_settings([trial.setting for trial in trials])


def _distinct_settings(settings: Sequence[Setting]) -> list[Setting]:
    return list({tuple(setting.items()): setting for setting in settings}.values())


def tape_seeds(seed: int, tapes: int, fresh: bool) -> npt.NDArray[np.int64]:
    """Seeds of the tapes of a search, or of the fresh ones that its winner is chosen on."""
    return np.random.SeedSequence([seed, int(fresh)]).generate_state(tapes).astype(np.int64)


def _players(scenario: Scenario, options: TuneOptions, traces: str | Path | None, fresh: bool) -> Players:
    tapes = options.selection_tapes if fresh else options.search_tapes
    folder = None if traces is None else str(traces)
    return Players(scenario, tape_seeds(options.seed, tapes, fresh), folder, options.jobs)


def _score(scores: Scores, index: int, tapes: int) -> dict[str, Any]:
    return {
        "tapes": tapes,
        "carbon_mg_per_request": round(float(scores.mean_carbon_mg[index]), 6),
        "episodes_meeting_slo": round(float(scores.compliance[index]), 6),
    }


def _rules(policies: Sequence[str]) -> list[str]:
    """The rules to tune; "all" is every one that has tunables."""
    if not policies:
        raise InputError("Nothing to tune: give --policy NAME, or --policy all.")
    rules = tunable_rules()
    names = [name for name, rule in rules.items() if rule.tunables] if ALL in policies else list(policies)
    for name in names:
        if not tunables_of(name):
            raise InputError(f"Rule '{name}' has nothing to tune.")
    return list(dict.fromkeys(names))


def _content(path: Path, scenario: Scenario, options: TuneOptions) -> dict[str, Any]:
    """The file so far: rules that were tuned before for the same scenario stay."""
    import yaml

    kept: dict[str, Any] = {}
    if path.is_file():
        reason = read_tuned(path).mismatch(scenario)
        if reason:
            raise InputError(f"{reason} To replace it, remove it first, or give another --out.")
        kept = yaml.safe_load(path.read_text(encoding="utf-8"))["policies"]
    return {
        "schema": SCHEMA,
        "carbonpilot_version": __version__,
        "scenario": scenario.name,
        "scenario_sha256": scenario_sha256(scenario),
        "objective": options.objective.as_dict(),
        "policies": kept,
    }
