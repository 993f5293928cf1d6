"""The dynamic state of a batch of episodes: everything that past placements have left behind."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .constants import Constants
from .records import COMPUTING, COMPUTING_SLOTS, EPISODE, LINK, LONG_AGO_MS, NODE
from .schema import RewardWeights
from .site import Site
from .tape import Tape


class State:
    """Records by episode (B,), link (B, L), node (B, K), server (B, Q), misses by request (N + 1, B), world (B, R).

    Then the believed latency of each placement, as shown with the waiting request (B, P), and the newest requests on
    the device (B, ring).
    """

    def __init__(self, site: Site, constants: Constants, tape: Tape, worn: State | None = None) -> None:
        """Start with empty queues, a cool device and fresh connections.

        Args:
            site, constants, tape: what the episodes run on.
            worn: a state of the same shape that is needed no more; its largest arrays are used again.
        """
        batch, requests = tape.words.shape[-1], site.scenario.episode.requests
        self.episodes = np.zeros(batch, EPISODE).view(np.recarray)
        self.episodes.tail_until_ms = LONG_AGO_MS
        self.episodes.ambient, self.episodes.service_ratio = tape.ambient, 1.0
        self.episodes.service_factor = 1.0 if tape.service_factor is None else tape.service_factor
        self._set_weights(site.scenario.reward, tape)
        self.links = np.zeros((batch, max(1, len(site.link_names))), LINK).view(np.recarray)
        self.links.sent_at_ms = LONG_AGO_MS
        self.nodes = np.zeros((batch, len(site.node_names)), NODE).view(np.recarray)
        self.nodes.done_ms = self.nodes.answered_ms = LONG_AGO_MS
        self.nodes.phase_ms = tape.phase_ms.T
        for p in constants.placements:
            self.nodes.connection[:, p.node], self.nodes.link[:, p.node] = p.initial_state, p.link
        self.servers = np.zeros((batch, constants.server_count))
        # By request first: episodes run abreast, so a step then touches few pages. Written before they are read.
        self.known_at = np.empty((requests + 1, batch)) if worn is None else worn.known_at
        self.miss = np.empty((requests + 1, batch), dtype=np.int8) if worn is None else worn.miss
        # The tape's rows of each episode's present second.
        self.episodes.row = -1
        self.world = np.zeros((batch, site.rows.count), dtype=np.float32)
        self.expected = np.zeros((batch, len(constants.placements)), dtype=np.float32)
        self.computing = np.zeros((batch, COMPUTING_SLOTS), COMPUTING).view(np.recarray)
        self.arrays = (
            self.episodes,
            self.links,
            self.nodes,
            self.servers,
            self.known_at,
            self.miss,
            self.world,
            self.expected,
            self.computing,
        )

    def _set_weights(self, reward: RewardWeights, tape: Tape) -> None:
        """Weights of the reward's terms: the scenario's, or the episode's own where the tape moves the dial."""
        e, by_episode = self.episodes, tape.weights
        if by_episode is None:
            e.weight_carbon, e.weight_miss = reward.carbon_per_mg, reward.slo_miss
            e.weight_excess, e.weight_accuracy = reward.latency_excess_per_s, reward.accuracy_per_miou
        else:
            e.weight_carbon, e.weight_miss, e.weight_excess, e.weight_accuracy = by_episode

    def copy_episodes(
        self,
        source: State,
        episodes: npt.NDArray[np.intp],
        sources: npt.NDArray[np.intp] | slice = slice(None),
    ) -> None:
        """Overwrite some episodes with those of another state of the same site; ``sources`` are their numbers there."""
        for mine, theirs in zip(self.arrays, source.arrays, strict=True):
            by_request = mine is self.known_at or mine is self.miss
            here, there = ((slice(None), e) if by_request else e for e in (episodes, sources))
            mine[here] = theirs[there]
