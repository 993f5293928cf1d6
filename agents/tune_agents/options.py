"""How the settings of an agent are searched."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...envs.errors import InputError
from ..tune_objective import Objective
from ..tune_search import Sampler

SAMPLERS: tuple[Sampler, ...] = ("tpe", "random")
STEPS = 300_000  # requests that a trial learns from unless told otherwise


@dataclass(frozen=True)
class AgentTuneOptions:
    """How to search.

    Attributes:
        steps: requests that each trial learns from.
        trials: settings to try.
        seed: of tapes, search and training; every trial trains with the same one, so that settings are compared and
            not luck.
        sampler: optuna's "tpe" or "random".
        objective: what is minimised, with the aim in compliance.
        rungs: scores on the search's tapes during one training, evenly spread, the last at its end; after each but
            the last a trial that is worse than the median of the others is given up.
        startup: trials that are never given up.
        tapes, fresh_tapes: training tapes of the search, and fresh ones for the final choice.
        finalists: best settings that are trained once more with other seeds; the untuned ones come beside them.
        final_seeds: seeds that each finalist is judged by, the search's own among them.
        jobs: trainings at a time.
    """

    steps: int
    trials: int = 40
    seed: int = 0
    sampler: Sampler = "tpe"
    objective: Objective = field(default_factory=Objective)
    rungs: int = 5
    startup: int = 5
    tapes: int = 100
    fresh_tapes: int = 200
    finalists: int = 3
    final_seeds: int = 3
    jobs: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.sampler not in SAMPLERS:
            raise InputError(
                f"--sampler must be one of {', '.join(SAMPLERS)} for agents, got '{self.sampler}': "
                "the cross-entropy method needs populations, and trainings are too dear for that."
            )
        for name in ("steps", "trials", "rungs", "tapes", "fresh_tapes", "finalists", "final_seeds", "jobs"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
