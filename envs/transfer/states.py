"""What the transfer table remembers of a connection between two uploads, and how a connection is rebuilt from it.

A connection has some twenty numbers; the table keeps one index. What the index leaves out is set to what it
typically is (constants below, `assumed` unless a source stands beside them); tests/test_transfer_table.py
compares chains run through the table with the simulator that forgets nothing.
"""

from __future__ import annotations

import numpy as np

from .bbr import CWND_GAIN, FULL_ROUNDS, HIGH_GAIN, Bbr
from .bins import I64, random_bin
from .connection import F64, Path
from .cubic import BETA, Cubic

JITTER_SHARE = 0.15  # slow jitter of the table's path, share of the RTT (assumed; emu-a and emu-b have 0.33)
MIN_RTT_SHARE = 1.0 - 2.4 * JITTER_SHARE  # least of about 100 normal draws: what ten seconds show

SLOW_START_WINDOWS = 10.0 * 2.0 ** np.arange(7)  # 10 ... 640 segments
WINDOWS = 2.0 * 1.35 ** np.arange(19)  # 2 ... 440 segments
PIPES = 2.5 * 1.6 ** np.arange(12)  # 2.5 ... 440 segments per RTT
BBR_MODES = 3  # Startup, Startup with half its full-pipe count, ProbeBW


class CubicStates:
    """States of CUBIC: the window in slow start, or in congestion avoidance."""

    size = SLOW_START_WINDOWS.size + WINDOWS.size
    initial_state = 0
    # Linux restarts from ten segments once the window was halved for each idle RTO; two at 50 ms + 200 ms.
    idle_reset_s = 0.5

    @staticmethod
    def build(states: I64, path: Path, rng: np.random.Generator) -> Cubic:
        """Connections in the given states (M,)."""
        conn = Cubic(path)
        slow = states < SLOW_START_WINDOWS.size
        conn.cwnd = np.concatenate([SLOW_START_WINDOWS, WINDOWS])[states]
        conn.ssthresh = np.where(slow, np.inf, conn.cwnd)
        # Somewhere on the way back from a reduction.
        conn.w_max = np.where(slow, 0.0, conn.cwnd / rng.uniform(BETA, 1.0, states.size))
        conn.delay_min_ms = path.rtt_ms * MIN_RTT_SHARE
        return conn

    @staticmethod
    def read(conn: Cubic, path: Path, rng: np.random.Generator) -> I64:
        """The states that connections are in (M,)."""
        u = rng.random(conn.cwnd.size)
        slow = np.isinf(conn.ssthresh)
        # After a timeout the window is soon back at ssthresh.
        window = np.where(conn.cwnd < conn.ssthresh, np.sqrt(conn.cwnd * conn.ssthresh), conn.cwnd)
        avoid = SLOW_START_WINDOWS.size + random_bin(np.where(slow, conn.cwnd, window), WINDOWS, u)
        return np.where(slow, random_bin(conn.cwnd, SLOW_START_WINDOWS, u), avoid)


class BbrStates:
    """States of BBR: the phase, and the bandwidth estimate in segments per RTT."""

    size = BBR_MODES * PIPES.size
    initial_state = int(np.argmin(np.abs(PIPES - 10.0)))  # ten segments in the first RTT
    idle_reset_s = float("inf")  # BBR keeps its model while idle (Linux tcp_output.c, cong_control)

    @staticmethod
    def build(states: I64, path: Path, rng: np.random.Generator) -> Bbr:
        """Connections in the given states (M,)."""
        conn, size = Bbr(path), states.size
        mode, pipe = np.divmod(states, PIPES.size)
        bw = PIPES[pipe] / path.rtt_ms
        conn.full = mode == 2
        # Startup ends after a first full-pipe round and three more: two states share these four steps.
        step = np.where(mode == 0, 0.0, 2.0) + rng.integers(0, 2, size)
        conn.full_bw = np.where(step > 0, bw, 0.0)
        conn.full_count = np.where(conn.full, FULL_ROUNDS, np.maximum(step - 1.0, 0.0))
        conn.min_rtt_ms = path.rtt_ms * MIN_RTT_SHARE
        age = np.sort(rng.uniform(0.0, 10.0, (size, 3)), axis=1)[:, ::-1]
        conn.round_count = np.full(size, 100.0)
        conn.best = bw[:, None] * np.array([1.0, 0.9, 0.8])
        conn.best_round = 100.0 - age
        gain = np.where(conn.full, CWND_GAIN, HIGH_GAIN)
        conn.pace = np.where(conn.full, 1.0, HIGH_GAIN) * bw
        conn.phase = np.where(conn.full, rng.integers(0, 8, size), 2).astype(float)
        conn.cwnd = np.maximum(gain * bw * conn.min_rtt_ms + 3.0 * conn.quantum(), 4.0)
        return conn

    @staticmethod
    def read(conn: Bbr, path: Path, rng: np.random.Generator) -> I64:
        """The states that connections are in (M,)."""
        steps = np.where(conn.full_bw > 0, conn.full_count + 1.0, 0.0)
        mode = np.where(conn.full, 2, np.where(steps >= 2.0, 1, 0))
        pipe: F64 = np.maximum(conn.best[:, 0] * path.rtt_ms, 1.0)
        return mode * PIPES.size + random_bin(pipe, PIPES, rng.random(pipe.size))


STATES = {"cubic": CubicStates, "bbr": BbrStates}
