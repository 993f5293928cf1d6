"""Trains an agent on a site and keeps a run folder that survives being killed.

See `docs/training.md` for what the folder holds and for what TensorBoard shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from ..envs.tape import Part
from ..oracle.breakeven import break_even
from .training_plan import make_plan, open_run
from .training_session import TrainingSession


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
    evaluation_part: Part = "evaluation",
    watchers: Sequence[BaseCallback] = (),
    wish: str | None = None,
    risk: str | Path | None = None,
) -> RunResult:
    """Train an agent.

    Args:
        scenario: shipped name or path of a YAML file.
        algo: "ppo", "maskable-ppo", "recurrent-ppo", "dqn" or "qrdqn".
        steps: environment steps in all sessions together, rounded up to whole rollouts; 0: only what the settings'
            ``teacher`` teaches.
        seed: of weights, exploration and training tapes; same seed and versions, same final weights.
        out: run folder; must be new or empty unless ``resume``.
        traces: trace folder; takes the form of the scenario that reads files.
        resume: go on from the last checkpoint in ``out``; a finished run is extended to ``steps``.
        num_envs: environments stepped together, instead of the configured number.
        evaluate_every: environment steps between evaluations.
        checkpoint_every: environment steps between checkpoints.
        country: ISO alpha-3 code of the grid of the training machine, instead of the configured one.
        settings_file: another file than ``configs/train/ALGO.yaml``.
        settings: single settings laid over those of the file; ``{"constraint": None}`` is the fixed penalty.
        console: where progress goes; standard output unless given.
        evaluation_part: part of the world that the evaluations beside the training are played on.
        wish: position of the dial to train for, or "sampled" for an agent that knows all of them; None: the scenario's.
        watchers: further callbacks of stable-baselines3; what they raise ends the training and is passed on.
        risk: folder of a frozen risk head and price that the policy is laid over (`carbonpilot risk train`); the run
            keeps a copy.

    Raises:
        InputError: the call does not fit, or the run in ``out`` was started with something else.
        CarbonPilotError: the run was stopped by a signal or the disk is full; it can be resumed.
    """
    console = console or Console()
    options = {"num_envs": num_envs, "country_iso_code": country}
    changes = {key: value for key, value in options.items() if value is not None} | dict(settings or {})
    plan = make_plan(scenario, algo, steps, seed, traces, settings_file, changes, wish, risk)
    plan = replace(plan, evaluation_part=evaluation_part)
    run, checkpoint = open_run(plan, Path(out), resume)
    done = checkpoint.steps if checkpoint else 0
    if run.finished and done >= plan.steps:
        console.print(
            f"{run.path} has made its {done} steps already: nothing to do. Ask for more with --steps."
        )
        return RunResult(run.path, done, {}, run.read_json("emissions.json"))
    console.print(break_even(plan.scenario, plan.traces_dir).conclusion, highlight=False, markup=False)
    session = TrainingSession(plan, run, checkpoint, console)
    session.run(evaluate_every, checkpoint_every, watchers)
    return RunResult(run.path, session.steps, session.evaluation, session.emissions)
