"""A policy under the shield: the guards that need the observation only, for benchmarks as on the device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.schema import Scenario
from .policy import Policy
from .shield_settings import ShieldSettings
from .shield_sight import ShieldSight
from .shield_stream import Stream

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
        self._streams: list[Stream] = []
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
        self._streams = [Stream(self._sight, self._settings) for _ in range(batch)]

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
