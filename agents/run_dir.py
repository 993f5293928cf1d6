"""The folder of a training run: what was asked for, what has been reached, and how to go on from there.

    config.yaml        resolved settings and what they were resolved for
    scenario.yaml      resolved scenario, scenario_sha256 its hash
    seed, commit       plain text
    versions.json      one entry per session (a run that is resumed has several)
    normalizer.npz     mean and std of the observation, measured before training
    risk/              copy of the risk folder that the policy is laid over, if it is
    checkpoints/       step-NNNNNNNNNNNN/ with the model, its optimiser and the replay buffer
    progress.json      status (running, stopped, finished), steps done and aimed at
    emissions.json     energy and CO2 of the training itself, per session and summed
    stages.json        of a taught run: what each stage came to, and whose model is handed out
    stages/            of a taught run: NN-NAME.zip, the model after each stage of teaching
    tb/                TensorBoard events
    model.zip          the final model, there once the run has finished; of a taught run the best stage's

Every file and every checkpoint is whole or not there, so a run can be killed at any moment. ``model.zip`` is
read with pickle: open only run folders that you trust, and share bundles (``carbonpilot export``) instead.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ..envs.errors import InputError
from ..envs.files import atomic_directory, atomic_path, write_json
from ..envs.scenario import load_scenario, scenario_sha256, scenario_yaml
from ..envs.schema import Scenario
from ..envs.strict_yaml import read_yaml
from .risk.folder import CARD_FILE, HEAD_FILE, Risk, read_risk

SCHEMA = "carbonpilot/run/1"
MODEL_FILE = "model.zip"
RISK_FOLDER, RISK_FILES = "risk", (HEAD_FILE, CARD_FILE)
KEPT_CHECKPOINTS = 2  # the newest, and the one before it in case a disk returns rubbish


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        folder: where it lies.
        steps: environment steps that had been made.
    """

    folder: Path
    steps: int

    @property
    def model(self) -> Path:
        """The SB3 model with its optimiser."""
        return self.folder / MODEL_FILE


