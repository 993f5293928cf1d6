"""What the transfer table remembers of a connection between uploads, and how it is rebuilt from that.

A connection has some twenty numbers; the table keeps one index. What the index leaves out is set to what it
typically is (constants below, `assumed` unless a source stands beside them); tests/test_transfer_table.py
compares chains run through the table with the simulator that forgets nothing.
"""

from __future__ import annotations

import numpy as np

from .bbr import CWND_GAIN, FULL_ROUNDS, HIGH_GAIN, Bbr
from .bins import I64, random_bin
from .connection import Path
from .cubic import BETA, Cubic
from .version0 import BbrV0, CubicV0

JITTER_SHARE = 0.15  # slow jitter of a table's path, share of the RTT, where nothing else is said (assumed)
LEAST_SHARE = 0.05  # of the RTT: no path's least is less (assumed)

SLOW_START_WINDOWS = 10.0 * 2.0 ** np.arange(7)  # 10 ... 640 segments, before the first loss
WINDOWS = 2.0 * 1.22 ** np.arange(28)  # 2 ... 430 segments
# Startup ends when the first full-pipe round and three more have not grown: four steps, each a state.
STARTUP_STEPS = 4
STARTUP_PIPES = 5.0 * 1.7 ** np.arange(7)  # 5 ... 121 segments per RTT
PROBE_PIPES = 2.0 * 1.2 ** np.arange(26)  # 2 ... 190 segments per RTT; with wider steps connections get stuck
PROBE = STARTUP_STEPS * STARTUP_PIPES.size  # from here on: ProbeBW


class CubicStates:
    """States of CUBIC: the window before the first loss, or after it."""

    size = SLOW_START_WINDOWS.size + WINDOWS.size
    initial_state = 0
    # Linux restarts from ten segments once the window was halved for each idle RTO; two at 50 ms + 200 ms.
    idle_reset_s = 0.5
    connections = CubicV0  # what the table is made of

    @staticmethod
    def build(states: I64, path: Path, rng: np.random.Generator) -> Cubic:
        """Connections in the given states (M,)."""
        conn = CubicV0(path)
        unhurt = states < SLOW_START_WINDOWS.size
        # HyStart ends about every second slow start above its 16 segments before a loss does.
        slow = unhurt & ((states == 0) | (rng.random(states.size) < 0.5))
        conn.cwnd = np.concatenate([SLOW_START_WINDOWS, WINDOWS])[states]
        conn.ssthresh = np.where(slow, np.inf, conn.cwnd)
        # Somewhere on the way back from a reduction.
        conn.w_max = np.where(unhurt, 0.0, conn.cwnd / rng.uniform(BETA, 1.0, states.size))
        # Least of about 100 normal draws: what ten seconds show.
        conn.delay_min_ms = np.maximum(path.rtt_ms - 2.4 * path.jitter_ms, LEAST_SHARE * path.rtt_ms)
        return conn

    @staticmethod
    def read(conn: Cubic, path: Path, rng: np.random.Generator) -> I64:
        """The states that connections are in (M,)."""
        u = rng.random(conn.cwnd.size)
        unhurt = conn.w_max == 0.0
        # After a timeout the window is soon back at ssthresh.
        window = np.where(unhurt, conn.cwnd, np.maximum(conn.cwnd, np.minimum(conn.ssthresh, 1e6)))
        avoid = SLOW_START_WINDOWS.size + random_bin(window, WINDOWS, u)
        return np.where(unhurt, random_bin(conn.cwnd, SLOW_START_WINDOWS, u), avoid)


class BbrStates:
    """States of BBR: the phase, and the bandwidth estimate in segments per RTT.

    The shares below are medians or 10-90 % ranges of the simulator's own connections after 120 uploads of
    25-80 kB on paths of 0.2-3.5 % loss.
    """

    size = PROBE + PROBE_PIPES.size
    initial_state = int(np.argmin(np.abs(STARTUP_PIPES - 10.0)))  # ten segments in the first RTT
    idle_reset_s = float("inf")  # BBR keeps its model while idle (Linux tcp_output.c, cong_control)
    connections = BbrV0

    @staticmethod
    def build(states: I64, path: Path, rng: np.random.Generator) -> Bbr:
        """Connections in the given states (M,)."""
        conn, size = BbrV0(path), states.size
        conn.full = states >= PROBE
        bw = np.concatenate([*[STARTUP_PIPES] * STARTUP_STEPS, PROBE_PIPES])[states] / path.rtt_ms
        step = states // STARTUP_PIPES.size
        # Bins are wide: without the factor, rounding alone would look like 25 % growth.
        conn.full_bw = np.where(step > 0, 1.25 * bw, 0.0)
        conn.full_count = np.where(conn.full, FULL_ROUNDS, np.maximum(step - 1.0, 0.0))
        below = (0.49 - 0.22 * rng.random(size)) / JITTER_SHARE  # how far below the mean, in jitters
        conn.min_rtt_ms = np.maximum(path.rtt_ms - below * path.jitter_ms, LEAST_SHARE * path.rtt_ms)
        second = 1.0 - 0.2 * rng.random(size) ** 3
        conn.best = bw[:, None] * np.stack(
            [np.ones(size), second, second * (1.0 - 0.1 * rng.random(size) ** 3)], axis=1
        )
        conn.round_count = np.full(size, 100.0)
        age = np.floor(
            np.stack([rng.uniform(0, 10, size), rng.uniform(0, 3, size), rng.uniform(0, 2, size)], axis=1)
        )
        conn.best_round = 100.0 - np.minimum.accumulate(age, axis=1)
        # Quiet uploads in Startup do not refresh the filter: in every second connection it is out of date.
        conn.best_round[~conn.full & (rng.random(size) < 0.5)] -= 11.0
        conn.extra[:, 0] = 2.0 + bw * path.rtt_ms * rng.uniform(0.08, 0.24, size)
        gain = np.where(conn.full, CWND_GAIN, HIGH_GAIN)
        conn.pace = np.where(conn.full, 1.0, HIGH_GAIN) * bw
        conn.phase = np.where(rng.random(size) < 0.5, 0.0, rng.integers(2, 8, size))
        extra = np.where(conn.full, conn.extra[:, 0], 0.0)
        conn.cwnd = np.maximum(gain * bw * conn.min_rtt_ms + 3.0 * conn.goal() + extra, 4.0)
        return conn

    @staticmethod
    def read(conn: Bbr, path: Path, rng: np.random.Generator) -> I64:
        """The states that connections are in (M,)."""
        u = rng.random(conn.cwnd.size)
        steps = np.where(conn.full_bw > 0, conn.full_count + 1.0, 0.0)
        # In Startup the pace never falls, whatever becomes of the estimate below it.
        startup = random_bin(conn.pace * path.rtt_ms / HIGH_GAIN, STARTUP_PIPES, u)
        probe = random_bin(np.maximum(conn.best[:, 0] * path.rtt_ms, 1.0), PROBE_PIPES, u)
        return np.where(conn.full, PROBE + probe, steps.astype(np.int64) * STARTUP_PIPES.size + startup)


STATES = {"cubic": CubicStates, "bbr": BbrStates}
