"""What a teacher needs of a run, checked before anything starts."""

from __future__ import annotations

from ...envs.errors import InputError
from ...envs.schema import Scenario
from ..training_settings import PpoConfig, RecurrentPpoConfig, TrainingConfig
from .costs import check_weights


def check_teachable(algo: str, settings: TrainingConfig, scenario: Scenario) -> None:
    """Refuse a run whose model cannot be taught.

    Raises:
        InputError: the reward does not count carbon, the policy has a memory, or there is no actor to freeze or to
            take labels that are no rewards.
    """
    if settings.teacher is None:
        return
    check_weights(scenario)
    if isinstance(settings, RecurrentPpoConfig) or settings.stack != 1:
        raise InputError(
            "`teacher` teaches from single observations: use ppo, maskable-ppo, dqn or qrdqn with `stack: 1`, "
            f"got {algo} with `stack: {settings.stack}`."
        )
    if settings.teacher.actor_frozen_steps and not isinstance(settings, PpoConfig):
        raise InputError(
            f"teacher.actor_frozen_steps: {algo} has no actor that could be frozen; expected 0, got "
            f"{settings.teacher.actor_frozen_steps}."
        )
    if settings.teacher.labels_in != "mg" and not isinstance(settings, PpoConfig):
        raise InputError(
            f"teacher.labels_in: {algo} learns the reward of every placement, which counts mg of carbon; expected mg, "
            f"got {settings.teacher.labels_in}."
        )


def check_something_to_do(steps: int, settings: TrainingConfig) -> None:
    """Refuse a run of no steps that is not taught either.

    Raises:
        InputError: nothing would be learned.
    """
    if steps == 0 and settings.teacher is None:
        raise InputError(
            "--steps 0 hands out what was taught, without RL after it, and these settings have no `teacher`. Give "
            "--steps of at least 1, or settings with one, such as --settings configs/train/ppo-taught.yaml."
        )
