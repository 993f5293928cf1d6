"""The TensorBoard log of a run: scalars whose steps stay continuous over sessions, layout, settings and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from .tensorboard_hparams import write_end, write_start
from .tensorboard_images import EpisodeImages
from .tensorboard_layout import layout
from .training_plan import Plan

# Scalars that come latest in a run. Once they are there the layout is written, so that it can name every tag.
EPISODE, EVALUATED, FOOTPRINT = "carbon/mg_per_request", "eval/carbon_mg_per_request", "emissions/energy_wh"


class ResumableTensorBoard(TensorBoardOutputFormat):
    """SB3's TensorBoard output, opened at a step.

    A run that was killed has logged steps after its last checkpoint. They are made again by the session that
    resumes it, so TensorBoard is told to forget them (``purge_step``).

    TensorBoard reads the first layout of a run and no later one, so it is written when the tags are known: after the
    first finished episodes, evaluation and checkpoint (the second evaluation, if no energy can be measured), or when
    the log is closed.

    Attributes:
        tags: names of the scalars written so far.
    """

    def __init__(self, folder: Path, start: int) -> None:
        """Add an event file to ``folder`` that goes on at environment step ``start``."""
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=start + 1 if start else None)
        self._is_closed = False
        self._evaluations, self._laid_out = 0, False
        self.tags: set[str] = set()

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Write scalars; see SB3."""
        super().write(key_values, key_excluded, step)
        self.tags |= key_values.keys()
        self._evaluations += EVALUATED in key_values
        counted = FOOTPRINT in self.tags or self._evaluations > 1
        if counted and {EPISODE, EVALUATED} <= self.tags:
            self._write_layout()

    def close(self) -> None:
        """Close the file; harmless when called twice."""
        if not self._is_closed:
            self._write_layout()
        super().close()

    def _write_layout(self) -> None:
        if not self._laid_out and self.tags:
            self._laid_out = True
            self.writer.add_custom_scalars(layout(self.tags))


class Board:
    """What TensorBoard shows of a run.

    Attributes:
        logger: for an SB3 model; it writes to TensorBoard only.
        images: draws episodes.
    """

    def __init__(self, folder: Path, start: int, plan: Plan) -> None:
        """Add an event file to ``folder`` that goes on at environment step ``start``, and write the settings."""
        self._output = ResumableTensorBoard(folder, start)
        self.logger = Logger(folder=str(folder), output_formats=[self._output])
        self.images = EpisodeImages(self._output.writer, plan.scenario)
        write_start(self._output.writer, plan)

    def finish(self) -> None:
        """Mark the run as finished."""
        write_end(self._output.writer)
