"""What TensorBoard costs a training: the share of its wall time that scalars, layout, settings and pictures take.

Run by ``make bench``. Shares of one run, so they hold on a busy machine too.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from carbonpilot.agents.tensorboard_images import EpisodeImages
from carbonpilot.agents.tensorboard_log import Board, ResumableTensorBoard
from carbonpilot.agents.train import train
from carbonpilot.agents.training_session import TrainingSession

SCENARIO, STEPS = "metro", 500_000
TIMED = {
    "settings": (Board, "__init__"),
    "scalars and layout": (ResumableTensorBoard, "write"),
    "pictures": (EpisodeImages, "draw"),
    "end": (Board, "finish"),
    "training": (TrainingSession, "run"),
}


def timed(spent_s: dict[str, float], name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, with its time added up."""

    def run(*arguments: Any, **named: Any) -> Any:
        started_s = time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            spent_s[name] += time.perf_counter() - started_s

    return run


def main() -> None:
    """Print the shares beside the goal."""
    spent_s: dict[str, float] = defaultdict(float)
    for name, (owner, method) in TIMED.items():
        setattr(owner, method, timed(spent_s, name, getattr(owner, method)))
    with tempfile.TemporaryDirectory() as folder:
        train(SCENARIO, "ppo", STEPS, 0, Path(folder) / "run", console=Console(file=io.StringIO()))
    total_s = spent_s.pop("training")
    print(f"PPO on {SCENARIO}, {STEPS} steps: {total_s:.1f} s")
    for name, seconds in spent_s.items():
        print(f"  {name}: {seconds:.3f} s, {seconds / total_s:.2%}")
    print(f"TensorBoard in all: {sum(spent_s.values()) / total_s:.2%} of the wall time (at most 2 %)")


if __name__ == "__main__":
    main()
