"""Trains DQN or PPO on a site and keeps a run folder that survives being killed.

See `docs/training.md` for what the folder holds and for what TensorBoard shows.
"""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.vec_env import VecEnv

from ..envs.errors import CarbonPilotError
from ..envs.files import writing
from ..envs.sb3_vec_env import make_sb3_env
from . import provenance
from .algorithms import ScaledReward, build_model, load_checkpoint, save_model
from .callbacks import Checkpoints, EpisodeMetrics, Evaluate, ShowProgress, StopTraining
from .run_dir import Checkpoint, RunDir
from .tensorboard_log import tensorboard_logger
from .tracking import Footprint, footprint_line
from .training_config import DqnConfig, PpoConfig
from .training_evaluation import TrainingEvaluation
from .training_plan import Plan, make_plan, open_run, session_seed
from .training_progress import TrainingProgress
from .training_signals import stopping_on_signals


@dataclass(frozen=True)
class RunResult:
    """What a training run came to.

    Attributes:
        run_dir: its folder.
        steps: environment steps made in all sessions.
        evaluation: scores on the evaluation tapes at the end, by TensorBoard tag; empty if nothing was done.
        emissions: content of ``emissions.json``.
    """

    run_dir: Path
    steps: int
    evaluation: dict[str, float]
    emissions: dict[str, Any]


def train(
    scenario: str | Path,
    algo: str,
    steps: int,
    seed: int,
    out: str | Path,
    traces: str | Path | None = None,
    resume: bool = False,
    num_envs: int | None = None,
    evaluate_every: int | None = None,
    checkpoint_every: int | None = None,
    country: str | None = None,
    settings_file: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> RunResult:
    """Train an agent.

    Args:
        scenario: shipped name or path of a YAML file.
        algo: "dqn" or "ppo".
        steps: environment steps in all sessions together, rounded up to whole rollouts.
        seed: of weights, exploration and training tapes; same seed and versions, same final weights.
        out: run folder; must be new or empty unless ``resume``.
        traces: trace folder; takes the form of the scenario that reads files.
        resume: go on from the last checkpoint in ``out``; a finished run is extended to ``steps``.
        num_envs: environments stepped together, instead of the configured number.
        evaluate_every: environment steps between evaluations.
        checkpoint_every: environment steps between checkpoints.
        country: ISO alpha-3 code of the grid of the training machine, instead of the configured one.
        settings_file: another file than ``configs/train/ALGO.yaml``.
        settings: single settings that replace those of the file.
        console: where progress goes; standard output unless given.

    Raises:
        InputError: the call does not fit, or the run in ``out`` was started with something else.
        CarbonPilotError: the run was stopped by a signal or the disk is full; it can be resumed.
    """
    console = console or Console()
    changes = {"num_envs": num_envs, "country_iso_code": country, **(settings or {})}
    plan = make_plan(scenario, algo, steps, seed, traces, settings_file, changes)
    run, checkpoint = open_run(plan, Path(out), resume)
    done = checkpoint.steps if checkpoint else 0
    if run.finished and done >= plan.steps:
        console.print(f"{run.path} has made its {done} steps already: nothing to do. Ask for more with --steps.")
        return RunResult(run.path, done, {}, run.read_json("emissions.json"))
    session = _Session(plan, run, checkpoint, console)
    return session.run(evaluate_every, checkpoint_every)


class _Session:
    """One stretch of training between start (or resumption) and end (or interruption)."""

    def __init__(self, plan: Plan, run: RunDir, checkpoint: Checkpoint | None, console: Console) -> None:
        self._plan, self._run, self._checkpoint, self._console = plan, run, checkpoint, console
        self._start = checkpoint.steps if checkpoint else 0
        self._footprint = Footprint(run, plan.settings.country_iso_code)

    def run(self, evaluate_every: int | None, checkpoint_every: int | None) -> RunResult:
        plan, settings = self._plan, self._plan.settings
        self._run.append_session(provenance.session(self._start, plan.steps))
        self._run.write_progress("running", self._start, plan.steps)
        self._announce()
        with _one_thread(), contextlib.closing(self._footprint), self._environment() as env:
            self._footprint.start()
            model = self._model(env)
            evaluation = TrainingEvaluation(
                plan.scenario, settings.evaluation_seed, settings.evaluation_episodes, plan.traces_dir
            )
            every = evaluate_every or math.ceil(plan.steps / max(settings.evaluations, 1))
            every_saved = checkpoint_every or math.ceil(plan.steps * settings.checkpoint_share)
            label = f"{plan.algo} on {plan.scenario.name}"
            with TrainingProgress(self._console, label, self._start, plan.steps) as show:
                evaluate = Evaluate(evaluation, every, self._start, show)
                checkpoints = Checkpoints(
                    lambda _: self._save(model), every_saved, settings.checkpoint_seconds, self._start
                )
                callbacks = [EpisodeMetrics(), checkpoints, ShowProgress(show)]
                if settings.evaluations or evaluate_every:
                    callbacks.insert(1, evaluate)
                with self._recoverable(checkpoints):
                    self._learn(model, callbacks)
                    emissions = self._finish(model, evaluate)
        self._conclude(evaluate.last, emissions)
        return RunResult(self._run.path, model.num_timesteps, evaluate.last, emissions)

    @contextlib.contextmanager
    def _environment(self) -> Iterator[VecEnv]:
        plan = self._plan
        seed = session_seed(plan.seed, self._start)
        env = make_sb3_env(plan.scenario, plan.settings.num_envs, seed, traces_dir=plan.traces_dir)
        try:
            yield ScaledReward(env, plan.settings.reward_scale)
        finally:
            env.close()

    def _model(self, env: VecEnv) -> DQN | PPO:
        """A new model, or that of the checkpoint with fresh random streams of its own."""
        plan = self._plan
        seed = session_seed(plan.seed, self._start)
        if self._checkpoint is None:
            model = build_model(plan.settings, env, *self._run.normalizer, seed)
        else:
            model = load_checkpoint(plan.algo, self._checkpoint, env)
            model.set_random_seed(seed)
        model.set_logger(tensorboard_logger(self._run.path / "tb", self._start))
        return model
