"""Tells a person how far a training run is: a bar on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .training_evaluation import SAVING

LINES = 10  # plain lines per run
REFRESH_S = 0.2


class TrainingProgress:
    """Shows steps, speed and the last evaluation.

    Args:
        console: where to write.
        label: what is being trained.
        start: steps made in earlier sessions.
        target: steps at the end.
    """

    def __init__(self, console: Console, label: str, start: int, target: int) -> None:
        """Prepare; nothing is shown before `__enter__`."""
        self._console = console
        self._label = label
        self._first, self._target = start, target
        self._every = max((target - start) // LINES, 1)
        self._next_line = start + self._every
        self._shown_s = 0.0
        self._clock_s: float | None = None  # when the first step of this session was reported
        self._evaluation = ""
        self._bar: Progress | None = None

    def __enter__(self) -> TrainingProgress:
        """Start the bar where there is a terminal."""
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, TextColumn("{task.fields[evaluation]}"), console=self._console)
            self._task = self._bar.add_task(
                self._label, total=self._target, completed=self._first, evaluation=""
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar."""
        if self._bar is not None:
            self._bar.stop()

    def evaluated(self, scores: Mapping[str, float]) -> None:
        """Remember the newest evaluation for the next line."""
        self._evaluation = evaluation_line(scores)

    def update(self, steps: int) -> None:
        """Show that ``steps`` have been made; cheap enough for every vector step."""
        now = time.monotonic()
        if self._clock_s is None:
            self._clock_s, self._clock_steps = now, steps
        if self._bar is not None:
            if now - self._shown_s >= REFRESH_S or steps >= self._target:
                self._shown_s = now
                self._bar.update(self._task, completed=steps, evaluation=self._evaluation)
        elif steps >= self._next_line:
            self._next_line += self._every * ((steps - self._next_line) // self._every + 1)
            rate = (steps - self._clock_steps) / max(now - self._clock_s, 1e-9)
            words = [f"{self._label}: {steps} of {self._target} steps ({steps / self._target:.0%})"]
            words += [f"{rate:.0f} steps/s", *filter(None, [self._evaluation])]
            self._console.print(", ".join(words), highlight=False, soft_wrap=True)


def evaluation_line(scores: Mapping[str, float]) -> str:
    """One line for people about scores by TensorBoard tag."""
    saving = f", {scores[SAVING]:.0%} of the oracle's saving" if SAVING in scores else ""
    carbon, miss = scores["eval/carbon_mg_per_request"], scores["eval/slo_miss_rate"]
    meeting = scores["eval/episodes_meeting_slo"]
    words = f"{carbon:.3f} mg a request, {miss:.1%} missed, SLO met in {meeting:.0%} of episodes"
    return f"evaluation: {words}{saving}"
