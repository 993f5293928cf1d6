"""One stretch of training: from the start or a checkpoint to the last step or an interruption."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
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
from .training_evaluation import TrainingEvaluation
from .training_guard import one_torch_thread, stopping_on_signals
from .training_plan import Plan, session_seed
from .training_progress import TrainingProgress, evaluation_line


class TrainingSession:
    """Trains, and keeps the run folder such that another session can always go on.

    Attributes:
        steps: environment steps made so far, all sessions together.
        evaluation: scores of the newest evaluation by TensorBoard tag; empty before the first.
        emissions: content of ``emissions.json`` at its last writing.
    """

    def __init__(self, plan: Plan, run: RunDir, checkpoint: Checkpoint | None, console: Console) -> None:
        """Prepare a session.

        Args:
            plan: what to do.
            run: the run's folder.
            checkpoint: where to go on; None to start from the first step.
            console: where progress goes.
        """
        self._plan, self._run, self._checkpoint, self._console = plan, run, checkpoint, console
        self.steps = self._start = checkpoint.steps if checkpoint else 0
        self._target = max(plan.steps, self._start)
        self._seed = session_seed(plan.seed, self._start)
        self._footprint = Footprint(run, plan.settings.country_iso_code)
        self.evaluation: dict[str, float] = {}
        self.emissions: dict[str, Any] = {}

    def run(self, evaluate_every: int | None = None, checkpoint_every: int | None = None) -> None:
        """Train to the plan's last step.

        Args:
            evaluate_every: environment steps between evaluations, instead of the configured number.
            checkpoint_every: environment steps between checkpoints, instead of the configured share.

        Raises:
            CarbonPilotError: stopped by a signal, or the disk is full; the run can be resumed.
        """
        self._run.append_session(provenance.session(self._start, self._target))
        self._run.write_progress("running", self._start, self._target)
        self._announce()
        with contextlib.ExitStack() as stack:
            stack.enter_context(one_torch_thread())
            stack.callback(self._footprint.close)
            env = stack.enter_context(self._environment())
            show = stack.enter_context(self._progress())
            self._footprint.start()
            model = self._model(env)
            stack.callback(model.logger.close)
            checkpoints = self._checkpoints(model, checkpoint_every)
            evaluate = self._evaluation(evaluate_every, show)
            stack.enter_context(stopping_on_signals(checkpoints.ask_to_stop))
            with self._recoverable():
                self._learn(model, [EpisodeMetrics(), evaluate, checkpoints, ShowProgress(show)])
                self._finish(model, evaluate)
        self._conclude()

    def _learn(self, model: DQN | PPO, callbacks: list[BaseCallback]) -> None:
        model.learn(
            self._target - model.num_timesteps,
            callback=CallbackList(callbacks),
            log_interval=1 if isinstance(model, PPO) else self._plan.settings.num_envs,  # rollouts; episodes
            reset_num_timesteps=False,
        )

    def _finish(self, model: DQN | PPO, evaluate: Evaluate) -> None:
        """Save the last state, score it, and only then call the run finished."""
        self._save(model)
        evaluate.evaluate()
        self.evaluation = evaluate.last
        self._run.publish(self._run.checkpoints()[-1])
        self.emissions = self._footprint.stop()
        self._run.write_progress("finished", self.steps, self.steps)

    def _save(self, model: DQN | PPO) -> None:
        """Write a checkpoint and how far the run is."""
        steps = model.num_timesteps
        self._run.save_checkpoint(steps, lambda folder: save_model(model, folder))
        self._run.write_progress("running", steps, self._target)
        self.steps = steps
        self.emissions = self._footprint.save()
        if self.emissions["energy_kwh"] is not None:
            model.logger.record("emissions/energy_wh", self.emissions["energy_kwh"] * 1000)
            model.logger.record("emissions/co2_g", self.emissions["emissions_g"])

    def _model(self, env: VecEnv) -> DQN | PPO:
        """A new model, or that of the checkpoint with random streams of its own for this session."""
        plan = self._plan
        if self._checkpoint is None:
            model = build_model(plan.settings, env, *self._run.normalizer, self._seed)
        else:
            model = load_checkpoint(plan.algo, self._checkpoint, env)
            model.set_random_seed(self._seed)
        model.set_logger(tensorboard_logger(self._run.path / "tb", self._start))
        return model

    @contextlib.contextmanager
    def _environment(self) -> Iterator[VecEnv]:
        plan, settings = self._plan, self._plan.settings
        env = make_sb3_env(plan.scenario, settings.num_envs, self._seed, traces_dir=plan.traces_dir)
        try:
            yield ScaledReward(env, settings.reward_scale)
        finally:
            env.close()

    def _progress(self) -> TrainingProgress:
        label = f"{self._plan.algo} on {self._plan.scenario.name}"
        return TrainingProgress(self._console, label, self._start, self._target)

    def _evaluation(self, every: int | None, show: TrainingProgress) -> Evaluate:
        plan, settings = self._plan, self._plan.settings
        evaluation = TrainingEvaluation(
            plan.scenario, settings.evaluation_seed, settings.evaluation_episodes, plan.traces_dir
        )
        return Evaluate(
            evaluation, every or math.ceil(self._target / settings.evaluations), self._start, show
        )

    def _checkpoints(self, model: DQN | PPO, every: int | None) -> Checkpoints:
        settings = self._plan.settings
        every = every or math.ceil(self._target * settings.checkpoint_share)
        return Checkpoints(lambda: self._save(model), every, settings.checkpoint_seconds, self._start)

    @contextlib.contextmanager
    def _recoverable(self) -> Iterator[None]:
        """Turn what ends a session early into a message that says how to go on."""
        try:
            with writing(
                self._run.path
            ):  # TensorBoard writes too, and a full disk surfaces wherever it likes
                yield
        except StopTraining:
            self._run.write_progress("stopped", self.steps, self._target)
            self._footprint.stop()
            raise CarbonPilotError(f"Stopped when asked to, {self._state()}") from None
        except CarbonPilotError as error:
            raise CarbonPilotError(f"{error}\nTraining ended early, {self._state()}") from error

    def _state(self) -> str:
        done = f"at step {self.steps} of {self._target}" if self.steps else "before the first checkpoint"
        return f"{done}; {self._run.path} is whole up to there. Continue with the same command and --resume."

    def _announce(self) -> None:
        plan, start = self._plan, self._start
        where = f"resuming {self._run.path} at step {start}" if start else f"training into {self._run.path}"
        what = f"{plan.algo} on {plan.scenario.name}, {self._target} steps, seed {plan.seed}"
        self._say(f"{where}: {what} (settings: {plan.algo}.yaml, section {plan.section})")

    def _conclude(self) -> None:
        self._say(f"{evaluation_line(self.evaluation)} (steps {self.steps}, deterministic, evaluation tapes)")
        self._say(footprint_line(self.emissions))
        self._say(f"run folder: {self._run.path}")
        self._say(f"curves: tensorboard --logdir {shlex.quote(str(self._run.path / 'tb'))}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
