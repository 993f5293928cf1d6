"""The frozen risk head and its price as the features extractor of a stable-baselines3 policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from .bundle_arrays import Arrays
from .risk_terms import Terms, clipped, read_record, relative, scores_mg


class RiskExtractor(BaseFeaturesExtractor):
    """Observation to [normalised observation (F), clipped logits (P), relative scores (P)]; nothing of it is trained.

    A mirror in torch of `risk.head.RiskHead`, `risk.price.Price` and `risk_terms`.

    Attributes:
        record: the price.
        placements: P.
    """

    mean: torch.Tensor
    std: torch.Tensor
    terms_matrix: torch.Tensor
    terms_constant: torch.Tensor

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        head: Mapping[str, npt.NDArray[np.float32]],
        price: Mapping[str, Any],
        features: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep head and price as buffers: saved with the model, never trained.

        Args:
            observation_space: one-dimensional Box of F features.
            head: arrays as in ``risk.npz``.
            price: as `risk_terms.PriceRecord.as_json`.
            features: rows of the observation table, with ``name`` and ``scale``.
        """
        self.record = read_record(dict(price))
        self.placements = len(self.record.placements)
        super().__init__(observation_space, features_dim=len(features) + 2 * self.placements)
        terms = Terms(self.record, features)
        constants = {"mean": head["mean"], "std": head["std"]}
        constants |= {"terms_matrix": terms.matrix, "terms_constant": terms.constant}
        self._depth = sum(name.startswith("weight_") for name in head)
        for i in range(self._depth):
            constants |= {f"{kind}_{i}": head[f"{kind}_{i}"] for kind in ("weight", "bias")}
        for name, array in constants.items():
            self.register_buffer(name, torch.tensor(np.asarray(array, dtype=np.float32)))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Features (B, F + 2 P) of observations (B, F)."""
        with torch.no_grad():
            normalised = self._normalised(observations)
            logits = self._logits(normalised)
            scores = relative(torch, self._terms(observations), logits, self.record)
            shown = clipped(torch, logits, self.record) / self.record.numbers["logit_scale"]
            return torch.cat([normalised, shown, scores], dim=1)

    def head_arrays(self) -> Arrays:
        """The head's arrays, as in ``risk.npz``."""
        names = ["mean", "std", *(f"{k}_{i}" for i in range(self._depth) for k in ("weight", "bias"))]
        return {name: self.get_buffer(name).cpu().numpy().copy() for name in names}

    @torch.no_grad()
    def logits(self, observations: torch.Tensor) -> torch.Tensor:
        """Logits of a miss (B, P), as `RiskHead.logits`."""
        return self._logits(self._normalised(observations))

    @torch.no_grad()
    def scores_mg(self, observations: torch.Tensor) -> torch.Tensor:
        """Scores (B, P), as `Price.scores`: mg, or logits where few misses are left."""
        return scores_mg(torch, self._terms(observations), self.logits(observations), self.record)[0]

    def _normalised(self, observations: torch.Tensor) -> torch.Tensor:
        return (observations - self.mean) / self.std

    def _logits(self, normalised: torch.Tensor) -> torch.Tensor:
        values = normalised
        for i in range(self._depth):
            values = torch.addmm(self.get_buffer(f"bias_{i}"), values, self.get_buffer(f"weight_{i}"))
            values = torch.relu(values) if i < self._depth - 1 else values
        return values

    def _terms(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.terms_constant, observations, self.terms_matrix)
