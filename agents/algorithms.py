"""DQN and PPO of stable-baselines3, built from our settings, saved and loaded with all they need to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import nn

from ..envs.errors import InputError
from .normalizer import FixedNormalizer
from .run_dir import MODEL_FILE, Checkpoint
from .training_config import DqnConfig, PpoConfig

F32 = npt.NDArray[np.float32]
REPLAY_FILE = "replay.npz"
_REPLAY_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class VectorDQN(DQN):
    """DQN whose environments explore independently of each other.

    SB3's own ``predict`` tosses one coin for the whole batch: with 64 environments all of them would take a
    random placement in the same step and none in the next.
    """

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose greedily, then replace each choice by a random one with probability epsilon."""
        action, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic:
            explore = np.random.rand(*action.shape) < self.exploration_rate  # noqa: NPY002 (SB3 seeds it)
            random = np.random.randint(cast(Discrete, self.action_space).n, size=action.shape)  # noqa: NPY002
            action = np.where(explore, random, action)
        return action, state


class ScaledReward(VecEnvWrapper):
    """Multiplies the reward that the agent sees; ``info`` and with it every metric stays in its unit."""

    def __init__(self, venv: VecEnv, scale: float) -> None:
        """Wrap an environment."""
        super().__init__(venv)
        self.scale = np.float32(scale)

    def reset(self) -> Any:
        """Start all episodes."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """Step and scale."""
        observation, reward, done, info = self.venv.step_wait()
        return observation, reward * self.scale, done, info


MODELS: dict[str, type[VectorDQN] | type[PPO]] = {"dqn": VectorDQN, "ppo": PPO}


def build_model(settings: PpoConfig | DqnConfig, env: VecEnv, mean: F32, std: F32, seed: int) -> DQN | PPO:
    """Make an untrained model with the frozen normaliser inside its policy.

    Args:
        settings: of the algorithm to build.
        env: environments to train on.
        mean: of the normaliser (F,).
        std: of the normaliser (F,).
        seed: of the weights, the exploration and the environments.
    """
    common: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": env,
        "learning_rate": LinearSchedule(
            settings.learning_rate, settings.learning_rate * settings.learning_rate_end_share, 1.0
        ),
        "gamma": settings.gamma,
        "batch_size": settings.batch_size,
        "max_grad_norm": settings.max_grad_norm,
        "seed": seed,
        "device": "cpu",
        "policy_kwargs": {
            "net_arch": list(settings.hidden),
            "activation_fn": _ACTIVATIONS[settings.activation],
            "features_extractor_class": FixedNormalizer,
            "features_extractor_kwargs": {"mean": mean, "std": std},
        },
    }
    if isinstance(settings, PpoConfig):
        return PPO(
            n_steps=settings.n_steps,
            n_epochs=settings.n_epochs,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip_range,
            ent_coef=settings.ent_coef,
            vf_coef=settings.vf_coef,
            **common,
        )
    return VectorDQN(
        buffer_size=settings.buffer_size,
        learning_starts=settings.learning_starts,
        train_freq=(1, "step"),
        gradient_steps=settings.updates_per_vector_step,
        target_update_interval=settings.target_update_steps,
        exploration_fraction=settings.exploration_share,
        exploration_final_eps=settings.exploration_final,
        **common,
    )


def rollout_steps(settings: PpoConfig | DqnConfig) -> int:
    """Environment steps between two updates: a run ends at a multiple of it."""
    return settings.num_envs * (settings.n_steps if isinstance(settings, PpoConfig) else 1)


def save_model(model: DQN | PPO, folder: Path) -> None:
    """Write the model with its optimiser and, for DQN, the replay buffer."""
    model.save(folder / MODEL_FILE)
    if isinstance(model, DQN):
        buffer = _buffer(model)
        filled = buffer.buffer_size if buffer.full else buffer.pos
        arrays = {name: getattr(buffer, name)[:filled] for name in _REPLAY_ARRAYS}
        np.savez(folder / REPLAY_FILE, position=buffer.pos, full=buffer.full, **arrays)


def load_checkpoint(algo: str, checkpoint: Checkpoint, env: VecEnv) -> DQN | PPO:
    """Load a model to go on training it on ``env``."""
    model = load_model(algo, checkpoint.model, env)
    if isinstance(model, DQN):
        buffer = _buffer(model)
        with np.load(checkpoint.folder / REPLAY_FILE, allow_pickle=False) as saved:
            for name in _REPLAY_ARRAYS:
                getattr(buffer, name)[: len(saved[name])] = saved[name]
            buffer.pos, buffer.full = int(saved["position"]), bool(saved["full"])
    return model


def load_model(algo: str, file: Path, env: VecEnv | None = None) -> DQN | PPO:
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


def _buffer(model: DQN) -> ReplayBuffer:
    assert model.replay_buffer is not None, "a DQN model always has a replay buffer"
    return model.replay_buffer
