"""Learn from lessons: batches, gradient steps, and how well the lessons of other tapes agree afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .lessons import Lessons
from .settings import FitConfig, StageConfig
from .students import LEAST_SPREAD_MG, Batch, Student

END_SHARE = 0.1  # of the learning rate that is left at the end of a fit
HELD_OUT = 0.125  # share of the lessons' tapes that agreement is measured on


@dataclass(frozen=True)
class Fitted:
    """How a fit went.

    Attributes:
        loss: mean over the last epoch.
        agreement: share of the held-out lessons in which the cheapest placement is chosen.
        regret_mg: mean cost of the chosen placement above the cheapest on them, mg.
        updates: gradient steps.
    """

    loss: float
    agreement: float
    regret_mg: float
    updates: int


def learn(
    student: Student,
    lessons: Lessons,
    carbon_per_mg: float,
    scale: float,
    fit: FitConfig,
    stage: StageConfig,
    rng: np.random.Generator,
) -> Fitted:
    """Teach a model some lessons.

    Args:
        student: the model.
        lessons: whole tapes; the last of them are only used to measure.
        carbon_per_mg: weight of carbon in the reward, which turns costs into Q values.
        scale: of the reward as the agent sees it.
        fit: how to learn in all stages.
        stage: how to learn in this one.
        rng: shuffles.
    """
    taught, held_out = lessons.split(HELD_OUT)
    arrays = _arrays(taught, carbon_per_mg * scale, scale)
    arrays["value"] = student.value_targets(arrays["value"])
    size = min(fit.batch_size, len(taught))
    steps = max(len(taught) // size, 1) * stage.epochs
    optimizer = torch.optim.Adam(student.parameters(), lr=stage.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, END_SHARE, steps)
    student.model.policy.set_training_mode(True)
    losses: list[float] = []
    for _ in range(stage.epochs):
        losses.clear()
        order = rng.permutation(len(taught))
        for first in range(0, len(taught) - size + 1, size):
            rows = order[first : first + size]
            batch = Batch({name: array[rows] for name, array in arrays.items()}, student.model.device)
            loss = student.loss(batch, stage.loss)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(student.parameters()), fit.max_grad_norm)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
    student.model.policy.set_training_mode(False)
    optimizer.zero_grad()
    student.finish()
    agreement, regret_mg = judged(student, held_out if len(held_out) else taught)
    return Fitted(float(np.mean(losses)), agreement, regret_mg, steps)


def judged(student: Student, lessons: Lessons) -> tuple[float, float]:
    """Share of lessons in which the cheapest placement is chosen, and the mean cost above it, mg."""
    rows, chosen = np.arange(len(lessons)), student.choose(lessons.observation, lessons.mask)
    above = lessons.cost_mg[rows, chosen] - lessons.cost_mg[rows, lessons.label]
    return float((chosen == lessons.label).mean()), float(above.mean())


def _arrays(lessons: Lessons, scale_per_mg: float, scale: float) -> dict[str, np.ndarray]:
    """The arrays that batches are cut from; names as in `Batch`."""
    rows = np.arange(len(lessons))
    label = lessons.label
    above = np.where(lessons.mask, lessons.cost_mg - lessons.cost_mg[rows, label][:, None], 0.0)
    spread = max(float(above.mean()), LEAST_SPREAD_MG)
    taken_mg = lessons.cost_mg[rows, lessons.taken]
    more_mg = np.where(lessons.mask, lessons.cost_mg - taken_mg[:, None], 0.0)
    return {
        "observation": lessons.observation,
        "mask": lessons.mask,
        "cost": (above / spread).astype(np.float32),
        "label": label,
        "q": (scale * lessons.value[:, None] - scale_per_mg * more_mg).astype(np.float32),
        "value": (scale * lessons.value).astype(np.float32),
    }
