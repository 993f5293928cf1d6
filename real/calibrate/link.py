"""A link's round-trip time, jitter, loss and rate, measured over connections of our own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ..probes.echo_probe import EchoProbe
from ..probes.failure import ProbeFailure
from .effort import Effort
from .statistics import Estimate, bootstrapped, share, without_outliers
from .transfers import Transfer, Uploader

GAP_S = 0.1  # between probes: jitter of a mobile link moves over about this time
RATE_QUANTILE = 0.9  # of an upload's delivery rates: lower ones are windows that still grow
# Of that over uploads: a connection that lost early is slower than its link, none is faster. Both quantiles were chosen
# on the emulated links (docs/calibrate.md).
UPLOADS_QUANTILE = 0.9
LEAST_UPLOADS = 3
CARRIER = "bbr"  # fills a lossy path, which CUBIC does not; what frames travel with is another matter


@dataclass(frozen=True)
class LinkNumbers:
    """What a link is like.

    Attributes:
        rtt_ms, jitter_ms: mean and standard deviation of the round trips.
        loss, rate_mbps: share of segments lost towards the server, and rate of the link.
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
    rate, method = _rate(*_fresh_uploads(host, port, effort))
    return LinkNumbers(
        bootstrapped(rtt, np.mean, block),
        bootstrapped(rtt, np.std, block),
        _loss(_uploads(host, port, effort)),
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


def _fresh_uploads(host: str, port: int, effort: Effort) -> tuple[list[Transfer], str]:
    """Uploads over a new connection each, and their congestion control; fewer where the link is slow.

    A new connection under BBR doubles its rate until the link limits it, whatever is lost on the way. One that has
    lived for a while may have taken a loss for a limit and stay at a fraction of the rate.
    """
    done: list[Transfer] = []
    carrier, end_s = "", time.perf_counter() + effort.upload_s
    for _ in range(effort.fresh):
        uploader = _uploader(host, port)
        try:
            done.append(uploader.upload(effort.upload_bytes))
            carrier = uploader.congestion_control
        finally:
            uploader.close()
        if len(done) >= LEAST_UPLOADS and time.perf_counter() > end_s:
            break
    return done, carrier


def _uploads(host: str, port: int, effort: Effort) -> list[Transfer]:
    """Uploads over one connection until the loss is known well enough or the time is over."""
    done: list[Transfer] = []
    uploader = _uploader(host, port)
    end_s = time.perf_counter() + effort.upload_s
    try:
        while not done or (time.perf_counter() < end_s and not _known_well(done, effort)):
            done.append(uploader.upload(effort.upload_bytes))
    finally:
        uploader.close()
    return done


def _uploader(host: str, port: int) -> Uploader:
    try:
        return Uploader(host, port, congestion_control=CARRIER)
    except InputError:
        return Uploader(host, port)


def _known_well(done: list[Transfer], effort: Effort) -> bool:
    lost, segments = sum(t.lost for t in done), sum(t.segments for t in done)
    return len(done) >= 3 and (lost >= effort.losses or (lost <= 0 and segments >= effort.segments))


def _loss(transfers: list[Transfer]) -> Estimate:
    return share(max(sum(t.lost for t in transfers), 0), max(sum(t.segments for t in transfers), 1))


def _rate(transfers: list[Transfer], carrier: str) -> tuple[Estimate, str]:
    """The rate over uploads of new connections, resampled by upload, and how it was found.

    Where the link never was what limited an upload (a link in the same machine) the rate is that of the uploads; it is
    so high that nothing hangs on it.
    """
    found = [np.quantile(t.rates_mbps, RATE_QUANTILE) for t in transfers if t.rates_mbps]
    method = f"delivery rates that the kernel tells of uploads over a new connection each, {carrier}: "
    method += "90 % quantile of an upload, then of uploads"
    if not found:
        found = [t.sent_bytes * 8e-6 / t.took_s for t in transfers]
        method = "rate of whole uploads, which the link did not limit"
    return bootstrapped(found, partial(np.quantile, q=UPLOADS_QUANTILE)), method
