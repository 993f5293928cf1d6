"""Mean latency of split processing in closed form: the paper's tandem, and an exact form for constant times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..envs import queueing as q


def tandem_ms(
    head_ms: float,
    link_ms: float,
    tail_ms: float,
    rate_per_s: float,
    head_scv: float = 0.0,
    tail_scv: float = 0.0,
    link_scv: float = 1.0,
) -> float:
    """Section 3.3's tandem: eq (2) for the head, then eq (1) with D_inter / B for the activation and s'_edge.

    Args:
        head_ms, link_ms, tail_ms: service times of the three stages; 0 for a stage that takes no time.
        rate_per_s: Poisson arrivals.
        head_scv, tail_scv: squared coefficients of variation, as for `envs.queueing`, whose `split_latency_ms` has one
            for both.
        link_scv: 1 as in the paper, which takes the network for M/M/1 (7); 0 for activations of one size, eq (6).
    """
    head = q.device_latency_ms(head_ms, rate_per_s, head_scv)
    link = q.device_latency_ms(link_ms, rate_per_s, link_scv)
    return float(head + link + q.device_latency_ms(tail_ms, rate_per_s, tail_scv))


def constant_tandem_ms(stages_ms: Sequence[q.Values], rate_per_s: q.Values) -> npt.NDArray[np.float64]:
    """Mean latency of Poisson arrivals through queues in a row whose service times are constant: exact.

    All waiting together is that before the slowest stage if it came first, wherever it stands (Friedman, "Reduction
    Methods for Tandem Queuing Systems", Operations Research 13, 1965; not in the paper): what leaves a stage is spaced
    by its service time at least, so nobody waits at a faster one after it, and time spent waiting at a faster one
    before it is not spent at the slowest. So it is eq (6) once, at the longest time, plus all service times.

    Args:
        stages_ms: service times, in order; each a number or an array.
        rate_per_s: arrivals.

    Returns:
        Mean latency, ms; infinite where the slowest stage cannot keep up.
    """
    stages = np.stack(np.broadcast_arrays(*(np.asarray(s, dtype=np.float64) for s in stages_ms)))
    return np.asarray(q.md1_wait_ms(stages.max(axis=0), rate_per_s) + stages.sum(axis=0))[()]
