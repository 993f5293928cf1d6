"""Pictures of one and the same evaluation episode in TensorBoard, as often as they cost next to nothing."""

from __future__ import annotations

import time

from torch.utils.tensorboard import SummaryWriter

from ..envs.render import EpisodeView
from ..envs.schema import Scenario
from .rollout import EpisodeRecord

TAG = "episode/last_requests"
SHARE = 0.01  # of a session's time that pictures may take; the last one is drawn in any case
FIRST_S = 0.1  # what the first picture takes, Pillow's import with it; later ones: what was measured


class EpisodeImages:
    """Draws an episode that has been played anyway, so that a picture costs its drawing only.

    It is always the first tape, so the pictures of a run differ by what was learned and by nothing else.

    Attributes:
        spent_s: time spent drawing so far.
    """

    def __init__(self, writer: SummaryWriter, scenario: Scenario, share: float = SHARE) -> None:
        """Draw into ``writer``; ``share`` of the time from now on may be spent."""
        self._writer, self._view, self._share = writer, EpisodeView(scenario), share
        self._started_s, self._expected_s = time.perf_counter(), FIRST_S
        self.spent_s = 0.0

    def offer(self, record: EpisodeRecord, step: int) -> None:
        """Draw the record's first episode if the time so far allows for it."""
        if self.spent_s + self._expected_s <= self._share * (time.perf_counter() - self._started_s):
            self.draw(record, step)

    def draw(self, record: EpisodeRecord, step: int) -> None:
        """Draw the record's first episode, for environment step ``step``."""
        started_s = time.perf_counter()
        going_on = record.valid[:, 0]
        self._view.show(*(a[going_on, 0] for a in (record.placement, record.latency_ms, record.carbon_mg)))
        self._writer.add_image(TAG, self._view.image(), step, dataformats="HWC")
        self._expected_s = time.perf_counter() - started_s
        self.spent_s += self._expected_s
