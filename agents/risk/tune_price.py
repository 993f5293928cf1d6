"""Search the price on risk on training tapes: the same search, aim and final choice as for the rules' numbers.

But for the unit: carbon counts relative to what the device alone emits on a tape (`tape_units`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ...envs.schema import Scenario
from ..tune import finalists_of, tape_seeds
from ..tune_evaluate import Scores
from ..tune_objective import Objective
from ..tune_options import TuneOptions
from ..tune_search import Search, Setting, open_study, run_search
from ..tune_workers import Players
from .folder import Arrays
from .parameters import searched
from .policy import LearnedRiskMaker
from .tape_units import TapeUnits


@dataclass(frozen=True)
class TunedPrice:
    """A price and what it came to.

    Attributes:
        price: by name, caution included.
        search_mg, search_compliance: carbon per request, as it is, and share of episodes keeping the SLO on the
            search's tapes.
        fresh_mg, fresh_compliance: the same on fresh training tapes; the former is a lucky one.
        trials: settings played.
        requests: requests simulated.
        seconds: what it took.
    """

    price: Setting
    search_mg: float
    search_compliance: float
    fresh_mg: float
    fresh_compliance: float
    trials: int
    requests: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For the card."""
        numbers = {
            "search_mg_per_request": self.search_mg,
            "search_episodes_meeting_slo": self.search_compliance,
            "fresh_mg_per_request": self.fresh_mg,
            "fresh_episodes_meeting_slo": self.fresh_compliance,
        }
        counts = {"trials": self.trials, "requests_simulated": self.requests}
        return {k: round(v, 6) for k, v in numbers.items()} | counts | {"seconds": round(self.seconds, 1)}


def tune_price(
    scenario: Scenario,
    arrays: Arrays,
    start: Mapping[str, float],
    options: TuneOptions,
    traces_dir: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> TunedPrice:
    """Search the price for a head.

    Args:
        scenario: the site.
        arrays: of the head.
        start: where the search begins; what it does not search is kept.
        options: budget, seed, sampler, aim, tapes, processes.
        traces_dir: trace folder of a scenario that reads files.
        progress: called with the number of settings played since the last call.

    Returns:
        The setting of least carbon, each tape in its unit, on fresh tapes among those that reach the aim there.
    """
    started, maker = time.perf_counter(), LearnedRiskMaker(arrays)
    tunables = searched(start)
    kept = {key: value for key, value in start.items() if key not in {t.name for t in tunables}}
    with ExitStack() as stack:
        players = [
            stack.enter_context(
                Players(scenario, tape_seeds(options.seed, tapes, fresh), traces_dir, options.jobs)
            )
            for tapes, fresh in ((options.search_tapes, False), (options.selection_tapes, True))
        ]
        search, fresh = players
        units = TapeUnits(search)
        plan = Search(
            tunables=tunables,
            play=lambda settings: units.scaled(search.score(maker, [{**kept, **s} for s in settings])),
            objective=options.objective.values,
            together=search.together,
        )
        count = options.trials_for(len(tunables), search.requests)
        study = open_study(None, "price", options.sampler, options.seed, {})
        trials = run_search(study, plan, options.sampler, count, options.seed, progress)
        finalists = [{**kept, **s} for s in finalists_of(trials, {t.name: t.default for t in tunables})]
        scores = fresh.score(maker, finalists)
        best = options.objective.best(TapeUnits(fresh).scaled(scores))
        again = search.score(maker, [finalists[best]])
        return TunedPrice(
            price={key: float(f"{value:.6g}") for key, value in finalists[best].items()},
            **_named("search", again, 0),
            **_named("fresh", scores, best),
            trials=len(trials),
            requests=len(trials) * search.requests + len(finalists) * fresh.requests,
            seconds=time.perf_counter() - started,
        )


def options_of(
    trials: int | None, tapes: int, selection_tapes: int, seed: int, aim: float, jobs: int
) -> TuneOptions:
    """Options of a search for a price."""
    return TuneOptions(
        trials=trials,
        seed=seed,
        objective=Objective(aim),
        search_tapes=tapes,
        selection_tapes=selection_tapes,
        jobs=jobs,
    )


def _named(prefix: str, scores: Scores, index: int) -> dict[str, float]:
    return {
        f"{prefix}_mg": float(scores.mean_carbon_mg[index]),
        f"{prefix}_compliance": float(scores.compliance[index]),
    }
