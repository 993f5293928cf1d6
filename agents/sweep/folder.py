"""The folder of a sweep.

    sweep.json         every trial with what it trains, its status, attempts, and why it failed
    settings/          one resolved settings file per agent and scenario, as `carbonpilot train --settings` takes it
    runs/              one ordinary run folder per trial
    heads/             one risk folder per risk head that the sweep makes
    logs/              what each training printed
    stop               there while a sweep is being stopped; trainings on other machines look for it

What a run has reached stands in its own folder (``progress.json``); ``sweep.json`` only adds what a run cannot say.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ... import __version__
from ...envs.errors import InputError
from ...envs.files import atomic_write_text, write_json, writing
from ..provenance import command_line
from ..risk.folder import is_risk_folder
from .heads import HEAD
from .trial import AnyTrial

SCHEMA = "carbonpilot/sweep-state/1"
STATE = "sweep.json"
_NOTES = "Written by `carbonpilot sweep`."


class SweepFolder:
    """A sweep's folder and its state.

    Attributes:
        path: the folder.
        trials: name -> record; see `Trial.record`, and beside it ``status``, ``attempts``, ``reason``.
        token: text that tells a machine of a cluster that it sees this very folder.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder; one that does not exist has no trials yet.

        Raises:
            InputError: the folder holds something else.
        """
        self.path = path.absolute()
        self.trials: dict[str, dict[str, Any]] = {}
        self.token = secrets.token_hex(8)
        if not (self.path / STATE).is_file():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise InputError(f"{path} is not empty and holds no sweep. Give a new folder.")
            return
        content = json.loads((self.path / STATE).read_text())
        if content.get("schema") != SCHEMA:
            raise InputError(
                f"{path}/{STATE}: expected schema {SCHEMA}, got {content.get('schema')}. "
                "Was it written by another version?"
            )
        self.trials, self.token = content["trials"], content["token"]

    @classmethod
    def existing(cls, path: Path) -> SweepFolder:
        """Open a folder that must hold a sweep.

        Raises:
            InputError: it does not.
        """
        if not (path / STATE).is_file():
            raise InputError(f"{path} holds no sweep: it has no {STATE}. Expected the --out of a sweep.")
        return cls(path)

    def run(self, name: str) -> Path:
        """A trial's run folder, or that of the risk head that it makes."""
        return self.path / ("heads" if self.is_head(name) else "runs") / name

    def is_head(self, name: str) -> bool:
        """Whether a trial makes a risk head."""
        return self.trials.get(name, {}).get("algorithm") == HEAD

    def log(self, name: str) -> Path:
        """What a trial printed."""
        return self.path / "logs" / f"{name}.log"

    @property
    def stop_file(self) -> Path:
        """The file that asks trainings to stop."""
        return self.path / "stop"

    def add(self, trials: Sequence[AnyTrial]) -> None:
        """Take trials in; those of an earlier call stay, and must not have changed.

        Raises:
            InputError: a trial of that name was started with something else.
        """
        for trial in trials:
            self._check_same(trial)
        with writing(self.path):
            (self.path / "settings").mkdir(parents=True, exist_ok=True)
        for trial in trials:
            settings = self._settings(trial)
            if not settings.exists():
                atomic_write_text(settings, trial.settings_text(_NOTES))
            before = self.trials.get(trial.name, {"status": "waiting", "attempts": 0, "reason": ""})
            self.trials[trial.name] = {**before, **trial.record()}
        self.save()

    def words(self, trial: AnyTrial) -> tuple[str, ...]:
        """The command line of a trial without its program; it goes on where there is a run already."""
        head = None if trial.needs is None else self.run(trial.needs)
        return trial.words(self.run(trial.name), self._settings(trial), head)

    def steps_done(self, name: str) -> int:
        """Environment steps up to a trial's newest checkpoint."""
        return int(self._progress(name).get("steps", 0))

    def finished(self, name: str) -> bool:
        """Whether a trial's run has made all its steps, or its risk head is there."""
        if self.is_head(name):
            return is_risk_folder(self.run(name))
        progress = self._progress(name)
        return progress.get("status") == "finished" and progress["steps"] >= self.trials[name]["steps"]

    def note(self, name: str, **changes: Any) -> None:
        """Change a trial's record and write the state."""
        self.trials[name] |= changes
        self.save()

    def save(self) -> None:
        """Write the state."""
        head = {"schema": SCHEMA, "carbonpilot_version": __version__, "command": command_line()}
        write_json(self.path / STATE, {**head, "token": self.token, "trials": self.trials})

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other sweeps out of the folder; the lock falls with the process, however that ends.

        Raises:
            InputError: a sweep is running in it.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"A sweep is running in {self.path} already. Wait for it, or stop it."
                ) from None
            yield
        finally:
            os.close(handle)

    def _progress(self, name: str) -> dict[str, Any]:
        file = self.run(name) / "progress.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def _settings(self, trial: AnyTrial) -> Path:
        return self.path / "settings" / trial.settings_name

    def _check_same(self, trial: AnyTrial) -> None:
        before, now = self.trials.get(trial.name), trial.record()
        if before is not None:
            keys = dict.fromkeys((*now, *_OPTIONAL))
            changed = [key for key in keys if before.get(key) != now.get(key)]
            if "steps" in changed and now["steps"] > before["steps"]:
                changed.remove("steps")  # a finished run is extended
            if changed:
                told = ", ".join(
                    f"{key}: {before.get(key)!r} before, now {now.get(key)!r}" for key in changed
                )
                raise InputError(f"{self.path} holds trial '{trial.name}' with another {told}. {_ADVICE}")
        settings = self._settings(trial)
        if settings.is_file() and settings.read_text() != trial.settings_text(_NOTES):
            raise InputError(
                f"{settings} holds other settings than the sweep now asks for of agent '{trial.agent}'. {_ADVICE}"
            )


_OPTIONAL = ("risk",)  # keys that only some records have
_ADVICE = "Give the agent another name, or the sweep a new --out."
