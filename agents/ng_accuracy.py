"""How far the closed forms of Ng et al. are from the simulator, setting by setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from .ng_grid import Form, Setting, holding, straying
from .ng_sites import EPISODES, Simulated, simulate
from .ng_split_grid import split_holding, split_straying


@dataclass(frozen=True)
class Row:
    """One closed form in one setting.

    Attributes:
        setting, form: what is predicted, and by which equation.
        simulated: what the simulator gives.
        error_ms: standard error of its mean, the tenants' shared history included.
    """

    setting: Setting
    form: Form
    simulated: Simulated
    error_ms: float

    @property
    def deviation(self) -> float:
        """(predicted - simulated) / simulated mean latency."""
        return self.form.mean_ms / self.simulated.mean_ms - 1

    @property
    def standard_error(self) -> float:
        """Standard error of the simulated mean, relative."""
        return self.error_ms / self.simulated.mean_ms

    @property
    def p95_deviation(self) -> float | None:
        """The tail estimate against the simulated p95, or None where none is claimed."""
        p95 = self.setting.p95_ms
        return None if p95 is None else p95 / self.simulated.p95_ms - 1


def measure(seed: int, progress: Callable[[Setting], None] | None = None) -> list[Row]:
    """Simulate the whole grid.

    Args:
        seed: every setting draws tapes of its own from it.
        progress: called before each setting.
    """
    rows = []
    for i, setting in enumerate(settings()):
        if progress is not None:
            progress(setting)
        simulated = simulate(setting.site, seed + i, episodes_for(setting.utilisation))
        error_ms = float(np.hypot(simulated.mean_error_ms, setting.history_ms))
        rows += [Row(setting, form, simulated, error_ms) for form in setting.forms]
    return rows


def settings() -> list[Setting]:
    """The grid: where the paper's assumptions hold and where not, of whole models and then of split ones."""
    return [*holding(), *straying(), *split_holding(), *split_straying()]


def episodes_for(utilisation: float) -> int:
    """Episodes that keep the standard error well under 1 %: busy queues forget slowly."""
    return EPISODES * 3 if utilisation > 0.85 else EPISODES if utilisation > 0.6 else EPISODES // 4


def mape(rows: Iterable[Row]) -> float:
    """Mean absolute error relative to the simulated means."""
    return float(np.mean([abs(r.deviation) for r in rows]))


def worst(rows: Iterable[Row]) -> Row:
    """The row furthest off."""
    return max(rows, key=lambda r: abs(r.deviation))
