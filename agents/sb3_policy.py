"""A training run as a policy: deterministic, and never choosing what the mask forbids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm

from ..envs.errors import InputError
from ..envs.observation import build_table
from ..envs.schema import Scenario
from .algorithms import load_model
from .compatibility import table_differences
from .dial_knowledge import check_position
from .policy_memory import memory_of
from .run_dir import RunDir


class Sb3Policy:
    """The greedy policy of an SB3 model.

    Attributes:
        name: name in tables and JSON.
        model: the model.
        steps: environment steps that it was trained for.
        note: what a reader of its scores should know, e.g. that the run had not finished; else empty.
        knows_dial: whether positions of the dial were drawn in its training.
    """

    def __init__(self, model: BaseAlgorithm, name: str, note: str = "", knows_dial: bool = False) -> None:
        """Wrap a model."""
        self.knows_dial = knows_dial
        self.name = name
        self.model = model
        self.steps = int(model.num_timesteps)
        self.note = note
        self._memory = memory_of(model)

    @classmethod
    def load(cls, path: str | Path, scenario: Scenario | None = None) -> Sb3Policy:
        """Load a run folder: its final model, or the newest checkpoint of a run that did not finish.

        Args:
            path: run folder; its model is read with pickle, so it must be one that you trust.
            scenario: the site that it shall decide for; none to use it as it is.

        Raises:
            InputError: not a run folder, no model in it yet, or trained for something else.
        """
        run = RunDir(path)
        if scenario is not None:
            check_run_fits(run, scenario)
        file, steps = run.model_file()
        model = load_model(run.config["algorithm"], file)
        name = run.path.resolve().name
        knows_dial = run.scenario.wishes.sampled is not None
        if run.finished:
            return cls(model, name, knows_dial=knows_dial)
        return cls(model, f"{name}@{steps}", f"run not finished, checkpoint at {steps} steps", knows_dial)

    def reset(self, batch: int) -> None:
        """Forget the episodes before, where the network has a memory."""
        self._memory.reset(batch)

    def decide(
        self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64] | int:
        """Choose the allowed placement with the highest logit or Q value; see `Policy.decide`."""
        values = np.where(np.atleast_2d(mask), self.scores(np.atleast_2d(observation)), -np.inf)
        choice = values.argmax(axis=1)
        return int(choice[0]) if observation.ndim == 1 else choice

    def scores(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits (PPO) or Q values (DQN), (B, P) for (B, F); a network with a memory goes on by one request."""
        return self._memory.scores(observation)


def check_run_fits(run: RunDir, scenario: Scenario) -> None:
    """Refuse a run that was trained for another family, other placements or features, or one other wish.

    Raises:
        InputError: naming what differs.
    """
    trained = run.scenario
    if trained.family != scenario.family:
        raise InputError(
            f"Run {run.path} was trained for scenario family '{trained.family}' (scenario '{trained.name}'), "
            f"not for '{scenario.family}'. Train on '{scenario.name}', or use it there."
        )
    before, here = ([p.name for p in s.placements] for s in (trained, scenario))
    if before != here:
        raise InputError(
            f"Run {run.path} chooses among {before}, scenario '{scenario.name}' offers {here}. Train again."
        )
    table = build_table(scenario)
    differences = table_differences(build_table(trained).records(), table.records())
    if differences:
        raise InputError(
            f"Run {run.path} sees other features than scenario '{scenario.name}' gives: "
            f"{'; '.join(differences)}. Train again."
        )
    if run.config["table_sha256"] != table.sha256:
        raise InputError(
            f"Run {run.path} was trained with another version of the observation table "
            f"({run.config['table_sha256'][:12]}, now {table.sha256[:12]}). Train again."
        )
    check_position(
        f"Run {run.path}", trained.wishes, trained.wishes.sampled is not None, scenario.wishes, scenario.name
    )
