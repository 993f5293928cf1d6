"""What a trained network remembers between two decisions of an episode: nothing, earlier observations, or an LSTM."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm

from .sb3_weights import sb3_outputs

F32 = npt.NDArray[np.float32]


class Memory(Protocol):
    """Turns the observations of a batch into scores of the placements."""

    def reset(self, batch: int) -> None:
        """Forget everything: ``batch`` fresh episodes begin."""
        ...

    def scores(self, observation: F32) -> F32:
        """Logits or Q values (B, P) for the waiting requests' observations (B, F)."""
        ...


class FeedForward:
    """A feed-forward network on the newest observations, oldest first; before an episode's start there are zeros.

    How many it sees follows from the width of its input; mostly it is the present one alone.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        """Take the model."""
        self._model: Any = model
        self._width = int(model.observation_space.shape[0])  # pyright: ignore[reportOptionalSubscript]
        self._seen: F32 | None = None

    def reset(self, batch: int) -> None:
        """See `Memory.reset`."""
        self._seen = None

    def scores(self, observation: F32) -> F32:
        """See `Memory.scores`."""
        batch, features = observation.shape
        if features == self._width:
            return sb3_outputs(self._model, observation)
        if self._seen is None or len(self._seen) != batch:
            self._seen = np.zeros((batch, self._width), np.float32)
        self._seen = np.concatenate([self._seen[:, features:], observation], axis=1)
        return sb3_outputs(self._model, self._seen)


class Recurrent:
    """A network with an LSTM."""

    def __init__(self, model: RecurrentPPO) -> None:
        """Take the model."""
        self._policy: Any = model.policy
        self._states: Any = None

    def reset(self, batch: int) -> None:
        """See `Memory.reset`."""
        self._states = None

    def scores(self, observation: F32) -> F32:
        """See `Memory.scores`."""
        batch = len(observation)
        self._policy.set_training_mode(False)
        with torch.no_grad():
            if self._states is None or self._states[0].shape[1] != batch:
                shape = (
                    self._policy.lstm_hidden_state_shape[0],
                    batch,
                    self._policy.lstm_hidden_state_shape[2],
                )
                self._states = (torch.zeros(shape), torch.zeros(shape))
            going_on = torch.zeros(batch)  # no episode starts here: `reset` did that
            distribution, self._states = self._policy.get_distribution(
                torch.as_tensor(observation), self._states, going_on
            )
            return distribution.distribution.logits.cpu().numpy()


def memory_of(model: BaseAlgorithm) -> Memory:
    """The memory that a model of ours needs."""
    return Recurrent(model) if isinstance(model, RecurrentPPO) else FeedForward(model)
