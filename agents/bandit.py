"""A contextual bandit that learns, inside each episode, which remote placements miss the SLO.

LinUCB (Li, Chu, Langford, Schapire 2010, "A contextual-bandit approach to personalized news article
recommendation", Algorithm 1) with one linear model for all remote placements: what one server's answers tell of
the link holds for the others. It is kept as a Gaussian posterior with a random walk, so that old answers fade
(Kalman filter); its prior is the belief of the observation. It learns only from what the device sees: answers of its
own requests, and requests that are overdue. The observation shows no answers of the device itself, so the local
placement keeps its prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from .baselines import BatchRule, Choice, Mask, Observation
from .predictive_view import PlacementView, View
from .tunable import Tunable

F32 = npt.NDArray[np.float32]
NOISE_VARIANCE = np.float32(0.1)  # of a miss about its probability: p (1 - p) at p = 0.11
CONTEXTS = 5  # numbers that describe a placement, before the marks of the nodes


class Bandit(BatchRule):
    """LinUCB on the risk of a miss; chooses the least of believed carbon plus price times optimistic risk."""

    name = "bandit"
    TUNABLES = (
        Tunable(
            "exploration", 0, 3, 0.3, meaning="deviations by which the risk is taken as lower than estimated"
        ),
        Tunable("prior_deviation", 0.01, 2, 0.2, log=True, meaning="of each weight before the first answer"),
        Tunable(
            "drift_per_request", 1e-6, 0.03, 1e-3, log=True, meaning="standard deviation of a weight's walk"
        ),
        Tunable(
            "miss_price_locals", 0.1, 100, 3, log=True, meaning="price of a miss in local requests' carbon"
        ),
        Tunable("budget_gain", 0, 10, 3, meaning="the price is multiplied by exp(gain x (spent - progress))"),
        Tunable(
            "margin_ms", -20, 80, 20, meaning="safety margin of the believed latency of a remote placement"
        ),
        Tunable("spread_ms", 3, 60, 20, log=True, meaning="scale of the logistic error of that latency"),
        Tunable("local_margin_ms", -10, 50, 15, meaning="safety margin of the device"),
        Tunable("local_spread_ms", 2, 40, 8, log=True, meaning="scale of the logistic error of the device"),
    )

    def __init__(self, scenario: Scenario, parameters: Mapping[str, Any] | None = None) -> None:
        """Set the parameters; each a number, or one for each episode (B,). See `TUNABLES` for names and units."""
        values = {t.name: t.default for t in self.TUNABLES} | dict(parameters or {})
        self._p = {name: np.asarray(value, np.float32) for name, value in values.items()}
        self._view = PlacementView(scenario)
        self._slo_ms = np.float32(scenario.slo.latency_ms)
        self._remote = self._view.remote[:, 0]
        names = list(dict.fromkeys(node for node in self._view.nodes if node is not None))
        self._marks = np.array([[node == name for name in names] for node in self._view.nodes], np.float32)
        self._first = [self._view.nodes.index(name) for name in names]  # a placement of each node
        size, nodes = CONTEXTS + self._marks.shape[1], self._marks.shape[1]
        self._weights = np.zeros((size, 0), np.float32)
        self._covariance = np.zeros((size, size, 0), np.float32)
        self._sent = np.zeros((nodes, size, 0), np.float32)
        self._pending = np.zeros((nodes, 0), bool)

    def reset(self, batch: int) -> None:
        """Start ``batch`` episodes that know nothing but the prior."""
        nodes, size, _ = self._sent.shape
        self._weights = np.zeros((size, batch), np.float32)
        self._weights[0] = 1.0  # the prior: the believed risk is the risk
        variance = np.broadcast_to(self._p["prior_deviation"] ** 2, (batch,)).astype(np.float32)
        self._covariance = np.eye(size, dtype=np.float32)[..., None] * variance
        self._sent = np.zeros((nodes, size, batch), np.float32)
        self._pending = np.zeros((nodes, batch), bool)

    def choose(self, observation: Observation, allowed: Mask) -> Choice:
        """Learn from what was answered, then return the cheapest placement by optimistic risk (B,)."""
        view = self._view.of(observation)
        self._learn(view)
        believed = self._believed_risk(view)
        context = self._contexts(view, believed)
        risk = np.where(self._remote[:, None], self._optimistic_risk(context), believed)
        pace = np.exp(self._p["budget_gain"] * (view.slo_budget_spent - view.progress))
        price_mg = self._p["miss_price_locals"] * view.carbon_mg[0] * pace
        score = view.carbon_mg + price_mg * risk
        choice = np.where(allowed.T, score, np.inf).argmin(axis=0)
        self._note(choice, context)
        return choice

    def _believed_risk(self, view: View) -> F32:
        """Logistic risk of the believed latencies (P, B)."""
        p, remote = self._p, self._remote[:, None]
        margin = np.where(remote, p["margin_ms"], p["local_margin_ms"])
        spread = np.where(remote, p["spread_ms"], p["local_spread_ms"])
        room = (self._slo_ms - view.latency_ms - margin) / spread
        return 1.0 / (1.0 + np.exp(np.clip(room, -60, 60)))

    def _contexts(self, view: View, risk: F32) -> F32:
        """Contexts (D, P, B): believed risk, one, latency, unsteadiness, load, and the mark of the node."""
        context = np.empty((CONTEXTS + self._marks.shape[1], *risk.shape), np.float32)
        context[0], context[1] = risk, 1.0
        context[2] = np.clip(view.latency_ms / self._slo_ms - 1.0, -1, 1)
        unsteady = np.minimum(view.rtt_deviation_ms / (view.rtt_ms + 1.0), 1)
        context[3] = unsteady[self._view.link_of]
        context[4] = view.load
        context[CONTEXTS:] = self._marks.T[:, :, None]
        return context

    def _optimistic_risk(self, context: F32) -> F32:
        """Lower confidence bound of the risk (P, B), LinUCB's equation (4) with costs for rewards."""
        mean = np.einsum("dpb,db->pb", context, self._weights)
        direction = np.einsum("deb,epb->dpb", self._covariance, context)
        variance = np.maximum(np.einsum("dpb,dpb->pb", direction, context), 0)
        return np.clip(mean - self._p["exploration"] * np.sqrt(variance), 0, 1)

    def _learn(self, view: View) -> None:
        """One Kalman step for each node whose last request has met its fate since the last decision."""
        diagonal = np.arange(len(self._weights))
        self._covariance[diagonal, diagonal] += self._p["drift_per_request"] ** 2
        for k, placement in enumerate(self._first):
            waiting = view.outstanding_ms[placement]
            late = waiting > self._slo_ms
            known = self._pending[k] & ((waiting <= 0) | late)
            if known.any():
                missed = late | ((waiting <= 0) & (view.last_latency_ms[placement] > self._slo_ms))
                self._update(self._sent[k], missed.astype(np.float32), known)
                self._pending[k] &= ~known

    def _update(self, x: F32, missed: F32, known: npt.NDArray[np.bool_]) -> None:
        """Condition the posterior on ``missed`` (B,) at contexts ``x`` (D, B) where ``known`` (B,)."""
        direction = np.einsum("deb,eb->db", self._covariance, x)
        gain = direction * (known / ((x * direction).sum(axis=0) + NOISE_VARIANCE))
        self._weights += gain * (missed - (x * self._weights).sum(axis=0))
        self._covariance -= gain[:, None] * direction[None]

    def _note(self, choice: Choice, context: F32) -> None:
        """Remember the contexts of what is sent now."""
        sent = self._marks[choice].T.astype(bool)
        chosen = np.take_along_axis(context, choice[None, None], axis=1)
        np.copyto(self._sent, chosen[:, 0], where=sent[:, None])
        self._pending |= sent
