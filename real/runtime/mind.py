"""Observer, policy and shield, as the engine asks them; and what the frames' own transfers tell of the link."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ...envs.absence import always_absent
from ...envs.schema import LOCAL, Scenario
from ...envs.units import BYTES_PER_KB
from ..clock import Clock
from ..log_records import Mode
from ..observer import Attempt, Observer
from ..probes.watch import TransferWatch, Watched
from ..shield.heads import Heads
from ..shield.shield import Decision, Shield
from .calls import Call
from .payloads import Payloads
from .story import Judgement, Story

# The fallback starts earlier by this, for our own work around the call on a busy device; the shield counts the
# calibrated times only. Assumed.
OWN_WORK_MS = 5.0


class RuntimeMind:
    """Decides and learns; see `engine.Mind`.

    Args:
        scenario: the site's.
        observer, shield: of the site; the shield asks the policy.
        transfers: watches what is sent to the nodes.
        note_own: is told where a server has answered us.
        clock, began_s: time, and when the run began.
        mode: in shadow mode no decision for a server is carried out.
    """

    def __init__(
        self,
        scenario: Scenario,
        observer: Observer,
        shield: Shield,
        transfers: TransferWatch,
        note_own: Callable[[str], None],
        clock: Clock,
        began_s: float,
        mode: Mode,
    ) -> None:
        self._shadow = mode == "shadow"
        self._scenario, self._observer, self._shield = scenario, observer, shield
        self._transfers, self._note_own = transfers, note_own
        self._clock, self._began_s = clock, began_s
        self._names = [p.name for p in scenario.placements]
        self._number = {name: a for a, name in enumerate(self._names)}
        self._remote = [a for a, p in enumerate(scenario.placements) if p.node != LOCAL]
        gone = (LOCAL, *always_absent(scenario))
        self._there = [p.name for p in scenario.placements if p.node not in gone]
        index = observer.table.index
        self._latency = [index[f"{name}_latency_ms"] for name in self._names]
        self._payloads, self._heads = Payloads(scenario), Heads(scenario, observer.table)
        self._frame_of: dict[int, int] = {}  # number of the story -> the observer's
        self._decision: dict[int, Decision] = {}  # number of the story -> until its own call has ended
        self._attempt: dict[Call, Attempt] = {}
        self._watched: dict[Call, Watched] = {}
        self._node = {p.name: p.node for p in scenario.placements}
        self._breakers: dict[str, str] = {}
        self._masked: dict[tuple[str, str], int] = {}
        self._told: dict[str, int] = {}  # decisions with a trouble that have been told of, by reason

    def judge(self, story: Story) -> Judgement:
        """Observe, ask the policy, guard its choice."""
        payload_kb = self._payloads.largest_kb(story.payload_bytes)
        began_ns = time.perf_counter_ns()
        now_ms = self._now_ms()
        if self._watched:
            self._tell_what_left()
        issued_ms = (story.issued_s - self._began_s) * 1000
        observation = self._observer.observe(now_ms, payload_kb, issued_ms)
        self._frame_of[story.number] = self._observer.frame
        decision = self._shield.decide(observation, now_ms, max(now_ms - issued_ms, 0.0))
        decision_us = (time.perf_counter_ns() - began_ns) / 1000
        if self._shadow and decision.placement != 0:
            # It will not be carried out, which says nothing about the node.
            self._shield.record(decision.placement, None, "cancelled", now_ms, decision)
        else:
            self._decision[story.number] = decision
        at_ms = decision.fallback_at_ms
        return Judgement(
            observation=observation,
            mask=tuple(map(int, decision.mask.tolist())),
            wanted=None if decision.wanted is None else self._names[decision.wanted],
            placement=self._names[decision.placement],
            reason=decision.reason,
            decision_us=decision_us,
            fallback_at_s=None if at_ms is None else self._began_s + (now_ms + at_ms - OWN_WORK_MS) / 1000,
        )

    def backup(self, judgement: Judgement) -> str | None:
        """The allowed server with the least believed latency; heads only as the last resort."""
        if judgement.observation is None:
            return None
        allowed = self._heads.whole_first([a for a in self._remote if judgement.mask[a]])
        best = min(allowed, key=lambda a: judgement.observation[self._latency[a]], default=None)  # type: ignore[index]
        return None if best is None else self._names[best]

    def placed(self, story: Story, call: Call) -> None:
        """A call begins."""
        kb = call.payload_bytes / BYTES_PER_KB
        self._attempt[call] = self._observer.placed(self._now_ms(), self._number[call.placement], kb)
        if self._node[call.placement] != LOCAL and not call.split:
            self.sending(story, call)

    def headed(self, story: Story, call: Call) -> None:
        """The device is free again."""
        attempt = self._attempt.get(call)
        if attempt is not None and call.head is not None:
            self._observer.headed(attempt, self._now_ms(), call.head.head_ms)

    def sending(self, story: Story, call: Call) -> None:
        """Bytes leave: their time tells of the link."""
        if (watched := self._transfers.begin(self._node[call.placement], call.payload_bytes)) is not None:
            self._watched[call] = watched

    def rest_ms(self, story: Story, call: Call) -> float:
        """Of what was believed at the decision, the part after the head; 0 where nothing was believed."""
        judged = story.judgement
        if judged is None or judged.observation is None:
            return 0.0
        return self._heads.rest_ms(judged.observation.tolist(), self._number[call.placement])

    def beaten(self, story: Story, call: Call) -> None:
        """The shield knows by itself that an answer is overdue."""

    def ended(self, story: Story, call: Call) -> None:
        """A call has ended: the observer sees its latency, the shield its failure."""
        now_ms = self._now_ms()
        attempt = self._attempt.pop(call, None)
        watched = self._watched.pop(call, None)
        if watched is not None:
            watched.call_over()
        sending_ms = _sending_ms(watched)
        if attempt is not None:
            self._tell_end(attempt, call, now_ms, sending_ms)
        decision = self._decision.get(story.number)
        own = decision is not None and decision.placement == self._number.get(call.placement)
        if own:
            self._decision.pop(story.number)
        if call.placement in self._number:
            error = call.error
            ended_s = self._clock.monotonic_s() if call.ended_s is None else call.ended_s
            lasted_ms = (ended_s - call.started_s) * 1000
            if (
                error == "cancelled"
                and call.beaten
                and call.away_s is not None
                and story.fallback == "deadline"
            ):
                error = "timeout"  # it made way for another frame, but the device had already answered in its place
            latency_ms = lasted_ms if error is None else None
            self._shield.record(
                self._number[call.placement], latency_ms, error, now_ms, decision if own else None,
                at_head=call.at_head,
            )  # fmt: skip
        if call.answer is not None and self._node.get(call.placement, LOCAL) != LOCAL:
            self._note_own(call.placement)

    def _tell_end(self, attempt: Attempt, call: Call, now_ms: float, sending_ms: float | None) -> None:
        if call.at_head:
            self._observer.withdrawn(attempt, now_ms)
            return
        latency_ms = None
        if call.error is not None and call.error != "cancelled":  # as bad as a miss, however soon it failed
            latency_ms = max(now_ms - attempt.placed_ms, self._scenario.slo.latency_ms)
        self._observer.answered(attempt, now_ms, latency_ms, _computing_ms(call), sending_ms)

    def answered(self, story: Story) -> None:
        """The budget of misses."""
        now_ms, latency_ms = self._now_ms(), story.latency_ms
        missed = latency_ms is None or latency_ms > self._scenario.slo.latency_ms
        frame = self._frame_of.pop(story.number, None)
        if frame is None:
            self._observer.skipped(now_ms, missed)
        else:
            self._observer.finished(frame, now_ms, missed)

    def breakers(self) -> dict[str, str]:
        """State of each node's breaker; from any thread."""
        with contextlib.suppress(RuntimeError):  # the thread of the frames changed a count just now
            states = self._shield.states(self._now_ms())["breakers"]
            self._breakers = {name: state["state"] for name, state in states.items()}
        return self._breakers

    def placements(self) -> dict[str, str]:
        """Whether each server's placement was allowed at the last decision, or why not; from any thread.

        Those of absent nodes are left out: they never are.
        """
        placements = self._shield.states(self._now_ms())["placements"]
        return {name: placements[name]["why"] or "allowed" for name in self._there}

    def masked(self) -> dict[tuple[str, str], int]:
        """Decisions in which a placement was taken away, by placement and why; from any thread."""
        with contextlib.suppress(RuntimeError):  # as above
            self._masked = {(self._names[a], why): n for (a, why), n in self._shield.masked.items()}
        return self._masked

    def troubles(self) -> list[tuple[str, str]]:
        """What went wrong in deciding since it was asked last: reason, and what it was; for one thread."""
        found = []
        for reason, (count, text) in self._shield.troubles().items():
            if (more := count - self._told.get(reason, 0)) > 0:
                self._told[reason] = count
                found.append((reason, f"{more} frames went to the device; the newest: {text}"))
        return found

    def _tell_what_left(self) -> None:
        """Calls without an answer whose bytes have left: the link is free again."""
        for call, watched in self._watched.items():
            if watched.result is not None and watched.whole:
                self._observer.sent(self._attempt[call], (watched.result.left_s - self._began_s) * 1000)

    def _now_ms(self) -> float:
        return (self._clock.monotonic_s() - self._began_s) * 1000


def _computing_ms(call: Call) -> float | None:
    """Time that an answer took to compute, alone."""
    a = call.answer
    return None if a is None or call.error is not None else a.prepare_ms + a.execute_ms + a.finish_ms


def _sending_ms(watched: Watched | None) -> float | None:
    """What the transfer of a call took beyond one round trip, where that is known."""
    if watched is None or watched.result is None or not (watched.whole and watched.alone):
        return None
    return 1000 * watched.result.leaving_s
