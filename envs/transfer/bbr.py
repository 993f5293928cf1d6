"""BBR version 1 as Linux runs it, a round at a time.

Sources: Cardwell et al. 2016 (doi 10.1145/3012426.3022184), draft-cardwell-iccrg-bbr-congestion-control-00,
draft-cheng-iccrg-delivery-rate-estimation-00, Linux net/ipv4/tcp_bbr.c.
"""

from __future__ import annotations

import numpy as np

from .connection import ACK_SEGMENTS, F64, INITIAL_WINDOW, Connection, Path, Round
from .max_filter import update_max

HIGH_GAIN = 2.885  # 2 / ln 2, Cardwell 2016, Startup
PACING_MARGIN = 0.99  # Linux bbr_pacing_margin_percent = 1
CWND_GAIN = 2.0  # Cardwell 2016: cwnd is two bandwidth-delay products
CYCLE = np.array([1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # Cardwell 2016, ProbeBW
# Mean gain over 1 to 8 phases from each phase on: a round that is longer than a phase sees several.
MEAN_GAIN = np.array(
    [[np.take(CYCLE, np.arange(i, i + n), mode="wrap").mean() for n in range(1, 9)] for i in range(8)]
)
# The best mean of as many phases that begins within the round, over the mean of the round's own.
BEST_STRETCH = (
    np.array(
        [
            [MEAN_GAIN.take(range(i, i + n), axis=0, mode="wrap")[:, n - 1].max() for n in range(1, 9)]
            for i in range(8)
        ]
    )
    / MEAN_GAIN
)
FILTER_ROUNDS = 10.0  # Cardwell 2016: window of the bandwidth max-filter
EXTRA_ROUNDS = 5.0  # Linux bbr_extra_acked_win_rtts
EXTRA_MAX_MS = 100.0  # Linux bbr_extra_acked_max_us
MOST_AT_ONCE = 44.0  # segments in 64 kB, Linux sk_gso_max_size
SHORT_PATH_MS = 0.512  # Linux tcp_tso_rtt_log = 9: the burst halves with each such step of the least RTT
WINDOW_SHARES = 3.0  # Linux tcp_tso_win_divisor
MIN_WINDOW = 4.0  # Cardwell 2016
GROWTH = 1.25  # Cardwell 2016: the pipe is full after three rounds that do not grow by 25 %
FULL_ROUNDS = 3.0
MIN_RTT_WINDOW_MS = 10_000.0  # Cardwell 2016
PROBE_RTT_MS = 200.0  # Cardwell 2016


class Bbr(Connection):
    """Rows of BBR connections (M,)."""

    def __init__(self, path: Path) -> None:
        """Open connections in Startup; the first pacing rate is the initial window in one RTT."""
        super().__init__(path)
        size = self.cwnd.size
        self.best = np.zeros((size, 3))  # of ten rounds
        self.best_round = np.zeros((size, 3))
        self.round_count = np.zeros(size)
        self.pace = HIGH_GAIN * INITIAL_WINDOW / path.rtt_ms
        self.min_rtt_ms = path.rtt_ms.astype(float)
        self.min_rtt_at_ms = np.zeros(size)
        self.lowest_rtt_ms = path.rtt_ms.astype(float)  # of all (Linux tcp_min_rtt: of five minutes)
        self.full = np.zeros(size, dtype=bool)  # the pipe was found full: ProbeBW from then on
        self.full_bw = np.zeros(size)
        self.full_count = np.zeros(size)
        self.phase = np.full(size, 2.0)
        self.extra = np.zeros((size, 2))  # excess acked over what the model expects, two windows
        self.extra_rounds = np.zeros(size)
        self.probe_rtt_until_ms = np.full(size, -1.0)
        self.conserve = np.zeros(size)  # window of the round after a loss, 0: none
        self.recovered = np.zeros(size)  # place in the flight, 0 to 1, where the last recovery ends
        self.flight = np.zeros(size)  # delivered in the round before, 0 at the start of an upload
        self.flight_ms = np.zeros(size)  # interval that its first packet's sample cannot undercut
        self.flight_end_ms = np.zeros(size)  # the same of its last packet
        self.flight_pace = np.zeros(size)  # segments per ms that it could leave at
        self.flight_stretch = np.ones(size)  # how much its best stretch of one RTT exceeds both
        self.stretch = np.ones(size)  # the same of the round under way
        self.tail_share = np.ones(size)  # share of the last flight acked after the resending began
        self.last_rtt_ms = path.rtt_ms.astype(float)

    def begin(self, segments: F64) -> None:
        """Start an upload; after idling ProbeBW paces at the estimate itself (Linux bbr_cwnd_event)."""
        super().begin(segments)
        self.flight = np.zeros(segments.size)
        self.conserve = np.zeros(segments.size)
        self.recovered = np.zeros(segments.size)
        self.stretch = np.ones(segments.size)
        self.flight_stretch = np.ones(segments.size)
        self.pace = np.where(self.full, PACING_MARGIN * self.best[:, 0], self.pace)

    def pacing(self) -> F64:
        """Segments per ms (M,)."""
        return self.pace

    def quantum(self) -> F64:
        """Segments that leave in one piece: 1 ms of data and, on short paths, more (Linux tcp_tso_autosize)."""
        halvings = np.floor(self._lowest_ms() / SHORT_PATH_MS)
        whole = np.minimum(self.goal() + np.floor(MOST_AT_ONCE * 0.5**halvings), MOST_AT_ONCE)
        # Once acks come in, a piece is what the window has room for, at least a third of it (Linux
        # tcp_tso_should_defer).
        room = np.maximum(self.cwnd - self.pace * self.last_rtt_ms, self.cwnd / WINDOW_SHARES)
        return np.where(self.rounds > 0, np.minimum(whole, np.maximum(room, 2.0)), whole)

    def _lowest_ms(self) -> F64:
        return self.lowest_rtt_ms

    def goal(self) -> F64:
        """Segments in one piece as BBR counts on them: 1 ms of data, at least two (Linux bbr_tso_segs_goal)."""
        return np.clip(np.floor(self.pace), 2.0, MOST_AT_ONCE)

    def window(self) -> F64:
        """Segments that may be in flight (M,)."""
        window = np.where(self.conserve > 0, np.minimum(self.conserve, self.cwnd), self.cwnd)
        window = np.where(self.now_ms < self.probe_rtt_until_ms, MIN_WINDOW, window)
        return np.maximum(np.floor(window), 1.0)

    def after_idle(self, idle_ms: F64, rto_ms: F64) -> None:
        """BBR keeps its model while idle (Linux: no slow start after idle with cong_control)."""

    def on_round(self, path: Path, seen: Round) -> None:
        """Update the model of the path and what follows from it."""
        self.round_count += 1.0
        first = self.rounds == 0
        sample = self._sample(path, first, seen)
        # A flight sent after idling is marked application-limited; later rounds are not (Linux tcp_rate.c).
        use = (~first | (sample >= self.best[:, 0])) & (sample > 0)
        update_max(self.best, self.best_round, self.round_count, use, sample, FILTER_ROUNDS)
        self.full_bw = np.where(seen.timeout, 0.0, self.full_bw)  # Linux bbr_set_state
        self._check_full(~first)
        self._min_rtt(first, seen)
        self._extra_acked(first, seen)
        # Acks that come at the path's rate, or a window that is full, show nothing of a probing pace.
        held = seen.window_limited | (seen.spread_ms > seen.leaving_ms)
        self.flight_stretch = np.where(held, 1.0, self.stretch)
        self._cycle(first, seen)
        self._set_window(seen)
        self.flight = seen.delivered
        self.flight_pace = seen.pace * seen.delivered / np.maximum(seen.delivered - seen.owed, 1.0)
        # A timer's silence counts: the rate sample of what it resends starts at the last ack before it.
        train_ms = self._train_ms(seen)
        self.flight_ms = np.maximum(seen.rtt_ms, train_ms) + seen.waited_ms
        self.flight_end_ms = np.maximum(seen.end_rtt_ms, train_ms) + seen.waited_ms
        share = np.where(seen.lost > 0, 1.0 - seen.first_loss, 1.0)
        self.tail_share = np.where(seen.waited_ms > 0, 0.0, share)
        self.last_rtt_ms = seen.end_rtt_ms

    def _train_ms(self, seen: Round) -> F64:
        # A fall of the delay brings acks closer than the path's rate; how fast they were sent still bounds a sample
        # (Linux tcp_rate.c).
        return np.maximum(seen.leaving_ms, seen.spread_ms - seen.fall_ms)

    def _best_stretch(self) -> F64:
        # Every ack is a sample: the one whose RTT covers the probing phase and not the draining one is the greatest.
        return BEST_STRETCH

    def _sample(self, path: Path, first: np.ndarray, seen: Round) -> F64:
        # Delivery rate: delivered / max(send time, ack time), draft-cheng section 3.2.
        fresh = seen.delivered / (seen.end_rtt_ms + seen.spread_ms)
        share = np.where(seen.fresh_sent > 0, 1.0, self.tail_share)
        # Every ack is a sample, and the filter keeps the best: that of the flight's first packet or of its last.
        interval = np.minimum(
            np.maximum(seen.rtt_ms, self.flight_ms), np.maximum(seen.end_rtt_ms, self.flight_end_ms)
        )
        running = np.maximum(self.flight * share, 1.0) / interval
        # Acks are counted from one to another, so a paced flight shows its pace, not the next whole segment.
        running = self.flight_stretch * np.minimum(running, self.flight_pace)
        sample = np.where(first, fresh, running)
        # A burst that is acked before the next one leaves has nothing in flight before it: its own rate is the sample.
        burst = np.minimum(seen.quantum, seen.delivered)
        alone = burst / (seen.least_rtt_ms + burst / path.rate)
        return np.where(alone > seen.pace, np.maximum(sample, alone), sample)

    def _check_full(self, counted: np.ndarray) -> None:
        who = counted & ~self.full
        grew = self.best[:, 0] >= GROWTH * self.full_bw
        self.full_bw = np.where(who & grew, self.best[:, 0], self.full_bw)
        self.full_count = np.where(who, np.where(grew, 0.0, self.full_count + 1.0), self.full_count)
        self.full |= self.full_count >= FULL_ROUNDS

    def _min_rtt(self, first: np.ndarray, seen: Round) -> None:
        expired = self.now_ms - self.min_rtt_at_ms > MIN_RTT_WINDOW_MS
        rtt = seen.least_rtt_ms
        lower = (rtt <= self.min_rtt_ms) | expired
        self.min_rtt_ms = np.where(lower, rtt, self.min_rtt_ms)
        self.lowest_rtt_ms = np.minimum(self.lowest_rtt_ms, rtt)
        self.min_rtt_at_ms = np.where(lower, self.now_ms, self.min_rtt_at_ms)
        # ProbeRTT, unless the sample came after idling (Linux bbr_update_min_rtt, idle_restart).
        enter = expired & ~first
        until = self.now_ms + seen.duration_ms + PROBE_RTT_MS
        self.probe_rtt_until_ms = np.where(enter, until, self.probe_rtt_until_ms)

    def _extra_acked(self, first: np.ndarray, seen: Round) -> None:
        # Acks bunch when the delay falls within an upload (Linux bbr_update_ack_aggregation).
        before = np.where(self.stalled, 0.0, self.last_rtt_ms - seen.rtt_ms)
        fall_ms = np.minimum(np.maximum(before, seen.fall_ms), EXTRA_MAX_MS)
        # What leaves in one piece is acked in one piece.
        excess = np.minimum(self.best[:, 0] * fall_ms + seen.quantum, seen.delivered)
        self.extra_rounds += 1.0
        turn = np.flatnonzero(self.extra_rounds >= EXTRA_ROUNDS)
        self.extra[turn, 1] = self.extra[turn, 0]
        self.extra[turn, 0] = 0.0
        self.extra_rounds[turn] = 0.0
        self.extra[:, 0] = np.maximum(self.extra[:, 0], excess)

    def _cycle(self, first: np.ndarray, seen: Round) -> None:
        # A phase lasts at least one minimum RTT, so a long round covers several
        # (Linux bbr_is_next_cycle_phase).
        passed = np.clip(np.floor(seen.duration_ms / self.min_rtt_ms), 1.0, 8.0)
        steps = np.where(first, 1.0, passed)
        # The probing phase lasts until its gain shows in flight or something is lost (the same function).
        wanted = CYCLE[0] * self.best[:, 0] * self.min_rtt_ms + 3.0 * self.goal() + 2.0
        short = (seen.lost == 0) & (seen.sent < wanted)
        steps = np.where(short, np.minimum(steps, (8.0 - self.phase) % 8.0), steps)
        self.phase = np.where(self.full, (self.phase + steps) % 8.0, self.phase)
        at = self.phase.astype(np.intp), passed.astype(np.intp) - 1
        mean_gain = MEAN_GAIN[at]
        self.stretch = np.where(self.full, self._best_stretch()[at], 1.0)
        mean_gain = np.where(short & (self.phase == 0.0), CYCLE[0], mean_gain)
        gain = np.where(self.full, mean_gain, HIGH_GAIN)
        pace = PACING_MARGIN * gain * self.best[:, 0]
        # Before the pipe is full the rate only rises (Linux bbr_set_pacing_rate).
        self.pace = np.where(self.full, pace, np.maximum(self.pace, pace))

    def _set_window(self, seen: Round) -> None:
        gain = np.where(self.full, CWND_GAIN, HIGH_GAIN)
        target = gain * self.best[:, 0] * self.min_rtt_ms + 3.0 * self.goal()  # Linux bbr_quantization_budget
        target += np.where(self.full, np.maximum(self.extra.max(axis=1), ACK_SEGMENTS), 0.0)
        target += np.where(self.full & (self.phase == 0.0), 2.0, 0.0)  # Linux bbr_quantization_budget
        target = np.maximum(2.0 * np.ceil(target / 2.0), MIN_WINDOW)
        grown = self.cwnd + seen.delivered
        grow = self.cwnd < target
        self.cwnd = np.where(self.full, np.minimum(grown, target), np.where(grow, grown, self.cwnd))
        self.cwnd = np.maximum(self.cwnd, MIN_WINDOW)
        self._conserve(seen, target)

    def _conserve(self, seen: Round, target: F64) -> None:
        # A recovery begins with one round of packet conservation. Losses found before it ends prolong it without
        # another: the window grows again by what is acked, less what is lost (Linux
        # bbr_set_cwnd_to_recover_or_restore). A timeout starts again from one segment.
        longer = seen.first_loss < self.recovered
        most = np.where(self.full, target, np.maximum(target, self.conserve))  # Startup cuts nothing
        grown = np.minimum(self.conserve + seen.delivered - seen.lost, most)
        window = np.maximum(np.where(longer, grown, seen.delivered), MIN_WINDOW)
        hurt = seen.lost > 0
        self.conserve = np.where(seen.timeout, 1.0, np.where(hurt, window, 0.0))
        self.recovered = np.where(hurt & ~seen.timeout, seen.last_loss, 0.0)
