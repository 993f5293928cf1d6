"""`carbonpilot oracle`: what could have been achieved on a site's tapes, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.console import Progress
from ..envs.errors import InputError, unknown_name
from ..envs.scenario import load_scenario
from ..envs.schema import Scenario
from ..envs.tape import Tape, evaluation_seeds
from .command_table import as_json, sentences, table, unreachable_sentence
from .coupled import COUPLED, Effort, smallest_reachable, solve_coupled
from .per_request import PER_REQUEST, WARM_RADIO
from .replay import columns_of, tapes_for
from .result import OracleResult
from .solvers import BUDGET, ORACLES, solve_budget_coupled, solve_per_request

TABLE_WIDTH = 110  # columns that the table needs; narrower terminals wrap it


def run_oracle(
    scenario: str | Path | Scenario,
    episodes: int = 20,
    seed: int = 0,
    traces_dir: str | Path | None = None,
    json_file: str | Path | None = None,
    which: Sequence[str] = (),
    effort: Effort | None = None,
    console: Any = None,
) -> dict[str, OracleResult]:
    """Solve the evaluation tapes of a benchmark with every oracle, print a table and write the JSON.

    Args:
        scenario: shipped name, path of a YAML file, or a loaded scenario.
        episodes, seed: which tapes; the same as those of `carbonpilot benchmark`.
        traces_dir: trace folder of a scenario that reads files.
        json_file: where to write the figures; nowhere if None.
        which: oracles; all where empty.
        effort: of the coupled oracle.
        console: a rich console; standard output where None.

    Raises:
        InputError: an unknown oracle or scenario, no episode, or a file that cannot be written.
    """
    from ..envs.console import progress, table_console
    from ..envs.files import check_output_file, write_json

    if episodes < 1:
        raise InputError(f"--episodes must be at least 1, got {episodes}.")
    for name in which:
        if name not in ORACLES:
            raise unknown_name("oracle", name, ORACLES)
    site = (
        scenario if isinstance(scenario, Scenario) else load_scenario(scenario, traces=traces_dir is not None)
    )
    if json_file is not None:
        check_output_file(Path(json_file))
    with progress("oracle") as report:
        tape = tapes_for(site, evaluation_seeds(seed, episodes), "evaluation", traces_dir)
        results = solve_all(site, tape, which or ORACLES, effort, report)
    console = console or table_console(TABLE_WIDTH)
    console.print(table(site, results, episodes, seed))
    for line in [*sentences(results), *_unreachable(site, tape, results)]:
        console.print(line, highlight=False, soft_wrap=True)
    if json_file is not None:
        write_json(Path(json_file), as_json(site, results, seed))
        console.print(f"wrote {json_file}", highlight=False, soft_wrap=True)
    return results


def _unreachable(scenario: Scenario, tape: Tape, results: dict[str, OracleResult]) -> list[str]:
    """What to say of tapes on which no plan was found that keeps the SLO."""
    lost = np.flatnonzero(np.logical_and.reduce([~r.feasible for r in results.values()]))
    if not lost.size:
        return []
    reachable = smallest_reachable(
        scenario, columns_of(tape, lost), [r.plan[:, lost] for r in results.values()]
    )
    return [unreachable_sentence(scenario, reachable, tape.words.shape[-1])]


def solve_all(
    scenario: Scenario,
    tape: Tape,
    which: Sequence[str],
    effort: Effort | None = None,
    report: Progress | None = None,
) -> dict[str, OracleResult]:
    """Every wanted oracle on the tapes; the coupled one is given the others' plans."""
    episodes = tape.words.shape[-1]
    quick = {
        PER_REQUEST: lambda: solve_per_request(scenario, tape),
        WARM_RADIO: lambda: solve_per_request(scenario, tape, count_radio=False),
        BUDGET: lambda: solve_budget_coupled(scenario, tape),
    }
    steps, done, results = len(which) - 1 + episodes, 0, {}

    def tick(name: str, more: int = 1) -> None:
        nonlocal done
        done += more
        if report is not None:
            report(name, done, steps)

    for name in ORACLES:
        if name in quick and name in which:
            results[name] = quick[name]()
            tick(name)
    if COUPLED in which:
        plans = [r.plan for r in results.values()]
        results[COUPLED] = solve_coupled(scenario, tape, plans, effort, lambda more: tick(COUPLED, more))
    return results
