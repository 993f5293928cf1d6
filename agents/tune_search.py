"""The search for a rule's parameters, recorded as an optuna study from which it can go on.

A trial is one setting on all tuning tapes. CEM is our own (`agents/cem.py`): its populations follow from the seed and
the values told so far, so a search that was killed is replayed from the study and only what is missing is played.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError, MissingExtraError
from .cem import Cem, CemSettings
from .tunable import Tunable
from .tune_evaluate import Scores

Sampler = Literal["cem", "tpe", "random"]
SAMPLERS: tuple[Sampler, ...] = ("cem", "tpe", "random")
Setting = dict[str, float]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Trial:
    """One setting with its objective, and carbon and compliance on the tuning tapes."""

    setting: Setting
    value: float
    carbon_mg: float
    compliance: float


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        tunables: the parameters, with their ranges.
        play: settings to their scores on the tuning tapes.
        objective: scores to one value per setting, smaller is better.
        together: settings that are played in one batch.
    """

    tunables: Sequence[Tunable]
    play: Callable[[Sequence[Setting]], Scores]
    objective: Callable[[Scores], npt.NDArray[np.float64]]
    together: int


class UnitCube:
    """Maps settings to points of [0, 1]^D and back, parameter by parameter, logarithmic where that is searched."""

    def __init__(self, tunables: Sequence[Tunable]) -> None:
        """Remember names and ranges."""
        self._names = [t.name for t in tunables]
        self._log = np.array([t.log for t in tunables])
        self._low, high = (self._scaled([getattr(t, end) for t in tunables]) for end in ("low", "high"))
        self._width = high - self._low

    def _scaled(self, values: Sequence[float]) -> npt.NDArray[np.float64]:
        numbers = np.asarray(values, np.float64)
        return np.where(self._log, np.log(np.where(self._log, numbers, 1.0)), numbers)

    def point(self, setting: Setting) -> npt.NDArray[np.float64]:
        """A setting as a point (D,)."""
        return (self._scaled([setting[name] for name in self._names]) - self._low) / self._width

    def setting(self, point: npt.NDArray[np.float64]) -> Setting:
        """A point (D,) as a setting."""
        scaled = self._low + point * self._width
        values = np.where(self._log, np.exp(np.where(self._log, scaled, 0.0)), scaled)
        return {name: float(value) for name, value in zip(self._names, values, strict=True)}


