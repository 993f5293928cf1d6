"""A TensorBoard log whose steps stay continuous when a run is resumed."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter


class ResumableTensorBoard(TensorBoardOutputFormat):
    """SB3's TensorBoard output, opened at a step.

    A run that was killed has logged steps after its last checkpoint. They are made again by the session that
    resumes it, so TensorBoard is told to forget them (``purge_step``).
    """

    def __init__(self, folder: Path, start: int) -> None:
        """Add an event file to ``folder`` that goes on at environment step ``start``."""
        self.writer = SummaryWriter(log_dir=str(folder), purge_step=start + 1 if start else None)
        self._is_closed = False


def tensorboard_logger(folder: Path, start: int) -> Logger:
    """A logger for an SB3 model that writes to TensorBoard only."""
    return Logger(folder=str(folder), output_formats=[ResumableTensorBoard(folder, start)])
