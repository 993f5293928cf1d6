"""From the device to the node: what a request meets on its link, and which table entries it needs.

The look-ups are kept apart from the arithmetic, so that those of many episodes can be made together
(`kernel.step_all`).
"""

from __future__ import annotations

from typing import Any

from .compiling import inlined
from .node_bank import TICK_MS
from .records import GIVEN_UP_MS, JITTER_BITS, SERVICE_BITS, WORD_BITS
from .units import S_PER_MS

SCRAMBLE, LAST_WORD = 2654435769, 0xFFFFFFFF  # 2^32 over the golden ratio
BINS_PER_KB = 4.0  # resolution of the look-up from payload to the transfer table's payload bin
PER_S = S_PER_MS
TICKS_PER_MS = 1.0 / TICK_MS


@inlined
def history_entry(p: Any, level: int, tick: int) -> int:
    """Entry of a node history at a tick, counted from the history's start; it is read in a circle."""
    return (level << p.tick_bits) + (tick & ((1 << p.tick_bits) - 1))


@inlined
def find_transfer(
    site: Any, p: Any, e: Any, b: int, nodes: Any, integers: Any, worlds: Any, payload_kb: float, noise: int,
    s: Any,
) -> None:  # fmt: skip
    """Note the request, and where the transfer table has its further round trips and its next state.

    The arguments are those of `physics.serve`; ``s`` is the `SENDING` to fill.
    """
    if p.split == 1:
        payload_kb = p.activation_kb
    s.payload_kb, s.noise, s.entry = payload_kb, noise, 0
    if p.tcp == 1:
        node = nodes[b, p.node]
        # After a long silence the connection starts afresh, and after an outage in which its bytes waited too long.
        held_ms = worlds[b, site.row_blocked + p.link] - e.issued_ms
        silent = e.issued_ms - node.position_ms > p.idle_reset_ms
        state = p.initial_state if silent or held_ms > GIVEN_UP_MS else node.connection
        s.entry = p.recovery + 2 * (
            state * p.state_stride
            + integers[p.segment_bin + int(payload_kb * BINS_PER_KB)] * p.segment_stride
            + int(worlds[b, site.row_path + p.link]) * p.path_stride
            + (noise >> (SERVICE_BITS + JITTER_BITS))
        )


@inlined
def compute_head(site: Any, p: Any, e: Any, floats: Any, s: Any) -> None:
    """Let the device compute its part of a split request: ``s`` gets the wait for the device, the part, and their end.

    The device takes its work in the order of the decisions, whole frames and first parts alike. The part has its own
    luck: other bits of the noise word, scrambled (Knuth's multiplicative hashing), than the part on the node.
    """
    luck = ((s.noise * SCRAMBLE) & LAST_WORD) >> (WORD_BITS - SERVICE_BITS)
    head = floats[p.head + luck] * e.service_factor
    if e.throttled > 0.0:
        head *= site.slowdown
    s.device_wait_ms, s.head_ms = max(e.device_free_ms - e.issued_ms, 0.0), head
    s.ready_ms = e.issued_ms + s.device_wait_ms + head


@inlined
def send(site: Any, p: Any, e: Any, b: int, links: Any, nodes: Any, floats: Any, worlds: Any, s: Any) -> None:
    """Bring the request to its node: fill ``s``, and note where the node's history tells of its queue."""
    now, node, payload_kb = e.issued_ms, nodes[b, p.node], s.payload_kb
    s.device_wait_ms, s.head_ms, s.in_gap = 0.0, 0.0, 0
    if p.split == 1:
        compute_head(site, p, e, floats, s)
        now = s.ready_ms
    sent, link_wait, upload, rtt, recovery = now, 0.0, 0.0, 0.0, 0.0
    radio_j, network_j, network_mg = 0.0, 0.0, 0.0
    connection, tail_until = node.connection, e.tail_until_ms
    if p.remote == 1:
        # Link: wait, bytes, round trip, recovery (network terms of Ng et al. eqs (1)-(4), with loss added).
        jitter = floats[p.jitter + ((s.noise >> SERVICE_BITS) & ((1 << JITTER_BITS) - 1))]
        link, blocked = links[b, p.link], worlds[b, site.row_blocked + p.link]
        start = max(now, link.free_ms, blocked)
        upload = payload_kb * worlds[b, site.row_ms_per_kb + p.link]
        rtt = max(worlds[b, site.row_rtt + p.link] + worlds[b, site.row_jitter + p.link] * jitter, 0.0)
        rtt += p.extra_rtt_ms
        if p.tcp == 1:
            recovery = s.extra_rtts * rtt
            connection = int(s.next_state)
        sending = upload + recovery
        if link.gap_until_ms > now:
            # While the device computes the part of a split request the link is idle: who is through by then goes first.
            early = max(now, link.gap_from_ms, blocked)
            if early < start and early + sending <= link.gap_until_ms:
                start, s.in_gap = early, 1
        link_wait = start - now
        sent = start + sending
        network_j = payload_kb * p.network_j_per_kb
        network_mg = network_j * worlds[b, site.row_network_grid + p.link]
        if site.radio > 0.0:
            # Sending keeps the radio at transmit power, then it stays awake for the tail; the request pays
            # for the awake time that it adds to what earlier requests had already caused.
            added = max(site.tail_ms - max(tail_until - start, 0.0), 0.0)
            radio_j = (sending * site.transmit_w + added * site.tail_w) * PER_S
            tail_until = sent + site.tail_ms
    arrival = sent + 0.5 * rtt
    s.sent_ms, s.link_wait_ms, s.upload_ms, s.rtt_ms, s.recovery_ms = sent, link_wait, upload, rtt, recovery
    s.radio_j, s.network_j, s.network_mg = radio_j, network_j, network_mg
    s.tail_until_ms, s.arrival_ms = tail_until, arrival
    s.connection, s.entry = connection, 0
    if p.shared == 1:
        s.level = int(worlds[b, site.row_level + p.node])
        s.tick = int((arrival + node.phase_ms) * TICKS_PER_MS)
        s.entry = p.bank + 2 * history_entry(p, s.level, s.tick)
