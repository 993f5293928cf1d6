"""What a rule remembers of its own requests: how far answers were from what was believed when they were sent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .predictive_view import Floats, PlacementView, View

# A residual is cut to this share of the SLO on either side: one stall of seconds must not drown what follows.
LEAST_RESIDUAL, MOST_RESIDUAL = -1.0 / 3.0, 1.0


class AnswerMemory:
    """Residuals (answered minus believed latency, ms) per node and per link, and overdue requests.

    The device notes what it believed when it sent a request. Telemetry shows the last answer of each node and the
    age of its unanswered request; both belong to the first request that was sent
    there since the last answer, so no matching is needed.

    Attributes:
        node_residual_ms: last residual of each placement's node (P, B); zero before the first answer.
        link_residual_ms: exponentially smoothed residuals of all answers over each link (L, B).
        link_last_ms, link_age_s: residual of the newest answer over each link, and its age (L, B).
        overdue_ms: by how much the most overdue unanswered request on each link is late (L, B).
    """

    def __init__(self, view: PlacementView, slo_ms: float) -> None:
        """Work out which placements share a node and which a link."""
        self._same_node = _same(view.nodes)
        self._remote = view.remote
        self._on_link = [view.remote[:, 0] & (view.link_of == link) for link in range(view.links)]
        self._low_ms, self._high_ms = np.float32(LEAST_RESIDUAL * slo_ms), np.float32(MOST_RESIDUAL * slo_ms)
        self.start(0)

    def start(self, batch: int) -> None:
        """Forget everything for ``batch`` fresh episodes."""
        count, links = len(self._same_node), max(1, len(self._on_link))
        self._believed_ms = np.zeros((count, batch), np.float32)
        self._pending = np.zeros((count, batch), bool)
        self.node_residual_ms = np.zeros((count, batch), np.float32)
        self.link_residual_ms, self.link_last_ms, self.link_age_s, self.overdue_ms = (
            np.zeros((links, batch), np.float32) for _ in range(4)
        )

    def learn(self, view: View, weight: Floats) -> None:
        """Take in what was answered since the last decision.

        Args:
            view: the waiting requests.
            weight: of an answer in the link's smoothed residual, a number or (B,).
        """
        answered = self._pending & (view.outstanding_ms <= 0)
        residual = np.clip(view.last_latency_ms - self._believed_ms, self._low_ms, self._high_ms)
        np.copyto(self.node_residual_ms, residual, where=answered)
        self._pending &= ~answered
        late = np.where(self._pending, np.maximum(view.outstanding_ms - self._believed_ms, 0), np.float32(0))
        for link, rows in enumerate(self._on_link):
            self._learn_link(link, answered[rows], residual[rows], weight)
            self.overdue_ms[link] = late[rows].max(axis=0)
            age_s = view.last_answer_age_s[rows]
            newest = age_s.argmin(axis=0)[None]
            self.link_age_s[link] = np.take_along_axis(age_s, newest, axis=0)[0]
            self.link_last_ms[link] = np.take_along_axis(self.node_residual_ms[rows], newest, axis=0)[0]

    def _learn_link(
        self, link: int, answered: npt.NDArray[np.bool_], residual_ms: Floats, weight: Floats
    ) -> None:
        """Smooth the residuals of a link. Placements on one node see the same answer, so their mean counts."""
        count = answered.sum(axis=0)
        mean_ms = np.where(answered, residual_ms, 0).sum(axis=0) / np.maximum(count, 1)
        smoothed = self.link_residual_ms[link]
        smoothed += np.where(count > 0, weight * (mean_ms - smoothed), 0)

    def note(self, choice: npt.NDArray[np.int64], believed_ms: Floats) -> None:
        """Remember what was believed of the chosen placements (B,); ``believed_ms`` is (P, B)."""
        sent = (
            self._same_node[choice].T & self._remote & ~self._pending
        )  # an older one is followed to its end
        episodes = np.arange(len(choice))
        np.copyto(self._believed_ms, believed_ms[choice, episodes], where=sent)
        self._pending |= sent


def _same(nodes: list[str | None]) -> npt.NDArray[np.bool_]:
    """Whether two placements stand on the same node (P, P)."""
    return np.array([[a is not None and a == b for b in nodes] for a in nodes])
