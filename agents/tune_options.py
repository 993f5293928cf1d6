"""How `carbonpilot tune` searches: budget, seed, sampler, aim, tapes, processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..envs.errors import InputError
from .tune_objective import Objective
from .tune_search import SAMPLERS, Sampler

SEARCH_TAPES, SELECTION_TAPES = 400, 400
TRIALS_PER_TUNABLE = 60  # a search's default length; never fewer requests than LEAST_REQUESTS
LEAST_REQUESTS = 20_000_000


@dataclass(frozen=True)
class TuneOptions:
    """How to search.

    Attributes:
        trials, steps: length of each rule's search, in settings or in simulated requests; at most one is given. Else it
            follows from the number of tunables.
        seed: of tapes and search.
        sampler: "cem", or optuna's "tpe" or "random".
        objective: what is minimised, with the aim in compliance.
        search_tapes, selection_tapes: tapes of the search, and fresh ones for the final choice.
        jobs: processes.
    """

    trials: int | None = None
    steps: int | None = None
    seed: int = 0
    sampler: Sampler = "cem"
    objective: Objective = field(default_factory=Objective)
    search_tapes: int = SEARCH_TAPES
    selection_tapes: int = SELECTION_TAPES
    jobs: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.trials is not None and self.steps is not None:
            raise InputError("--trials and --steps both say how long to search. Give one of them.")
        if self.sampler not in SAMPLERS:
            raise InputError(f"--sampler must be one of {', '.join(SAMPLERS)}, got '{self.sampler}'.")
        for name in ("trials", "steps", "search_tapes", "selection_tapes", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")

    def trials_for(self, tunables: int, requests: int) -> int:
        """Trials of a search over so many tunables, each costing so many simulated requests."""
        if self.trials is not None:
            return self.trials
        if self.steps is not None:
            return max(1, self.steps // requests)
        return max(TRIALS_PER_TUNABLE * tunables, -(-LEAST_REQUESTS // requests))
