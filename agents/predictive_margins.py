"""Predicted latency of every placement: what is believed, and a margin for what belief leaves out.

Each term is something a device can know, times a tunable (`predictive_parameters.PREDICTION`). Belief holds the mean
round trip, the mean wait and the mean service time; left out are the further round trips of a transfer that loses or
probes, stalls, and how steady the path is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .predictive_device import HiddenBacklog
from .predictive_memory import AnswerMemory
from .predictive_view import Floats, PlacementView, View

# Beyond these a measure says no more.
MOST_LOSS_PCT = np.float32(10.0)
MOST_PROBE_AGE_S = np.float32(5.0)
LEAST_UPLINK_MBPS = np.float32(0.1)
MOST_SENT_MS = np.float32(150.0)
MS_PER_KB_AT_1_MBPS = np.float32(8.0)
PER_100_KB = np.float32(0.01)


def predicted_ms(
    view: View,
    places: PlacementView,
    answers: AnswerMemory,
    device: HiddenBacklog,
    p: Mapping[str, Floats],
) -> Floats:
    """Predicted latency of each placement (P, B), ms; row 0 is the device.

    Args:
        view: the waiting requests.
        places: the placements.
        answers, device: what the rule remembers.
        p: tunables by name, each a number or (B,).
    """
    requests_ms = _requests_ms(view, answers, p)
    on_link = _path_ms(view, p) + requests_ms
    node_ms = _node_ms(view, answers, p)
    latency = view.latency_ms + on_link[places.link_of] + node_ms
    for (
        a,
        kb,
    ) in places.crossing_kb.items():  # what crosses a cut in place of the payload, and the device's share
        link = places.link_of[a]
        path_ms = _path_ms(replace(view, payload_kb=np.full_like(view.payload_kb, kb)), p)[link]
        on_device_ms = p["local_margin_ms"] + p["local_hot_ms"] * view.device_throttled
        waits_ms = p["local_backlog_share"] * device.hidden_ms
        latency[a] = view.latency_ms[a] + path_ms + requests_ms[link] + node_ms[a]
        latency[a] += places.device_share[a] * on_device_ms + waits_ms
    latency[0] = (
        view.latency_ms[0]
        + p["local_margin_ms"]
        + p["local_backlog_share"] * device.hidden_ms
        + p["local_hot_ms"] * view.device_throttled
    )
    return latency


def _path_ms(view: View, p: Mapping[str, Floats]) -> Floats:
    """Margin for what probes say of each link (L, B)."""
    upload_ms = view.payload_kb * MS_PER_KB_AT_1_MBPS / np.maximum(view.uplink_mbps, LEAST_UPLINK_MBPS)
    # What the newest answered request met on its way says more of this second than estimates do.
    sent_ms = view.payload_kb * MS_PER_KB_AT_1_MBPS / np.maximum(view.sent_mbps, LEAST_UPLINK_MBPS)
    slower_ms = np.clip(sent_ms - upload_ms, -MOST_SENT_MS, MOST_SENT_MS) * (view.sent_mbps > 0)
    margin = p["margin_ms"] + p["upload_share"] * upload_ms
    margin += p["sent_share"] * slower_ms * np.exp(-view.sent_age_s / p["sent_memory_s"])
    margin += (p["rtt_share"] + p["packets_share"] * view.payload_kb * PER_100_KB) * view.rtt_ms
    margin += p["trend_share"] * (view.rtt_last_ms - view.rtt_ms)
    margin += p["deviation_share"] * view.rtt_deviation_ms
    margin += p["loss_ms_per_pct"] * np.minimum(view.loss_pct, MOST_LOSS_PCT)
    margin += p["probe_age_ms_per_s"] * np.minimum(view.probe_age_s, MOST_PROBE_AGE_S)
    margin += p["backlog_share"] * view.backlog_ms
    return margin


def _requests_ms(view: View, answers: AnswerMemory, p: Mapping[str, Floats]) -> Floats:
    """Margin for what became of the rule's own requests on each link (L, B)."""
    margin = p["overdue_share"] * answers.overdue_ms
    margin += (
        p["link_last_share"] * answers.link_last_ms * np.exp(-answers.link_age_s / p["link_last_memory_s"])
    )
    margin += p["link_share"] * answers.link_residual_ms
    margin += p["link_silence_ms"] * np.log1p(answers.link_age_s)
    margin += p["miss_ms"] * view.recent_miss_rate
    return margin


def _node_ms(view: View, answers: AnswerMemory, p: Mapping[str, Floats]) -> Floats:
    """Margin for what is known of each placement's node (P, B)."""
    margin = p["load_ms"] * view.load * view.load
    margin += p["waiting_ms"] * (view.outstanding_ms > 0)
    margin += (
        p["node_share"] * answers.node_residual_ms * np.exp(-view.last_answer_age_s / p["node_memory_s"])
    )
    margin += p["silence_ms"] * np.log1p(view.last_answer_age_s)
    return margin
