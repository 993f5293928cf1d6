"""The records that the compiled physics works on: one NumPy structured type per kind of thing.

`PLACEMENT` and `SITE` are constant; `EPISODE`, `LINK` and `NODE` are the state that past placements leave behind;
`OUTCOME` is what one placement gave. Times are in ms since the episode began unless the name says otherwise.
"""

from __future__ import annotations

import numpy as np

SERVICE_BITS, JITTER_BITS, TRANSFER_BITS = 12, 10, 5  # a noise word holds three quantile indices
NOISE_BITS = SERVICE_BITS + JITTER_BITS + TRANSFER_BITS
WORD_BITS = 32  # of a noise word once it is scrambled

_F, _I = "f8", "i8"
_U = "u4"  # of what is never negative: compiled code need not ask whether an index counts from the end


def _record(floats: str, integers: str = "", kind: str = _I) -> np.dtype:
    return np.dtype([(n, _F) for n in floats.split()] + [(n, kind) for n in integers.split()])


# One per placement. Energies include PUE. `service` to `background` are starts of its tables (`constants.Tables`).
PLACEMENT = _record(
    "extra_rtt_ms device_j server_fixed_j server_each_j network_j_per_kb server_idle_w accuracy_miou batch_share "
    "idle_reset_ms head_ms activation_kb",
    "remote split head node link tcp shared batches service jitter recovery segment_bin bank "
    "bank_idle idle_per_round background state_stride segment_stride path_stride initial_state tick_bits first_server "
    "servers",
    _U,
)

# One per scenario.
SITE = _record(
    "slo_ms requests throttling slowdown time_constant_ms hot cool radio transmit_w tail_w tail_ms idle_w "
    "best_miou miss_budget",
    "marginal request_clock closed_loop links nodes placements row_rtt row_jitter row_ms_per_kb row_blocked row_path "
    "row_network_grid row_level row_grid row_believed row_believed_rate row_features features",
    _U,
)

# One per episode.
EPISODE = _record(
    "issued_ms previous_ms device_free_ms believed_device_ms heat throttled tail_until_ms spent_misses recent_miss "
    "ambient service_factor service_ratio weight_carbon weight_miss weight_excess weight_accuracy",
    "n next_known over row begun ended",
)

# One per episode and request on the device, the newest few in a ring: number `begun` - 1 is the newest, those below
# `ended` are known to be done. When each is done and when that is believed; what it takes, and what it should by the
# calibration and the state of throttling (0: not measured).
COMPUTING = _record("done_ms believed_ms service_ms calibrated_ms")
COMPUTING_SLOTS = 8  # a power of two; a longer queue has missed its deadlines long before

# One per episode and link: when it has sent what it was given, and when the device believes so; what answers over it
# have told: smoothed residual and its deviation, rate at which the newest answered request was sent, and when that was
# placed.
# A split request takes its place on the link when the device has computed its part, which leaves a gap before it; a
# later request that fits may go first.
LINK = _record("free_ms believed_ms residual_ms deviation_ms sent_mbps sent_at_ms gap_from_ms gap_until_ms")

# One per episode and node: when its own work was last counted, the connection's congestion state, end and latency of
# the request that is followed (the first since the last answer), and the last latency that the device has seen, with
# the time it saw it. Of that request also what the device expected of it, and the rate at which it was sent (0: not
# known); `residual_ms` belongs to the last answer.
NODE = _record(
    "position_ms done_ms pending_ms answered_ms seen_ms phase_ms expected_ms pending_mbps residual_ms",
    "connection link",
)

# One per request on its way to a node: what `sending` found out. ``entry`` is what to look up next: the transfer
# table's further round trips and next state, then the node history's wait and batch.
SENDING = _record(
    "payload_kb extra_rtts next_state device_wait_ms head_ms ready_ms sent_ms link_wait_ms upload_ms rtt_ms "
    "recovery_ms radio_j network_j network_mg tail_until_ms arrival_ms wait_ms batch",
    "noise connection level tick entry episode in_gap",
)

# One per episode and request placed; the terms are explained in `outcome.Outcome`.
OUTCOME = _record(
    "issued_ms device_wait_ms head_ms link_wait_ms upload_ms rtt_ms recovery_ms node_wait_ms service_ms latency_ms "
    "compute_energy_j radio_energy_j network_energy_j server_energy_j device_idle_energy_j server_idle_energy_j "
    "energy_j_marginal energy_j_attributional carbon_mg_marginal carbon_mg_attributional energy_j carbon_mg "
    "accuracy_miou reward_carbon reward_slo_miss reward_latency_excess reward_accuracy reward",
    "placement missed",
)

LONG_AGO_MS = -1e9
# A connection whose bytes nobody acknowledges for so long is given up and opened again (TCP_USER_TIMEOUT); the device's
# own client asks its kernel for just this. Otherwise one that lived through an outage would stay silent for about as
# long again, until its backed-off retransmission is due.
GIVEN_UP_MS = 3000.0