def open_study(file: Path | None, name: str, sampler: Sampler, seed: int, meant_for: dict[str, Any]) -> Any:
    """Open a study, or begin it.

    Args:
        file: journal file that keeps it, or None for one in memory.
        name: several studies may lie in one file.
        sampler, seed: how settings are chosen.
        meant_for: everything that its trials depend on; a study made with something else is refused.

    Raises:
        MissingExtraError: optuna is not installed.
        InputError: the file holds a study of that name with other settings, or is no journal.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("carbonpilot tune", "train") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {
        "cem": optuna.samplers.RandomSampler,  # not asked: CEM's trials are added
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
    }
    try:
        study = optuna.create_study(
            storage=None if file is None else _journal(file),
            study_name=name,
            sampler=samplers[sampler](seed=seed),
            load_if_exists=True,
        )
    except (ValueError, KeyError, UnicodeDecodeError) as err:
        raise InputError(
            f"{file} is not a study file of `carbonpilot tune`: {err}. Give a new file."
        ) from err
    made_for = study.user_attrs.get("meant_for")
    if made_for is None:
        study.set_user_attr("meant_for", meant_for)
    elif made_for != meant_for:
        changed = [key for key in {**made_for, **meant_for} if made_for.get(key) != meant_for.get(key)]
        raise InputError(
            f"{file}: study '{name}' was made with another {', '.join(changed)}. Give the same again to go on with "
            "it, or another --study file."
        )
    # With the same seed again, tpe and random would propose the settings of the first session once more.
    if study.get_trials(deepcopy=False):
        study.sampler = samplers[sampler](seed=seed + len(study.get_trials(deepcopy=False)))
    return study


def _journal(file: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(file))
    # A killed process leaves its lock; two searches in one file are not supported, so nobody else holds it.
    with contextlib.suppress(FileNotFoundError):
        Path(f"{file}.lock").unlink()
    return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))


def run_search(
    study: Any, search: Search, sampler: Sampler, trials: int, seed: int, progress: Progress | None = None
) -> list[Trial]:
    """Search until the study holds ``trials`` finished trials; those it has already are not played again.

    Returns:
        All finished trials, in the order of the search.
    """
    report = progress or (lambda trials: None)
    if sampler == "cem":
        _run_cem(study, search, trials, seed, report)
    else:
        _run_asked(study, search, trials, report)
    return finished(study)[:trials]


def finished(study: Any) -> list[Trial]:
    """The finished trials of a study."""
    return [
        Trial(dict(t.params), t.value, t.user_attrs["carbon_mg"], t.user_attrs["compliance"])
        for t in study.get_trials(deepcopy=False)
        if t.state.name == "COMPLETE"
    ]


def cem_settings(trials: int) -> CemSettings:
    """Population and length of a search for a budget: four searches or more where the budget is large."""
    population = int(np.clip(trials // 20, 8, 64))
    generations = int(np.clip(trials // population // 3, 4, 20))
    return CemSettings(population=population, generations=generations)


def _run_cem(study: Any, search: Search, trials: int, seed: int, report: Progress) -> None:
    cube = UnitCube(search.tunables)
    start = {t.name: t.default for t in search.tunables}
    cem = Cem(cube.point(start), seed, cem_settings(trials))
    known = finished(study)
    report(min(len(known), trials))
    done = 0
    while done < trials:
        settings = [cube.setting(point) for point in cem.ask()][: trials - done]
        before = known[done : done + len(settings)]
        _check_path(before, settings)
        values = [trial.value for trial in before]
        for part in _parts(settings[len(values) :], search.together):
            values += _play_and_add(study, search, part)
            report(len(part))
        done += len(settings)
        if done < trials:
            cem.tell(values)


def _check_path(trials: Sequence[Trial], settings: Sequence[Setting]) -> None:
    """Values belong to the settings that they were told for; another budget or version takes another path."""
    for trial, setting in zip(trials, settings, strict=False):
        if not all(np.isclose(trial.setting[key], setting[key], rtol=1e-6, atol=1e-9) for key in setting):
            raise InputError(
                "The study's trials are not those of this search: it was made with another budget or version. "
                "Give another --study file."
            )


def _run_asked(study: Any, search: Search, trials: int, report: Progress) -> None:
    from optuna.distributions import FloatDistribution
    from optuna.trial import TrialState

    space: dict[str, Any] = {t.name: FloatDistribution(t.low, t.high, log=t.log) for t in search.tunables}
    for left_over in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(left_over.number, state=TrialState.FAIL)  # asked by a session that was killed
    done = min(len(finished(study)), trials)
    report(done)
    while done < trials:
        asked = [study.ask(space) for _ in range(min(search.together, trials - done))]
        scores = search.play([dict(trial.params) for trial in asked])
        for trial, value, attrs in zip(asked, search.objective(scores), _attrs(scores), strict=True):
            for key, number in attrs.items():
                trial.set_user_attr(key, number)
            study.tell(trial, float(value))
        done += len(asked)
        report(len(asked))


def _play_and_add(study: Any, search: Search, settings: Sequence[Setting]) -> list[float]:
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    # The ends of a logarithmic range come back with a rounding error that optuna would refuse.
    space: Any = {t.name: FloatDistribution(t.low, t.high, log=t.log) for t in search.tunables}
    inside = [{t.name: float(np.clip(s[t.name], t.low, t.high)) for t in search.tunables} for s in settings]
    scores = search.play(inside)
    values = [float(v) for v in search.objective(scores)]
    for setting, value, attrs in zip(inside, values, _attrs(scores), strict=True):
        study.add_trial(create_trial(params=setting, distributions=space, value=value, user_attrs=attrs))
    return values


def _attrs(scores: Scores) -> list[dict[str, float]]:
    return [
        {"carbon_mg": float(c), "compliance": float(k)}
        for c, k in zip(scores.mean_carbon_mg, scores.compliance, strict=True)
    ]


def _parts(settings: list[Setting], size: int) -> Iterator[list[Setting]]:
    for i in range(0, len(settings), size):
        yield settings[i : i + size]
