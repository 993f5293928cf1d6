"""A policy under the shield: the guards that need the observation only, for benchmarks as on the device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from .policy import Policy
from .shield_guards import LOCAL_INDEX, Guards
from .shield_settings import ShieldSettings
from .shield_sight import ShieldSight

SHIELDED_END = "-shielded"


class ShieldedPolicy:
    """Any policy, with its choices looked over; implements the `Policy` protocol, one request or a batch.

    What the policy raises is passed on: a benchmark must show a broken policy (the device's shield hides it).

    Attributes:
        name: the policy's, with "-shielded".
        policy: what is asked.
        reasons: how often each guard decided, over all decisions.
    """

    def __init__(self, policy: Policy, scenario: Scenario, settings: ShieldSettings | None = None) -> None:
        """Put a policy under the shield of a site."""
        self.policy, self.name = policy, policy.name + SHIELDED_END
        self.reasons: Counter[str] = Counter()
        self._sight, self._settings = ShieldSight(scenario), settings or ShieldSettings()
        self._streams: list[_Stream] = []
        if getattr(policy, "needs_simulator", False):
            self.needs_simulator = True

    def bind(self, simulator: Any) -> None:
        """Hand the simulator to a policy that needs it."""
        self.policy.bind(simulator)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        """What reports want to know of the policy (``tuned``, say) is the policy's."""
        if name in ("policy", "__setstate__"):
            raise AttributeError(name)
        return getattr(self.policy, name)

    @property
    def note(self) -> str:
        """For the report: how often the shield decided."""
        total = sum(self.reasons.values())
        changed = total - self.reasons["policy"]
        said = f"shield overruled {100 * changed / total:.1f} % of decisions" if total else ""
        return ". ".join(filter(None, (getattr(self.policy, "note", ""), said)))

    def reset(self, batch: int) -> None:
        """Start ``batch`` fresh episodes."""
        self.policy.reset(batch)
        self._streams = [_Stream(self._sight, self._settings) for _ in range(batch)]

    def decide(
        self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64] | int:
        """Choose placements; see `Policy.decide`."""
        rows, masks = np.atleast_2d(observation), np.atleast_2d(mask)
        if not self._streams:
            self.reset(len(rows))
        sound = self._sight.sound_rows(rows)
        allowed = np.array(
            [
                stream.look(row, whole, may)
                for stream, row, whole, may in zip(
                    self._streams, rows.tolist(), sound.tolist(), masks.tolist(), strict=True
                )
            ]
        )
        if not sound.all():  # the policy is asked about the other rows only
            rows = np.where(sound[:, None], rows, np.float32(0))
        single = observation.ndim == 1
        wanted = self.policy.decide(rows[0], allowed[0]) if single else self.policy.decide(rows, allowed)
        chosen = [
            stream.judge(int(a)) for stream, a in zip(self._streams, np.atleast_1d(wanted), strict=True)
        ]
        self.reasons.update(reason for _, reason in chosen)
        return chosen[0][0] if single else np.array([a for a, _ in chosen], dtype=np.int64)


class _Stream:
    """One episode: its guards, and what they can learn of answers from observations alone."""

    def __init__(self, sight: ShieldSight, settings: ShieldSettings) -> None:
        self._sight, self._guards = sight, Guards(sight, settings)
        nodes = len(sight.outstanding)
        # Of the newest request at each node: placement (-1 once it was answered), belief and upper latency.
        self._asked = [-1] * nodes
        self._believed_ms, self._upper_ms = [0.0] * nodes, [0.0] * nodes
        self._values: list[float] = []
        self._sound = True

    def look(self, values: list[float], sound: bool, mask: list[bool]) -> list[bool]:
        """Take in an observation; returns what is allowed (P,)."""
        guards, self._sound = self._guards, sound
        if not sound:
            return [a == LOCAL_INDEX for a in range(len(mask))]
        self._values = values
        guards.look(values, self._learn(values))
        for a, may in enumerate(mask):
            if not may:
                guards.forbid(a, "masked")
        return guards.allowed

    def judge(self, wanted: int) -> tuple[int, str]:
        """The placement, and the reason."""
        if not self._sound:
            return LOCAL_INDEX, "bad-observation"
        placement, reason = self._guards.judge(wanted)
        if (node := self._sight.node_of[placement]) > 0:
            self._asked[node - 1] = placement
            self._believed_ms[node - 1] = self._sight.believed_ms(self._values, placement)
            self._upper_ms[node - 1] = self._guards.upper_ms[placement]
        return placement, reason

    def _learn(self, values: list[float]) -> list[float]:
        """Take in what was answered; returns how overdue the links' unanswered requests are (L,), ms."""
        s = self._sight
        late_ms = [0.0] * len(s.probe_age)
        for k, placement in enumerate(self._asked):
            if placement < 0:
                continue
            i, scale = s.outstanding[k]
            waiting_ms = values[i] * scale
            if waiting_ms <= 0.0:
                i, scale = s.last_latency[k]
                self._guards.answer(placement, values[i] * scale, self._believed_ms[k])
                self._asked[k] = -1
            else:
                link = s.link_of_node[k]
                late_ms[link] = max(late_ms[link], waiting_ms - self._upper_ms[k])
        return late_ms
