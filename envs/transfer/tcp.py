"""Uploads over warm TCP connections, simulated a round of packets at a time, many connections at once."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .bbr import Bbr
from .connection import F64, MIN_RTO_MS, MSS_BYTES, WIRE_BYTES, Path, Round
from .cubic import Cubic
from .extremes import extremes

CONTROLS = {"cubic": Cubic, "bbr": Bbr}
RACK_TIMER_MS = 2.0  # Linux TCP_TIMEOUT_MIN
PACING_CREDIT = 0.5  # Linux tcp_update_skb_after_send: at most half of the time of what was just sent
DUPTHRESH = 3.0  # RFC 8985 section 3: three later segments prove a loss at once
MAX_ROUNDS = 5000  # a guard against paths that let nothing through


def open_connections(congestion_control: str, path: Path) -> Cubic | Bbr:
    """Open a warm connection on every row of the path."""
    if congestion_control not in CONTROLS:
        raise InputError(
            f"Unknown congestion control '{congestion_control}'. Expected one of {sorted(CONTROLS)}."
        )
    return CONTROLS[congestion_control](path)


def segments_per_ms(rate_mbps: float | F64) -> F64:
    """Rate of the narrowest hop in segments per ms; the headers need their share."""
    return np.asarray(rate_mbps, dtype=float) * 1e6 / 8.0 / WIRE_BYTES / 1000.0


def simulate_uploads(
    congestion_control: str,
    rtt_ms: float,
    rtt_jitter_ms: float,
    loss: float,
    rate_mbps: float,
    payload_bytes: int,
    n_uploads: int,
    gap_ms: float = 100.0,
    connections: int = 64,
    seed: int = 0,
) -> F64:
    """Upload the same payload again and again over independent connections.

    Args:
        congestion_control: "cubic" or "bbr".
        rtt_ms: mean round-trip time.
        rtt_jitter_ms: standard deviation of its slow (100 ms) Gaussian offset.
        loss: share of uplink packets lost, independently, 0 to below 1.
        rate_mbps: rate of the narrowest hop, Mbit/s on the wire.
        payload_bytes: size of one upload.
        n_uploads: uploads of each connection.
        gap_ms: an upload starts this long after the last one started, or at its end where that is later.
        connections: independent connections M.
        seed: of the random draws.

    Returns:
        (n_uploads, M) ms from the first byte sent to the reply received.
    """
    ways = (rtt_ms, rtt_jitter_ms, loss, segments_per_ms(rate_mbps))
    path = Path(*(np.full(connections, float(v)) for v in ways))
    conn = open_connections(congestion_control, path)
    rng = np.random.default_rng(seed)
    segments = np.full(connections, np.ceil(payload_bytes / MSS_BYTES))
    out = np.empty((n_uploads, connections))
    for i in range(n_uploads):
        out[i] = upload(conn, path, segments, rng)
        rest(conn, out[i], gap_ms)
    return out


def rest(conn: Cubic | Bbr, took_ms: F64, gap_ms: float) -> None:
    """Let connections idle from the end of uploads that took so long (M,) until so long after their start, in place."""
    idle_ms = np.maximum(gap_ms - took_ms, 0.0)
    conn.now_ms += idle_ms
    conn.after_idle(idle_ms, conn.srtt_ms + MIN_RTO_MS)


def upload(
    conn: Cubic | Bbr, path: Path, segments: F64, rng: np.random.Generator, first_u: F64 | None = None
) -> F64:
    """Carry one upload per connection to its end; the connections move on in place.

    Args:
        conn: the connections (M,).
        path: what each of them runs over.
        segments: size of each upload.
        rng: source of every draw.
        first_u: quantiles (M,) of the first round's losses, to stratify them; drawn where absent.

    Returns:
        (M,) ms from the first byte sent to the reply received.
    """
    conn.begin(segments)
    work, road = conn.take(slice(None)), path
    where = np.arange(segments.size)
    for turn in range(MAX_ROUNDS):
        done = _one_round(work, road, rng, first_u if turn == 0 else None)
        if done.any():
            ended = np.flatnonzero(done)
            conn.put(where[ended], work.take(ended))
            keep = np.flatnonzero(~done)
            if not keep.size:
                break
            work, road, where = work.take(keep), road.take(keep), where[keep]
    else:
        conn.put(where, work)
    return conn.elapsed_ms.copy()


def _one_round(conn: Cubic | Bbr, path: Path, rng: np.random.Generator, loss_u: F64 | None) -> np.ndarray:
    """Send one window, lose some of it, learn from it. Returns who has delivered everything (M,)."""
    size = conn.cwnd.size
    rtt = conn.draw_first_rtt(path, rng)
    conn.first_rtt_ms = np.where(conn.rounds == 0, rtt, conn.first_rtt_ms)
    todo = conn.fresh + conn.lost
    pace, quantum, window = conn.pacing(), conn.quantum(), conn.window()
    paced = np.floor(np.minimum(pace * rtt, todo) + rng.random(size))  # whole segments, right on average
    sent = np.minimum(np.minimum(todo, window), np.maximum(paced, 1.0))
    resent = np.minimum(conn.lost, sent)
    fresh_sent = sent - resent
    # Pacing makes up for half a quantum where the sender was late (Linux tcp_update_skb_after_send).
    owed = np.where(conn.stalled, PACING_CREDIT * quantum, 0.0)
    leaving = np.maximum(sent - quantum - owed, 0.0) / pace
    spread = np.maximum(leaving, sent / path.rate)
    # Packets stay in order: the last one arrives after the first, however short its own delay is.
    end_rtt = np.maximum(conn.draw_last_rtt(path, spread, rng), rtt - spread)
    last_flight = sent == todo
    # What leaves faster than the path carries it waits in its queue, so only the first packets see the path alone.
    least, fall = extremes(path, rtt, end_rtt + (spread - leaving), leaving, sent, rng, conn.version0)
    if loss_u is None:
        lost = rng.binomial(sent.astype(np.int64), path.loss).astype(float)
    else:
        lost = binomial_quantile(loss_u, sent, path.loss)
    u_tail, u_place, u_new = rng.random((3, size))
    any_lost = lost > 0
    tail = last_flight & (u_tail * sent < lost)
    per_loss = 1.0 / np.maximum(lost, 1.0)
    last_place, first_place = u_place**per_loss, 1.0 - (1.0 - u_place) ** per_loss
    new_loss = any_lost & (u_new > (resent / sent) ** lost)

    # A lost tail: nothing later proves the loss, a timer must (RFC 8985 section 7; RFC 6298 in recovery).
    rto = (conn.srtt_ms + MIN_RTO_MS) * conn.backoff  # RFC 6298 (2.3) with Linux' floor under the variance
    alone = tail & ((lost == 1) | (resent > 0))
    timeout = alone & (resent > 0)  # in recovery no probe is sent: a full timeout
    answered = np.where(sent > 1, rtt, 0.0)  # the timer runs from the last ack
    reorder = np.where(
        last_flight & ((1.0 - last_place) * sent < DUPTHRESH), rtt / 4.0 + RACK_TIMER_MS, 0.0
    )  # RFC 8985 section 6.2, step 4
    duration = np.where(last_flight, end_rtt + spread, np.maximum(rtt, spread))
    duration = np.where(last_flight & any_lost, rtt + spread * last_place + reorder, duration)
    # A tail lost together with earlier segments is proved by their retransmission, one RTT later.
    duration = np.where(tail & ~alone, 2.0 * rtt + spread, duration)
    # One segment outstanding: the probe timer, 2 SRTT + 200 ms, is cut to the RTO (RFC 8985 section 7.2).
    waited = np.where(alone, rto, 0.0)
    duration = np.where(alone, answered + spread + waited, duration)

    seen = Round(
        pace=pace,
        rtt_ms=rtt,
        end_rtt_ms=end_rtt,
        least_rtt_ms=least + conn.backlog_ms,
        fall_ms=fall,
        quantum=quantum,
        owed=owed,
        sent=sent,
        delivered=sent - lost,
        lost=lost,
        new_loss=new_loss,
        first_loss=first_place,
        last_loss=last_place,
        resent=resent,
        fresh_sent=fresh_sent,
        leaving_ms=leaving,
        spread_ms=spread,
        last_flight=last_flight,
        timeout=timeout,
        window_limited=sent >= window,
        waited_ms=waited,
        duration_ms=duration,
    )
    conn.srtt_ms += (end_rtt - conn.srtt_ms) / 4.0  # RFC 6298 (2.3), a few samples a round
    conn.backoff = np.where(timeout, 2.0 * conn.backoff, 1.0)  # RFC 6298 (5.5)
    conn.fresh -= fresh_sent
    conn.lost += lost - resent
    conn.on_round(path, seen)
    conn.stalled = seen.window_limited
    if not conn.version0:
        # A round lasts until its last packet has passed the narrowest hop; the acks that start the next come sooner.
        conn.backlog_ms = np.maximum(spread - rtt, 0.0)
    conn.elapsed_ms += duration
    conn.now_ms += duration
    conn.rounds += 1.0
    return last_flight & ~any_lost


def binomial_quantile(u: F64, trials: F64, share: F64) -> F64:
    """Quantile u of the number of losses among so many packets, by summing the distribution up to u (M,)."""
    odds = share / (1.0 - share)
    term = (1.0 - share) ** trials
    total, count = term.copy(), np.zeros(u.size)
    left = np.flatnonzero(total < u)
    while left.size:
        count[left] += 1.0
        term[left] *= (trials[left] - count[left] + 1.0) / count[left] * odds[left]
        total[left] += term[left]
        # Rounding may keep the sum below a u near one: all trials is the most that can be lost.
        left = left[(total[left] < u[left]) & (count[left] < trials[left])]
    return count