class RunDir:
    """A run folder that exists and is complete as far as it goes.

    Attributes:
        path: the folder.
        config: content of ``config.yaml``.
        scenario: the scenario that the run was started with.
        seed: the run's seed.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a run folder.

        Raises:
            InputError: it is not one, or something in it is missing or does not fit.
        """
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            raise InputError(
                f"{path} is not a run folder: it has no config.yaml. Expected the --out folder of a training."
            )
        self.config = read_yaml(self.path / "config.yaml")
        if self.config.get("schema") != SCHEMA:
            raise InputError(
                f"{path}/config.yaml: expected schema {SCHEMA}, got {self.config.get('schema')}."
            )
        self.scenario = load_scenario(self.path / "scenario.yaml")
        self.seed = int(self._text("seed"))
        found, noted = scenario_sha256(self.scenario), self._text("scenario_sha256")
        if found != noted:
            raise InputError(
                f"{path}/scenario.yaml was changed after training: its hash is {found}, "
                f"the run noted {noted}. Put the original back, or train again."
            )

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        scenario: Scenario,
        seed: int,
        commit: str,
        mean: npt.NDArray[np.float32],
        std: npt.NDArray[np.float32],
        risk: Path | None = None,
    ) -> RunDir:
        """Make a run folder, whole at once.

        Args:
            path: folder to create; an empty one may exist.
            config: plain data for ``config.yaml``; the schema is added.
            scenario: the resolved scenario.
            seed: seed of the run.
            commit: source revision.
            mean: of the normaliser (F,).
            std: of the normaliser (F,).
            risk: folder of the risk head and price that the policy is laid over.

        Raises:
            InputError: the folder is not empty or cannot be created.
        """
        with atomic_directory(path) as folder:
            config = {"schema": SCHEMA, **config}
            (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
            (folder / "scenario.yaml").write_text(scenario_yaml(scenario))
            (folder / "scenario_sha256").write_text(scenario_sha256(scenario) + "\n")
            (folder / "seed").write_text(f"{seed}\n")
            (folder / "commit").write_text(commit + "\n")
            np.savez(folder / "normalizer.npz", mean=mean, std=std)
            for name in ("checkpoints", "tb"):
                (folder / name).mkdir()
            if risk is not None:
                (folder / RISK_FOLDER).mkdir()
                for name in RISK_FILES:
                    shutil.copyfile(risk / name, folder / RISK_FOLDER / name)
        return cls(path)

    @property
    def normalizer(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Mean and standard deviation of the observation, (F,) each."""
        with np.load(self.path / "normalizer.npz", allow_pickle=False) as data:
            return data["mean"], data["std"]

    @property
    def risk(self) -> Risk | None:
        """The risk head and price that the policy is laid over, if it is.

        Raises:
            InputError: the run's copy is incomplete or another than it was started with.
        """
        noted = self.config.get("risk")
        if noted is None:
            return None
        folder = self.path / RISK_FOLDER
        risk = read_risk(folder, table_sha256=self.config["table_sha256"])
        if risk_hashes(folder) != noted:
            raise InputError(
                f"{folder} is not the risk folder that the run was started with. Put the original back, or train again."
            )
        return risk

    @property
    def finished(self) -> bool:
        """Whether the run reached the steps it was last asked for."""
        return self.progress().get("status") == "finished"

    def progress(self) -> dict[str, Any]:
        """Content of ``progress.json``; empty before the first checkpoint."""
        return self.read_json("progress.json") or {}

    def write_progress(self, status: str, steps: int, target: int) -> None:
        """Note how far the run is."""
        record = {
            "schema": "carbonpilot/progress/1",
            "status": status,
            "steps": steps,
            "steps_target": target,
        }
        write_json(self.path / "progress.json", record)

    def read_json(self, name: str) -> Any:
        """A JSON file of the run, or None where it does not exist yet."""
        file = self.path / name
        return json.loads(file.read_text()) if file.is_file() else None

    def append_session(self, session: Mapping[str, Any]) -> None:
        """Add what one session ran with to ``versions.json``."""
        document = self.read_json("versions.json") or {"schema": "carbonpilot/versions/1", "sessions": []}
        write_json(self.path / "versions.json", {**document, "sessions": [*document["sessions"], session]})

    def checkpoints(self) -> list[Checkpoint]:
        """Complete checkpoints, oldest first; what was being written when a run died does not count."""
        folders = sorted((self.path / "checkpoints").glob("step-*"))
        return [Checkpoint(folder, int(folder.name.removeprefix("step-"))) for folder in folders]

    def save_checkpoint(self, steps: int, write: Callable[[Path], None]) -> Checkpoint:
        """Add a checkpoint and drop old ones.

        Args:
            steps: environment steps made.
            write: writes its files into the folder that it is given.

        Raises:
            CarbonPilotError: the disk is full; the checkpoints before it are untouched.
        """
        folder = self.path / "checkpoints" / f"step-{steps:012d}"
        if not folder.exists():
            with atomic_directory(folder) as temporary:
                write(temporary)
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            _remove(old.folder)
        return Checkpoint(folder, steps)

    def publish(self, model: Path) -> None:
        """Make a model of a checkpoint or a stage the final one."""
        with atomic_path(self.path / MODEL_FILE) as temporary:
            shutil.copyfile(model, temporary)

    def clean(self) -> None:
        """Remove what sessions that were killed left half-written."""
        for leftover in (*self.path.glob(".*"), *(self.path / "checkpoints").glob(".*")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def model_file(self) -> tuple[Path, int]:
        """The final model of a finished run, else that of the newest checkpoint, and its steps.

        Raises:
            InputError: the run has neither.
        """
        checkpoints = self.checkpoints()
        if self.finished and (self.path / MODEL_FILE).is_file():
            return self.path / MODEL_FILE, int(self.progress()["steps"])
        if not checkpoints:
            raise InputError(
                f"Run {self.path} has no model yet: it stopped before its first checkpoint. "
                "Continue it with: carbonpilot train ... --resume"
            )
        return checkpoints[-1].model, checkpoints[-1].steps

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_text().strip()
        except OSError:
            raise InputError(
                f"Run folder {self.path} is incomplete: {name} is missing. Train again."
            ) from None


def risk_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a risk folder, by name."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RISK_FILES}


def _remove(folder: Path) -> None:
    """Remove a checkpoint; it loses its name first, so that a half-removed one is never taken for whole."""
    doomed = folder.with_name(f".{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
