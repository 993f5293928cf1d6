"""The tapes that a teacher may read: training tapes, of which some are held back to score what was learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.scenario import refuse_held_out
from ...envs.schema import Scenario
from ...envs.simulator import Simulator
from ...envs.tape import Part, Tape, draw_tape

_TAUGHT, _HELD_BACK = (
    0x7465616368,
    0x68656C64,
)  # streams of their own, apart from those of normaliser and training


@dataclass(frozen=True)
class TeachingTapes:
    """Draws tapes of the training part, never of the evaluation part, and none of a site that is held out.

    Attributes:
        scenario: the site.
        seed: all tapes follow from it.
        traces_dir: trace folder of a scenario that reads files.
        part: only "training"; the field is here to be refused.
    """

    scenario: Scenario
    seed: int
    traces_dir: str | None = None
    part: Part = "training"

    def __post_init__(self) -> None:
        """Refuse what an agent is judged on.

        Raises:
            InputError: another part than "training", or a site that is held out.
        """
        refuse_held_out(self.scenario)
        if self.part != "training":
            raise InputError(
                f"A teacher reads training tapes only, got part '{self.part}'. It knows how every request ends: "
                "an agent taught on evaluation tapes would be judged on what it was told."
            )

    def draw(self, collection: int, count: int) -> Tape:
        """Tapes of one collection of lessons; another number gives other tapes.

        Args:
            collection: number of the collection, from 0.
            count: tapes.
        """
        simulator = Simulator(self.scenario, count, part=self.part, traces_dir=self.traces_dir)
        return draw_tape(
            simulator.site, self._seeds(_TAUGHT, count, collection), self.part, simulator.traces_dir
        )

    def held_back(self, count: int) -> npt.NDArray[np.int64]:
        """Seeds of training tapes that nothing is learned from: every stage is scored on the same ones."""
        return self._seeds(_HELD_BACK, count)

    def _seeds(self, *stream: int) -> npt.NDArray[np.int64]:
        count = stream[1]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, *stream]))
        return rng.integers(0, 2**62, size=count)
