"""The shield around the policy on the device: what it may choose, what becomes of its choice, when local steps in.

The same guards as in a benchmark (`agents.shield_guards`), and what only a device has: failures, requests that it knows
to be overdue, values that were never measured, and a second try. It never raises, and local is always allowed.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...agents.policy import Policy
from ...agents.shield_guards import GUARDS, LOCAL_INDEX, Guards
from ...agents.shield_settings import ShieldSettings
from ...agents.shield_sight import ShieldSight
from ...envs.absence import always_absent
from ...envs.observation import build_table
from ...envs.schema import Scenario
from ..interfaces import ErrorKind
from ..observer import Doubts
from .breaker import BreakerSettings
from .breakers import Breakers
from .decision import Decision
from .heads import Heads
from .under_way import UnderWay

Fallback = Literal["risk", "always", "never"]

log = logging.getLogger(__name__)


class Shield:
    """Decides where a frame goes; one thread.

    For each frame: `decide`; for each attempt that ended: `record`.

    Args:
        policy: what is asked.
        scenario: the site's.
        settings: of the guards.
        breakers: of the nodes' breakers.
        fallback: when local steps in: "risk", where the placement is under suspicion, misses are scarce or waiting
            costs next to nothing; "always"; or "never".
        doubts: tells what must not be relied on (`Observer.doubts`); None: everything may.
    """

    def __init__(
        self, policy: Policy, scenario: Scenario, settings: ShieldSettings | None = None, *,
        breakers: BreakerSettings | None = None, fallback: Fallback = "risk",
        doubts: Callable[[], Doubts] | None = None,
    ) -> None:  # fmt: skip
        """Everything works, as far as is known."""
        self._policy, self._fallback = policy, fallback
        nothing = Doubts(None, (None,) * len(scenario.placements))
        self._doubts = doubts or (lambda: nothing)
        self._settings = settings or ShieldSettings()
        if doubts is not None:  # the feed itself says how long its values hold
            self._settings = ShieldSettings(**{**vars(self._settings), "feed_limit_h": math.inf})
        self._sight = sight = ShieldSight(scenario)
        self._guards = Guards(sight, self._settings)
        self._slo_ms = scenario.slo.latency_ms
        self._names = [p.name for p in scenario.placements]
        self._breakers = Breakers(scenario, sight.node_of, breakers)
        self._heads = Heads(scenario, build_table(scenario))
        self._under_way = UnderWay(sight)
        self._node_of, self._link_of = sight.node_of, sight.link_of
        self._all = np.ones(len(self._names), dtype=np.bool_)
        self._only_local = np.arange(len(self._names)) == LOCAL_INDEX
        for shared in (self._all, self._only_local):
            shared.flags.writeable = False
        self._remote = range(1, len(self._names))
        gone = always_absent(scenario)
        self._absent = [a for a, p in enumerate(scenario.placements) if p.node in gone]
        self._number = 0
        self.reasons: dict[str, int] = defaultdict(int)  # a Counter is three times as slow
        self.masked: dict[tuple[int, str], int] = defaultdict(int)  # by placement and why it was taken away
        self.last_policy_error = self.last_bad_observation = self.last_error = ""
        policy.reset(1)

    def decide(self, observation: npt.NDArray[np.float32], now_ms: float, waited_ms: float = 0.0) -> Decision:
        """Choose a placement; never raises.

        Args:
            observation: of `Observer.observe` (F,).
            now_ms: since the run began.
            waited_ms: how long the frame has waited already; its deadline is that much nearer.
        """
        try:
            decision = self._decide(observation, now_ms, waited_ms)
        except Exception as error:  # the frame must get its result whatever is wrong here
            if not self.last_error:  # once; the frames' lines count them
                log.exception("The shield itself failed; the frame goes to the device.")
            self.last_error = f"{type(error).__name__}: {error}"
            decision = self._local("shield-error")
        self.reasons[decision.reason] += 1
        node = self._node_of[decision.placement]
        if self._breakers.resting:
            self._breakers.began(decision.placement, now_ms)
        self._under_way.began(node, decision.number, now_ms, decision.upper_ms)
        return decision

    def _decide(self, observation: npt.NDArray[np.float32], now_ms: float, waited_ms: float) -> Decision:
        guards = self._guards
        calm = guards.calm(observation)
        if not calm and not self._sight.sound(observation):
            self.last_bad_observation = self._sight.what_is_wrong(observation)
            return self._local("bad-observation")
        values = observation.tolist()
        guards.look(values, self._under_way.overdue(now_ms), calm)
        doubts = self._doubts()
        if doubts.device is not None:
            return self._local(doubts.device)
        if self._breakers.resting or doubts.any:
            self._forbid(doubts, now_ms)
        for a in self._absent:
            guards.forbid(a, "absent")
        mask = self._mask() if guards.limited else self._all
        wanted, reason = self._ask(observation, mask)
        if wanted is None:
            placement = LOCAL_INDEX
        else:
            placement, reason = guards.judge(wanted)
        if (
            self._breakers.resting
            and placement == LOCAL_INDEX
            and not self._breakers.allows(LOCAL_INDEX, now_ms)
        ):
            placement, reason = self._instead_of_local(placement, reason)
        i, scale = self._sight.latency[placement]
        believed_ms, upper_ms = values[i] * scale, guards.upper_ms(placement)
        local_at_ms = self._local_at_ms(placement, upper_ms, values, self._slo_ms - waited_ms)
        number = self._number
        self._number = number + 1
        return Decision(number, placement, wanted, reason, mask, local_at_ms, believed_ms, upper_ms)

    def _mask(self) -> npt.NDArray[np.bool_]:
        """What may be chosen (P,) where something may not, which is counted."""
        allowed, why = self._guards.allowed, self._guards.why
        for a in self._remote:
            if not allowed[a]:
                self.masked[a, why[a]] += 1
        return np.array(allowed)

    def _local(self, reason: str) -> Decision:
        upper_ms = self._guards.upper_ms(LOCAL_INDEX)
        self._number += 1
        return Decision(self._number - 1, LOCAL_INDEX, None, reason, self._only_local, None, 0.0, upper_ms)

    def _forbid(self, doubts: Doubts, now_ms: float) -> None:
        guards = self._guards
        for a in self._remote:
            if (why := doubts.placements[a]) is not None:
                guards.forbid(a, why)
            elif not self._breakers.allows(a, now_ms):
                guards.forbid(a, "breaker")

    def _ask(
        self, observation: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
    ) -> tuple[int | None, str]:
        """What the policy wants, or why it has no say."""
        try:
            wanted = self._policy.decide(observation, mask)
        except Exception as error:
            self.last_policy_error = f"{type(error).__name__}: {error}"
            return None, "policy-error"
        if type(wanted) is int and 0 <= wanted < len(self._names):
            return wanted, "policy"
        return self._legal(wanted)

    def _legal(self, wanted: Any) -> tuple[int | None, str]:
        if isinstance(wanted, np.integer) and 0 <= wanted < len(self._names):
            return int(wanted), "policy"
        self.last_policy_error = f"answered {wanted!r} where 0 to {len(self._names) - 1} exist"
        return None, "illegal-action"

    def _instead_of_local(self, placement: int, reason: str) -> tuple[int, str]:
        """The device's model fails: the allowed placement of the smallest upper latency, if there is one."""
        guards = self._guards
        others = [a for a in self._remote if guards.allowed[a] and self._sight.node_of[a] != 0]
        if not others:
            return placement, reason
        return min(self._heads.whole_first(others), key=guards.upper_ms), "device-failing"

    def _local_at_ms(
        self, placement: int, upper_ms: float, values: list[float], left_ms: float
    ) -> float | None:
        """When local is to start unless the placement has answered, so that it still meets the deadline; None: never.

        Where that is not sure any more, but likely, local starts at once beside a placement that is suspect: waiting
        for the call's timeout would be a miss for certain.

        Started t ms from now, local ends at max(t, backlog) + upper service time: its backlog drains meanwhile. Of a
        split model the device computes the head before that.
        """
        if placement == LOCAL_INDEX or self._fallback == "never":
            return None
        guards = self._guards
        upper_local_ms = guards.upper_ms(LOCAL_INDEX)
        head_ms = self._heads.head_ms(values, placement)
        if (
            upper_local_ms + head_ms * guards.trackers[LOCAL_INDEX].factor > left_ms
        ):  # too late to be sure of it
            i, scale = self._sight.latency[LOCAL_INDEX]
            return 0.0 if values[i] * scale + head_ms <= left_ms and self._suspect(placement) else None
        i, scale = self._sight.device_backlog
        latest_ms = left_ms - (upper_local_ms - values[i] * scale * guards.trackers[LOCAL_INDEX].factor)
        needed = (
            upper_ms <= latest_ms  # mostly answered by then
            or upper_ms > left_ms  # mostly too late
            or not guards.ample
            or self._fallback == "always"
            or self._suspect(placement)
        )
        return latest_ms if needed else None

    def _suspect(self, placement: int) -> bool:
        """Whether something on the placement's link is overdue, or its node has failed last."""
        return self._under_way.late_ms[self._link_of[placement]] > 0.0 or self._breakers.failing(placement)

    def record(
        self, placement: int, latency_ms: float | None, error: ErrorKind | None, now_ms: float,
        decision: Decision | None = None, at_head: bool = False,
    ) -> None:  # fmt: skip
        """An attempt has ended; never raises.

        Args:
            placement: where it was.
            latency_ms: what it took; None if it gave no answer.
            error: why it failed; None if it was answered. "cancelled" says nothing about the node.
            now_ms: now.
            decision: whose attempt it was; None for a fallback on the device. In shadow mode the attempt is on the
                device, whatever was decided. Every decision must be recorded once, or its request counts as overdue.
            at_head: it was a split model's and ended on the device; the node was not asked.
        """
        node_of = self._sight.node_of
        self._breakers.ended(placement, error, now_ms, at_head)
        if decision is None:
            return
        began_ms = self._under_way.ended(node_of[decision.placement], decision.number)
        if began_ms is None or placement != decision.placement or decision.believed_ms <= 0.0:
            return
        if error is None and latency_ms is not None:
            self._guards.answer(placement, latency_ms, decision.believed_ms)
        elif error != "cancelled" or now_ms - began_ms > decision.upper_ms:
            self._guards.answer(placement, math.inf, decision.believed_ms)

    def troubles(self) -> dict[str, tuple[int, str]]:
        """Reasons that mean a fault of policy, observation or shield: how many decisions so far, and the newest one."""
        said = {
            "bad-observation": self.last_bad_observation,
            "policy-error": self.last_policy_error,
            "illegal-action": self.last_policy_error,
            "shield-error": self.last_error,
        }
        counts = {reason: self.reasons.get(reason, 0) for reason in said}
        return {reason: (counts[reason], text) for reason, text in said.items() if counts[reason]}

    def states(self, now_ms: float) -> dict[str, Any]:
        """For the status page and the log: breakers by node, tracked quantiles by placement, reasons so far."""
        guards = self._guards
        return {
            "breakers": self._breakers.states(now_ms),
            "placements": {
                name: {
                    "allowed": guards.allowed[a],
                    "why": None if guards.allowed[a] else guards.why[a],
                    "upper_ms": guards.upper_ms(a),
                    "upper_over_believed": guards.trackers[a].factor,
                    "answers": guards.trackers[a].count,
                    "above": guards.trackers[a].above,
                }
                for a, name in enumerate(self._names)
            },
            "misses_left": guards.misses_left(),
            "reasons": dict(self.reasons),
            "policy_error": self.last_policy_error or None,
        }


__all__ = ["GUARDS", "Decision", "Fallback", "Shield"]
