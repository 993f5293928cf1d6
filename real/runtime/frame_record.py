"""From a frame's story to its line in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..log_records import Attempt, FrameRecord
from .accounts import Charge
from .calls import Call
from .story import Story


def frame_record(
    story: Story,
    *,
    run_began_s: float,
    slo_ms: float,
    placements: Sequence[str],
    payload_kb: float,
    charge: Charge,
    carbon_g_per_kwh: Mapping[str, float | None],
    accuracy: Mapping[str, float],
    energy_basis: str,
) -> FrameRecord:
    """Build the record.

    Args:
        story: of a frame whose calls have ended.
        run_began_s: the clock's time from which the log counts.
        slo_ms: the latency objective.
        placements: names, in the order of actions.
        payload_kb: what offloading the frame sends.
        charge: what it cost.
        carbon_g_per_kwh: intensities behind it.
        accuracy: mIoU by placement.
        energy_basis: see `FrameRecord`.
    """
    judged, winner, latency_ms = story.judgement, story.winner, story.latency_ms
    observed = None if judged is None or judged.observation is None else judged.observation.tolist()
    return FrameRecord(
        frame=story.number,
        image=story.frame.name,
        issued_ms=(story.issued_s - run_began_s) * 1000,
        issued_utc=story.issued_utc.isoformat(),
        payload_kb=payload_kb,
        observation=observed,
        mask=[0] * len(placements) if judged is None else list(judged.mask),
        wanted=None if judged is None else judged.wanted,
        placement=None if judged is None else judged.placement,
        reason=story.reason if judged is None else judged.reason,
        executed=None if winner is None else winner.placement,
        fallback=story.fallback,
        attempts=[_attempt(call, run_began_s) for call in story.calls],
        latency_ms=latency_ms,
        missed=latency_ms is None or latency_ms > slo_ms,
        decision_us=0.0 if judged is None else judged.decision_us,
        overhead_ms=story.overhead_ms,
        **vars(charge),
        energy_basis=energy_basis,
        carbon_g_per_kwh=dict(carbon_g_per_kwh),
        accuracy_miou=None if winner is None else accuracy[winner.placement],
        problem=story.problem,
    )


def _attempt(call: Call, run_began_s: float) -> Attempt:
    answer = call.answer if call.error is None else None
    ended_s = call.started_s if call.ended_s is None else call.ended_s
    return Attempt(
        placement=call.placement,
        started_ms=(call.started_s - run_began_s) * 1000,
        ended_ms=(ended_s - run_began_s) * 1000,
        error=call.error,
        used=call.used,
        prepare_ms=None if answer is None else answer.prepare_ms,
        execute_ms=None if answer is None else answer.execute_ms,
        finish_ms=None if answer is None else answer.finish_ms,
        sent_bytes=None if answer is None else answer.sent_bytes,
        received_bytes=None if answer is None else answer.received_bytes,
        queued_ms=call.queued_ms,
        head_queued_ms=call.head_queued_ms,
        head_ms=call.head_ms,
    )
