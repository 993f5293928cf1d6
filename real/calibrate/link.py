"""A link's round-trip time, jitter, loss and rate, measured over connections of our own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ..probes.echo_probe import EchoProbe
from ..probes.failure import ProbeFailure
from .effort import Effort
from .statistics import Estimate, bootstrapped, share, without_outliers
from .transfers import Transfer, Uploader

GAP_S = 0.1  # between probes: jitter of a mobile link moves over about this time
RATE_QUANTILE = (
    0.9  # of the kernel's delivery rates: lower ones are windows still growing or halved by a loss
)
CARRIER = "bbr"  # fills a lossy path, which CUBIC does not; what frames travel with is another matter


@dataclass(frozen=True)
class LinkNumbers:
    """What a link is like.

    Attributes:
        rtt_ms, jitter_ms: mean and standard deviation of the round trips.
        loss, rate_mbps: share of segments lost towards the server, and rate of a large upload.
        rate_method: how the rate was found.
    """

    rtt_ms: Estimate
    jitter_ms: Estimate
    loss: Estimate
    rate_mbps: Estimate
    rate_method: str


def measure_link(
    probe: EchoProbe, host: str, port: int, effort: Effort, tell: Callable[[str], None]
) -> LinkNumbers:
    """Probe and load a link for some seconds.

    Raises:
        InputError: too few probes were answered, or the other end takes no uploads.
    """
    tell("round-trip times")
    rtt = without_outliers(round_trips(probe, effort.probes))
    block = 5
    tell("uploads")
    transfers, carrier = _transfers(host, port, effort)
    rate, method = _rate(transfers, carrier)
    return LinkNumbers(
        bootstrapped(rtt, np.mean, block),
        bootstrapped(rtt, np.std, block),
        _loss(transfers),
        rate,
        method,
    )


def round_trips(probe: EchoProbe, count: int, gap_s: float = GAP_S) -> npt.NDArray[np.float64]:
    """Round-trip times of answered probes (n,), ms; retransmitted ones are left out (Karn's algorithm).

    Raises:
        InputError: fewer than half were answered; says why.
    """
    found, failure = [], None
    for _ in range(count):
        due_s = time.perf_counter() + gap_s
        try:
            answer = probe.exchange()
            if not answer.segments_retransmitted:
                found.append(answer.rtt_ms)
        except ProbeFailure as error:
            failure = error
        time.sleep(max(due_s - time.perf_counter(), 0.0))
    if len(found) < max(2, count // 2):
        raise InputError(
            f"{len(found)} of {count} probes of {probe.host}:{probe.port} were answered: {failure}. "
            "Start the echo server there: python -m carbonpilot.real.probes.echo --host 0.0.0.0 --port "
            f"{probe.port}"
        )
    return np.array(found[1:] if len(found) > 2 else found)  # the first one paid for the connection


def _transfers(host: str, port: int, effort: Effort) -> tuple[list[Transfer], str]:
    """Uploads until the loss is known well enough or the time is over."""
    try:
        uploader = Uploader(host, port, congestion_control=CARRIER)
    except InputError:
        uploader = Uploader(host, port)
    carrier = uploader.congestion_control
    done: list[Transfer] = []
    end_s = time.perf_counter() + effort.upload_s
    try:
        while not done or (time.perf_counter() < end_s and not _known_well(done, effort)):
            done.append(uploader.upload(effort.upload_bytes))
    finally:
        uploader.close()
    return done, carrier


def _known_well(done: list[Transfer], effort: Effort) -> bool:
    lost, segments = sum(t.lost for t in done), sum(t.segments for t in done)
    return len(done) >= 3 and (lost >= effort.losses or (lost <= 0 and segments >= effort.segments))


def _loss(transfers: list[Transfer]) -> Estimate:
    return share(max(sum(t.lost for t in transfers), 0), max(sum(t.segments for t in transfers), 1))


def _rate(transfers: list[Transfer], carrier: str) -> tuple[Estimate, str]:
    """The rate, resampled by upload, and how it was found.

    Where the link never was what limited an upload (a link in the same machine) the rate is that of the uploads; it is
    so high that nothing hangs on it.
    """
    used = [np.array(t.rates_mbps) for t in transfers if t.rates_mbps]
    method = f"90 % quantile of the kernel's delivery rates, {carrier}"
    if not used:
        used = [np.array([t.sent_bytes * 8e-6 / t.took_s]) for t in transfers]
        method = "rate of whole uploads, which the link did not limit"
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(300):
        picked = np.concatenate([used[i] for i in rng.integers(0, len(used), len(used))])
        draws.append(np.quantile(picked, RATE_QUANTILE))
    low, high = np.quantile(draws, [0.025, 0.975])
    everything = np.concatenate(used)
    value = float(np.quantile(everything, RATE_QUANTILE))
    return Estimate(value, min(float(low), value), max(float(high), value), everything.size), method
