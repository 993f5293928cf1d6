"""From the requests of an episode to the numbers of that episode.

Every metric is computed per episode first; a mean over episodes therefore counts each episode once, however
many requests it had. ``latency_p95_ms`` of a policy is the mean over episodes of each episode's p95.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..envs.schema import Slo
from .rollout import EpisodeRecord

F64 = npt.NDArray[np.float64]

# Metrics of one policy, in the order of the JSON contract.
EPISODE_METRICS = (
    "carbon_mg_per_request",
    "energy_j_per_request",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "slo_miss_rate",
    "episodes_meeting_slo",
    "accuracy_miou",
)

# Latency at the quantile that the objective speaks of, ms; what policies are ranked by where none keeps it.
SLO_LATENCY = "latency_slo_quantile_ms"


def episode_metrics(record: EpisodeRecord, slo: Slo) -> dict[str, F64]:
    """The metrics of each episode, name -> (B,)."""
    latency_ms = latency_quantiles(record, (0.50, 0.95, 0.99, slo.quantile))
    return {
        "carbon_mg_per_request": mean_per_episode(record.carbon_mg, record.valid),
        "energy_j_per_request": mean_per_episode(record.energy_j, record.valid),
        "latency_p50_ms": latency_ms[0],
        "latency_p95_ms": latency_ms[1],
        "latency_p99_ms": latency_ms[2],
        "slo_miss_rate": mean_per_episode(record.missed, record.valid),
        "episodes_meeting_slo": (latency_ms[3] <= slo.latency_ms).astype(np.float64),
        "accuracy_miou": mean_per_episode(record.accuracy_miou, record.valid),
        SLO_LATENCY: latency_ms[3],
    }


def mean_per_episode(values: npt.NDArray, valid: npt.NDArray[np.bool_]) -> F64:
    """Mean over the requests of each episode: (N, B) to (B,)."""
    return np.where(valid, values, 0).sum(axis=0, dtype=np.float64) / valid.sum(axis=0)


def latency_quantiles(record: EpisodeRecord, quantiles: Sequence[float]) -> F64:
    """Quantiles of each episode's latencies, ms (Q, B).

    The q-quantile of n latencies is the ceil(q n)-th smallest. With this definition the 0.95 quantile meets
    the SLO exactly when at most 5 % of the requests miss it, so the two ways to say it cannot disagree.
    """
    ordered = np.sort(np.where(record.valid, record.latency_ms, np.inf), axis=0)
    requests = record.valid.sum(axis=0)
    # 0.07 x 100 is 7.000000000000001 in floating point, whose ceiling would be one rank too high.
    ranks = [np.maximum(np.ceil(q * requests - 1e-9).astype(np.int64), 1) - 1 for q in quantiles]
    return np.stack([np.take_along_axis(ordered, rank[None], axis=0)[0] for rank in ranks])


def placement_share(record: EpisodeRecord, placements: int) -> F64:
    """Share of each placement per episode, (P, B); the shares of an episode add up to one."""
    return np.stack([mean_per_episode(record.placement == p, record.valid) for p in range(placements)])


def share_over_time(record: EpisodeRecord, placements: int, bins: int) -> tuple[F64, F64]:
    """Share of each placement in consecutive stretches of the episode, over all episodes.

    Returns:
        Middle of each stretch as a request number (T,), and shares (P, T); NaN where no episode got so far.
    """
    edges = np.unique(np.linspace(0, len(record.valid), bins + 1).astype(np.int64))
    counts = np.stack([(record.valid & (record.placement == p)).sum(axis=1) for p in range(placements)])
    binned = np.add.reduceat(counts, edges[:-1], axis=1).astype(np.float64)
    total = binned.sum(axis=0)
    shares = np.divide(binned, total, out=np.full_like(binned, np.nan), where=total > 0)
    return (edges[:-1] + edges[1:]) / 2, shares
