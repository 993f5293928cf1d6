"""How the numbers of the khan-* scenarios follow from the few that the paper prints.

Latencies are fitted to their row's p50 and p95 and to nothing else, so that throughput and the share of SLO
misses stay predictions:

- the server's service time: a lognormal that, with the LAN's 1-5 ms round trip, gives the LAN row;
- each emulated profile's round trip: the profile's shortest one (mean minus the printed spread) plus a
  lognormal excess that stands for jitter, loss and recovery, kept as a table of standardised quantiles;
- the marginal share of an image in a batch: from 65 images a second with eight in flight;
- idle powers: from Fig. 3 at one image a second.

Run ``python -m carbonpilot.agents.khan_fit`` to print what the scenarios hold; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from . import khan_paper as paper

F64 = npt.NDArray[np.float64]
NORMAL = NormalDist()
Z95 = NORMAL.inv_cdf(0.95)
GRID = 500  # equally likely values that stand for a distribution
QUANTILES = 101  # entries of a jitter table, from probability 0 to 1

# 1 MB over the Orin developer kit's 10 Gbit/s port (assumed): no visible time, as the printed rows need.
UPLOAD_MS = 0.8
LAN_RTT_MS, LAN_SPREAD_MS = 3.0, 2.0  # section 3.1: "RTT 1-5 ms", taken as uniform


def _middles(size: int) -> F64:
    return (np.arange(size) + 0.5) / size


def _lognormal(p50: float, p95: float) -> F64:
    """Equally likely values of the lognormal through a median and a 95th percentile."""
    z = np.array([NORMAL.inv_cdf(u) for u in _middles(GRID)])
    return p50 * np.exp(math.log(p95 / p50) / Z95 * z)


def _solve(quantiles: Callable[[F64], F64], wanted: F64, guess: F64) -> F64:
    """Newton's method for two positive parameters and two quantiles."""
    x = guess.astype(float)
    for _ in range(100):
        error = wanted - quantiles(x)
        if np.abs(error).max() < 1e-6:
            return x
        steps = 1e-4 * x
        jacobian = np.stack([(quantiles(x + d) - quantiles(x)) / d.sum() for d in np.diag(steps)], axis=1)
        x = np.maximum(x + np.linalg.solve(jacobian, error), 0.05 * x)
    raise ArithmeticError(f"no distribution gives quantiles {wanted}")


def _p50_p95(*independent: F64) -> F64:
    """Quantiles 0.5 and 0.95 of a sum of independent variables."""
    total = independent[0]
    for part in independent[1:]:
        total = (total[:, None] + part[None, :]).ravel()
    return np.quantile(total, [0.5, 0.95])


@lru_cache
def server_service() -> tuple[float, float]:
    """The server's service time as (p50, p95) of a lognormal, ms, from the LAN row of Table 1."""
    row = paper.TABLE_1["khan-lan"].offload
    network = UPLOAD_MS + LAN_RTT_MS + LAN_SPREAD_MS * (2 * _middles(GRID) - 1)
    x = _solve(
        lambda v: _p50_p95(_lognormal(v[0], v[1]), network),
        np.array([row.p50_ms, row.p95_ms]),
        np.array([56.0, 66.0]),
    )
    return float(x[0]), float(x[1])


def rtt_quantiles(scenario: str) -> F64:
    """Round-trip times of an emulated profile at ``QUANTILES`` evenly spaced probabilities, ms.

    Args:
        scenario: "khan-emu-a" or "khan-emu-b".
    """
    profile = paper.TABLE_1[scenario]
    service = _lognormal(*server_service())
    probability = _middles(4 * GRID)
    knots = np.linspace(0, 1, QUANTILES)

    def offload(v: F64) -> F64:
        network = np.interp(probability, knots, profile.shortest_rtt_ms + _excess(v[0], v[1]))
        return _p50_p95(service, UPLOAD_MS + network)

    wanted = np.array([profile.offload.p50_ms, profile.offload.p95_ms])
    guess = np.array([max(wanted[0] - 57 - profile.shortest_rtt_ms, 5.0), 1.0])
    median, sigma = _solve(offload, wanted, guess)
    return profile.shortest_rtt_ms + _excess(median, sigma)


def _excess(median_ms: float, sigma: float) -> F64:
    """Quantiles of a lognormal; the last one is set so that the top one per cent keeps its mean."""
    inner = np.linspace(0, 1, QUANTILES)[1:-1]
    values = median_ms * np.exp(sigma * np.array([NORMAL.inv_cdf(u) for u in inner]))
    tail = 1 - inner[-1]
    tail_mean = median_ms * math.exp(sigma**2 / 2) * NORMAL.cdf(sigma - NORMAL.inv_cdf(1 - tail)) / tail
    return np.concatenate([[0.0], values, [2 * tail_mean - values[-1]]])


def batch_share() -> float:
    """What one more image adds to a batch's service time, share of a single image's.

    Eight in flight at 65 images a second take 8 / 65 s on average (Little's law); what is left after eight
    uploads and a round trip is the service of a full batch.
    """
    p50, p95 = server_service()
    alone_ms = p50 * math.exp((math.log(p95 / p50) / Z95) ** 2 / 2)
    cycle_ms = 1000 * paper.BATCH / paper.BATCH_IMAGES_PER_S
    batch_ms = cycle_ms - paper.BATCH * UPLOAD_MS - LAN_RTT_MS
    return (batch_ms / alone_ms - 1) / (paper.BATCH - 1)


def idle_powers_w() -> tuple[float, float]:
    """Idle power of device and server, W: Fig. 3 at one image a second in the attributional account."""
    joules_per_mg = 3600 / paper.CARBON_G_PER_KWH
    offload_mg, local_mg = paper.FIG_3[paper.Range(1, 1)]
    device = local_mg * joules_per_mg - paper.TABLE_2["local-b0"].energy_j
    server = offload_mg * joules_per_mg - paper.TABLE_2["edge-b4"].energy_j - device
    return device, server


def main() -> None:
    """Print every fitted number of the scenarios."""
    print("server service p50, p95 ms:", [round(v, 2) for v in server_service()])
    print("marginal_service_share:", round(batch_share(), 4))
    print("batched_energy_j:", round(batch_share() * paper.TABLE_2["edge-b4"].energy_j, 2))
    print("idle power W, device and server:", [round(v, 1) for v in idle_powers_w()])
    for name, rtt_ms, jitter_ms in (("khan-emu-a", 30, 10), ("khan-emu-b", 60, 20)):
        print(name, "jitter_quantiles:")
        values = (rtt_quantiles(name) - rtt_ms) / jitter_ms
        for row in range(0, QUANTILES, 10):
            print("          " + ", ".join(f"{v:.3f}" for v in values[row : row + 10]) + ",")


if __name__ == "__main__":
    main()
