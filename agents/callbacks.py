"""What happens beside the learning: metrics of finished episodes, evaluations, checkpoints, progress.

All of it hangs on stable-baselines3's callbacks. The start of a rollout is the one moment at which a run may
be cut: the update of the last rollout is done and no step of the next one has been made.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from .sb3_policy import Sb3Policy
from .tensorboard_images import EpisodeImages
from .training_evaluation import TrainingEvaluation
from .training_progress import TrainingProgress

# What TensorBoard shows -> key of the environment's "episode_metrics".
EPISODE_TAGS = {
    "carbon/mg_per_request": "carbon_mg_per_request",
    "energy/j_per_request": "energy_j_per_request",
    "slo/miss_rate": "slo_miss_rate",
    "latency/p50_ms": "latency_p50_ms",
    "latency/p95_ms": "latency_p95_ms",
    "latency/p99_ms": "latency_p99_ms",
    "accuracy/miou": "accuracy_miou",
}
REWARD_PREFIX = "reward_"


class StopTraining(Exception):  # noqa: N818 (not an error: somebody asked for it)
    """Raised at a safe moment after a signal asked the run to stop."""


class EpisodeMetrics(BaseCallback):
    """Logs means over the newest finished episodes, one per environment."""

    def _init_callback(self) -> None:
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=self.training_env.num_envs)

    def _on_step(self) -> bool:
        finished = [info["episode_metrics"] for info in self.locals["infos"] if "episode_metrics" in info]
        if finished:
            self._recent.extend(finished)
            for tag, values in episode_tags(self._recent).items():
                self.logger.record(tag, float(np.mean(values)))
        return True


def episode_tags(episodes: Any) -> dict[str, list[float]]:
    """Values by TensorBoard tag of a sequence of "episode_metrics" records."""
    tags = {tag: [episode[key] for episode in episodes] for tag, key in EPISODE_TAGS.items()}
    for name in episodes[0]["placement_share"]:
        tags[f"placement/{name}"] = [episode["placement_share"][name] for episode in episodes]
    for key in episodes[0]:
        if key.startswith(REWARD_PREFIX):
            tags[f"reward/{key.removeprefix(REWARD_PREFIX)}"] = [episode[key] for episode in episodes]
    return tags


class Evaluate(BaseCallback):
    """Plays the evaluation tapes every so many steps, at the first rollout after them.

    Attributes:
        last: scores of the newest evaluation by TensorBoard tag; empty before the first.
    """

    def __init__(
        self,
        evaluation: TrainingEvaluation,
        every: int,
        start: int,
        show: TrainingProgress,
        images: EpisodeImages,
    ) -> None:
        """Evaluate at the multiples of ``every`` above ``start``."""
        super().__init__()
        self._images = images
        self._evaluation = evaluation
        self._every = every
        self._next = (start // every + 1) * every
        self._show = show
        self.last: dict[str, float] = {}

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._next:
            self._next = (self.num_timesteps // self._every + 1) * self._every
            self.evaluate()

    def evaluate(self, last: bool = False) -> None:
        """Play the tapes now, log the scores at the current step and draw an episode (the ``last`` in any case)."""
        self.last = self._evaluation.measure(Sb3Policy(self.model, "training"))
        self._show.evaluated(self.last)
        for tag, value in self.last.items():
            self.logger.record(tag, value)
        self.logger.dump(self.num_timesteps)
        record = self._evaluation.record
        assert record is not None, "measured above"
        draw = self._images.draw if last else self._images.offer
        draw(record, self.num_timesteps)

    def _on_step(self) -> bool:
        return True


class Checkpoints(BaseCallback):
    """Saves at safe moments: every so many steps or seconds, and when the run is asked to stop."""

    def __init__(self, save: Callable[[], None], every: int, every_s: float, start: int) -> None:
        """Call ``save()`` every ``every`` steps or ``every_s`` seconds, whichever is first."""
        super().__init__()
        self._save = save
        self._every, self._every_s = every, every_s
        self._last, self._last_s = start, time.monotonic()
        self._stop = False

    def _on_rollout_start(self) -> None:
        due = self.num_timesteps - self._last >= self._every
        late = time.monotonic() - self._last_s >= self._every_s and self.num_timesteps > self._last
        if due or late or (self._stop and self.num_timesteps > self._last):
            self._save()
            self._last, self._last_s = self.num_timesteps, time.monotonic()
        if self._stop:
            raise StopTraining

    def ask_to_stop(self) -> None:
        """Save and end the session at the next safe moment; may be called from a signal handler."""
        self._stop = True

    def pause(self) -> None:
        """End the session if it was asked to, at a moment that is safe and has nothing to save."""
        if self._stop:
            raise StopTraining

    def _on_step(self) -> bool:
        return True


class ShowProgress(BaseCallback):
    """Keeps the progress display up to date."""

    def __init__(self, show: TrainingProgress) -> None:
        """Take the display."""
        super().__init__()
        self._show = show

    def _on_step(self) -> bool:
        self._show.update(self.num_timesteps)
        return True
