"""The algorithms of stable-baselines3 and sb3-contrib, built from our settings, saved and loaded with all they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from ..envs.errors import InputError
from ..envs.schema import Scenario
from .masked_replay import MaskedReplay
from .network_parts import network_parts
from .q_learning import MaskedQLearner, VectorDQN, VectorQRDQN, spread_evenly
from .risk.folder import Risk
from .risk_parts import risk_parts
from .run_dir import MODEL_FILE, Checkpoint
from .training_settings import PpoConfig, QConfig, RecurrentPpoConfig, TrainingConfig
from .unmoved_inputs import begin_at_zero
from .value_scaling import ScaledValues

F32 = npt.NDArray[np.float32]
REPLAY_FILE = "replay.npz"


class ScaledPPO(ScaledValues, PPO):
    """PPO with value targets of unit size."""


class ScaledMaskablePPO(ScaledValues, MaskablePPO):
    """MaskablePPO with value targets of unit size."""


class ScaledRecurrentPPO(ScaledValues, RecurrentPPO):
    """RecurrentPPO with value targets of unit size."""


MODELS: dict[str, type[BaseAlgorithm]] = {
    "dqn": VectorDQN,
    "qrdqn": VectorQRDQN,
    "ppo": ScaledPPO,
    "maskable-ppo": ScaledMaskablePPO,
    "recurrent-ppo": ScaledRecurrentPPO,
}
MASKS_ITSELF = {"dqn", "qrdqn", "maskable-ppo"}  # the others sample from all placements


def build_model(
    algo: str,
    settings: TrainingConfig,
    scenario: Scenario,
    env: VecEnv,
    mean: F32,
    std: F32,
    seed: int,
    risk: Risk | None = None,
) -> BaseAlgorithm:
    """Make an untrained model with the frozen normaliser inside its policy.

    Args:
        algo: name of the algorithm.
        settings: of the algorithm to build.
        scenario: the site that it shall decide for.
        env: environments to train on.
        mean: of the normaliser (F,).
        std: of the normaliser (F,).
        seed: of the weights, the exploration and the environments.
        risk: frozen head and price to lay the policy over; None for none.
    """
    parts = (
        network_parts(settings, scenario, mean, std)
        if risk is None
        else risk_parts(algo, settings, scenario, risk)
    )
    rate = settings.learning_rate
    common: dict[str, Any] = {
        "policy": parts.policy,
        "policy_kwargs": parts.policy_kwargs,
        "env": env,
        "learning_rate": LinearSchedule(rate, rate * settings.learning_rate_end_share, 1.0),
        "gamma": settings.gamma,
        "batch_size": settings.batch_size,
        "max_grad_norm": settings.max_grad_norm,
        "seed": seed,
        "device": "cpu",
    }
    own = _ppo_options(settings) if isinstance(settings, PpoConfig) else _q_options(cast(QConfig, settings))
    model = MODELS[algo](**common, **own)
    if not isinstance(settings, RecurrentPpoConfig):  # its networks read a memory instead of features
        begin_at_zero(model.policy, std, settings.stack)
    if isinstance(settings, QConfig):
        learner = cast(MaskedQLearner, model)
        learner.double = settings.double
        learner.greedy = spread_evenly(settings.greedy_share, settings.num_envs)
    return model


def _ppo_options(settings: PpoConfig) -> dict[str, Any]:
    return {
        "n_steps": settings.n_steps,
        "n_epochs": settings.n_epochs,
        "gae_lambda": settings.gae_lambda,
        "clip_range": settings.clip_range,
        "ent_coef": settings.ent_coef,
        "vf_coef": settings.vf_coef,
    }


def _q_options(settings: QConfig) -> dict[str, Any]:
    return {
        "replay_buffer_class": MaskedReplay,
        "buffer_size": settings.buffer_size,
        "learning_starts": settings.learning_starts,
        "train_freq": (1, "step"),
        "gradient_steps": settings.updates_per_vector_step,
        "target_update_interval": settings.target_update_steps,
        "exploration_fraction": settings.exploration_share,
        "exploration_final_eps": settings.exploration_final,
    }


def rollout_steps(settings: TrainingConfig) -> int:
    """Environment steps between two updates: a run ends at a multiple of it."""
    return settings.num_envs * (settings.n_steps if isinstance(settings, PpoConfig) else 1)


def save_model(model: BaseAlgorithm, folder: Path) -> None:
    """Write the model with its optimiser and, where it has one, the replay buffer."""
    model.save(folder / MODEL_FILE)
    if isinstance(model, MaskedQLearner):
        buffer = _buffer(model)
        filled = buffer.buffer_size if buffer.full else buffer.pos
        arrays = {name: getattr(buffer, name)[:filled] for name in buffer.ARRAYS}
        np.savez(folder / REPLAY_FILE, position=buffer.pos, full=buffer.full, **arrays)


def load_checkpoint(algo: str, checkpoint: Checkpoint, env: VecEnv) -> BaseAlgorithm:
    """Load a model to go on training it on ``env``."""
    model = load_model(algo, checkpoint.model, env)
    if isinstance(model, MaskedQLearner):
        buffer = _buffer(model)
        with np.load(checkpoint.folder / REPLAY_FILE, allow_pickle=False) as saved:
            for name in buffer.ARRAYS:
                getattr(buffer, name)[: len(saved[name])] = saved[name]
            buffer.pos, buffer.full = int(saved["position"]), bool(saved["full"])
    return model


def load_model(algo: str, file: Path, env: VecEnv | None = None) -> BaseAlgorithm:
    """Load a model file, which is read with pickle: only from run folders that you trust.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return MODELS[algo].load(file, env=env, device="cpu")
    except Exception as error:  # a damaged zip or pickle can raise nearly anything
        raise InputError(
            f"{file} cannot be loaded ({type(error).__name__}: {error}). "
            "Likely cause: it is damaged or was written by another version of stable-baselines3 "
            "(versions.json names the one used)."
        ) from error


def _buffer(model: MaskedQLearner) -> MaskedReplay:
    assert isinstance(model.replay_buffer, MaskedReplay), "a Q-learner of ours always has such a buffer"
    return model.replay_buffer
