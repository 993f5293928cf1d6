"""Observation normaliser with fixed numbers, carried inside the policy network.

Mean and standard deviation are measured once, before training, and never move: the observation means the
same in the first and the last training step, in the benchmark, in the bundle and on the device.
"""

from __future__ import annotations

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from ..envs.errors import InputError

# assumed: encoded features lie near one, so a spread below 2**-6 of that is noise, not information; dividing
# by less would blow up a feature that hardly moved on the training tapes.
SMALLEST_STD = 2.0**-6


def measure(observations: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return mean and spread (F,) of observations (N, F).

    The spread is the standard deviation rounded to a power of two (so right within a factor of 1.42, which
    is all that a network needs), and at least 2**-6. Division by a power of two is exact in float32, so the
    frozen policy may fold it into its weights without changing a single bit.
    """
    mean = observations.mean(axis=0, dtype=np.float64)
    std = np.maximum(observations.std(axis=0, dtype=np.float64), SMALLEST_STD)
    return mean.astype(np.float32), np.exp2(np.round(np.log2(std))).astype(np.float32)


class FixedNormalizer(BaseFeaturesExtractor):
    """``(observation - mean) / std`` with frozen mean and std, as the features extractor of an SB3 policy.

    Args:
        observation_space: one-dimensional Box of F features.
        mean: (F,) in the units of the encoded observation.
        std: (F,) all above zero, same units.

    Raises:
        InputError: if the numbers do not fit the space or cannot be divided by.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        mean: npt.NDArray[np.float32],
        std: npt.NDArray[np.float32],
    ) -> None:
        """Keep the numbers as buffers: saved with the model, never trained."""
        shape = observation_space.shape
        super().__init__(observation_space, features_dim=int(np.prod(shape)))
        for name, values in (("mean", mean), ("std", std)):
            array = np.asarray(values, dtype=np.float32)
            if array.shape != shape or not np.isfinite(array).all():
                raise InputError(
                    f"normaliser {name}: expected finite numbers {shape}, got shape {array.shape}"
                )
            self.register_buffer(name, torch.from_numpy(array.copy()))
        if not bool((self.std > 0).all()):
            raise InputError("normaliser std: every value must be above 0 (use agents.normalizer.measure)")

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Normalise observations (B, F)."""
        return (observations - self.mean) / self.std
