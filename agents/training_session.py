"""One stretch of training: from the start or a checkpoint to the last step or an interruption."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecEnv

from ..envs.errors import CarbonPilotError
from ..envs.files import writing
from ..envs.sb3_vec_env import make_sb3_env
from . import provenance
from .algorithms import MASKS_ITSELF, build_model, load_checkpoint, save_model
from .callbacks import Checkpoints, EpisodeMetrics, Evaluate, ShowProgress, StopTraining
from .constraint import PidLagrangian
from .constraint_callback import ConstraintCallback
from .constraint_start import constraint_start
from .run_dir import Checkpoint, RunDir
from .teach.in_session import Teaching
from .tensorboard_log import Board
from .tracking import Footprint, footprint_line
from .training_env import training_env
from .training_evaluation import TrainingEvaluation
from .training_guard import one_torch_thread, stopping_on_signals
from .training_plan import Plan, session_seed
from .training_progress import TrainingProgress, evaluation_line
from .training_settings import PpoConfig

# Episodes of a batch are in 16 phases: a rollout is then a fair sample of an episode, for the learner and for the
# constraint. All starting together, the share of misses of 8192 requests went up and down by a factor of 3 (metro).
PHASES = 16


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
        self._constraint = self._make_constraint()
        self.evaluation: dict[str, float] = {}
        self.emissions: dict[str, Any] = {}

    def run(
        self,
        evaluate_every: int | None = None,
        checkpoint_every: int | None = None,
        watchers: Sequence[BaseCallback] = (),
    ) -> None:
        """Train to the plan's last step.

        Args:
            evaluate_every: environment steps between evaluations, instead of the configured number.
            checkpoint_every: environment steps between checkpoints, instead of the configured share.
            watchers: further callbacks; what they raise ends the session.

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
            model, board = self._model(env), self._board()
            model.set_logger(board.logger)
            stack.callback(board.logger.close)
            checkpoints = self._checkpoints(model, checkpoint_every)
            evaluate = self._evaluation(evaluate_every, show, board)
            stack.enter_context(stopping_on_signals(checkpoints.ask_to_stop))
            teaching = self._teaching(checkpoints)
            with self._recoverable():
                if self._checkpoint is None:
                    teaching.before(model)
                beside = [] if self._constraint is None else [ConstraintCallback(self._constraint)]
                own = [EpisodeMetrics(), evaluate, checkpoints, ShowProgress(show)]
                self._learn(model, [*beside, *own, *teaching.callbacks(), *watchers])
                self._finish(model, evaluate, teaching)
                board.finish()
        self._conclude()

    def _learn(self, model: BaseAlgorithm, callbacks: list[BaseCallback]) -> None:
        model.learn(
            self._target - model.num_timesteps,
            callback=CallbackList(callbacks),
            log_interval=self._log_interval,
            reset_num_timesteps=False,
        )

    @property
    def _log_interval(self) -> int:
        """Every rollout of PPO; for the Q-learners, which count episodes, every eighth part of a batch's."""
        settings = self._plan.settings
        return 1 if isinstance(settings, PpoConfig) else max(1, settings.num_envs // 8)

    def _finish(self, model: BaseAlgorithm, evaluate: Evaluate, teaching: Teaching) -> None:
        """Save the last state, score what is handed out, and only then call the run finished."""
        self._save(model)
        best = teaching.after(model, self.emissions["duration_s"])
        evaluate.evaluate(last=True)
        self.evaluation = evaluate.last
        self._run.publish(best or self._run.checkpoints()[-1].model)
        self.emissions = self._footprint.stop()
        self._run.write_progress("finished", self.steps, self.steps)

    def _save(self, model: BaseAlgorithm) -> None:
        """Write a checkpoint and how far the run is."""
        steps = model.num_timesteps
        self._run.save_checkpoint(steps, lambda folder: self._write(model, folder))
        self._run.write_progress("running", steps, self._target)
        self.steps = steps
        self.emissions = self._footprint.save()
        if self.emissions["energy_kwh"] is not None:
            model.logger.record("emissions/energy_wh", self.emissions["energy_kwh"] * 1000)
            model.logger.record("emissions/co2_g", self.emissions["emissions_g"])

    def _write(self, model: BaseAlgorithm, folder: Path) -> None:
        save_model(model, folder)
        if self._constraint is not None:
            self._constraint.save(folder)

    def _make_constraint(self) -> PidLagrangian | None:
        """The SLO's constraint, as it was at the checkpoint; None where the reward's own weight holds."""
        settings = self._plan.settings.constraint
        if settings is None:
            return None
        plan, over_head = self._plan, self._run.risk is not None
        if self._checkpoint is not None:
            constraint = PidLagrangian(settings, plan.scenario.slo, settings.lowest, over_head)
            constraint.load(self._checkpoint.folder)
            return constraint
        start = constraint_start(settings, plan.scenario, self._run.risk, plan.seed, plan.traces_dir)
        self._say(f"at first a miss costs {start.multiplier:.3g} of reward: {start.why}")
        return PidLagrangian(settings, plan.scenario.slo, start.multiplier, over_head)

    def _model(self, env: VecEnv) -> BaseAlgorithm:
        """A new model, or that of the checkpoint with random streams of its own for this session."""
        plan = self._plan
        if self._checkpoint is None:
            mean, std = self._run.normalizer
            model = build_model(
                plan.algo, plan.settings, plan.scenario, env, mean, std, self._seed, self._run.risk
            )
        else:
            model = load_checkpoint(plan.algo, self._checkpoint, env)
            model.set_random_seed(self._seed)
        return model

    def _teaching(self, checkpoints: Checkpoints) -> Teaching:
        multiplier = None if self._constraint is None else self._constraint.multiplier
        return Teaching(self._plan, self._run, multiplier, self._say, checkpoints.pause)

    def _board(self) -> Board:
        return Board(self._run.path / "tb", self._start, self._plan)

    @contextlib.contextmanager
    def _environment(self) -> Iterator[VecEnv]:
        plan, settings = self._plan, self._plan.settings
        env = make_sb3_env(
            plan.scenario, settings.num_envs, self._seed, traces_dir=plan.traces_dir, phases=PHASES
        )
        try:
            yield training_env(env, settings, plan.algo in MASKS_ITSELF, self._constraint)
        finally:
            env.close()

    def _progress(self) -> TrainingProgress:
        label = f"{self._plan.algo} on {self._plan.scenario.name}"
        return TrainingProgress(self._console, label, self._start, self._target)

    def _evaluation(self, every: int | None, show: TrainingProgress, board: Board) -> Evaluate:
        plan, settings = self._plan, self._plan.settings
        evaluation = TrainingEvaluation(
            plan.scenario,
            settings.evaluation_seed,
            settings.evaluation_episodes,
            plan.traces_dir,
            plan.evaluation_part,
        )
        every = every or max(1, math.ceil(self._target / settings.evaluations))
        return Evaluate(evaluation, every, self._start, show, board.images)

    def _checkpoints(self, model: BaseAlgorithm, every: int | None) -> Checkpoints:
        settings = self._plan.settings
        every = every or max(1, math.ceil(self._target * settings.checkpoint_share))
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
        plan, begins = self._plan, self._checkpoint is None
        where = (
            f"training into {self._run.path}"
            if begins
            else f"resuming {self._run.path} at step {self._start}"
        )
        what = f"{plan.algo} on {plan.scenario.name}, {self._target} steps, seed {plan.seed}"
        self._say(f"{where}: {what} (settings: {plan.algo}.yaml, section {plan.section})")

    def _conclude(self) -> None:
        self._say(f"{evaluation_line(self.evaluation)} (steps {self.steps}, deterministic, evaluation tapes)")
        self._say(footprint_line(self.emissions))
        self._say(f"run folder: {self._run.path}")
        self._say(f"curves: tensorboard --logdir {shlex.quote(str(self._run.path / 'tb'))}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
