"""The dynamics: what a placement costs given the world and what past placements left behind.

Written once, against `ops` (arrays over a batch, or plain floats). `serve` only reads the state, so a judge can
ask what each placement would give; `commit` writes what the chosen one changes; `advance` lets time pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .account import account
from .constants import BINS_PER_KB, Constants
from .node_bank import TICK_MS
from .outcome import Outcome
from .site import Site
from .state import State
from .units import MS_PER_S

Number = Any
RECENT_WEIGHT = 0.05  # smoothing of the recent miss rate: about the last 20 answered requests


class Request(NamedTuple):
    """The waiting request: its payload and its noise word."""

    payload_kb: Number
    words: Number


class Effects(NamedTuple):
    """What a placement changes."""

    link: Number
    link_free_ms: Number
    node: Number
    position_ms: Number
    servers: list  # (handle, work left) of each server of the node
    connection: Number
    done_ms: Number
    tail_until_ms: Number
    device_free_ms: Number
    remote: Number


def serve(
    ops: Any, site: Site, c: Constants, s: State, world: Any, request: Request, phase: Any, a: Number
) -> tuple[Outcome, Effects]:
    """Work out the outcome of placing the waiting request at ``a``; the state is not touched.

    Args:
        ops: arithmetic, `BatchOps` or `ScalarOps`.
        site: names and switches of the scenario.
        c: look-up tables.
        s: state before the request.
        world: rows of the tape at this moment (R, B).
        request: the request.
        phase: start of each node's history (K, B), ms.
        a: placement (B,).
    """
    pick, read, rows = ops.pick, ops.read, site.rows.start
    remote = pick(c.is_remote, a)
    service_u, jitter_u, transfer_u = ops.noise(request.words, pick(c.salt, a))
    now = s.issued_ms
    node = ops.handle(pick(c.node, a))

    # Link: wait, bytes, round trip and recovery (network terms of Ng et al. eqs (1)-(4), with loss added).
    link = ops.handle(pick(c.link, a))
    free = read(s.link_free_ms, 0, link)
    start = ops.maximum(ops.maximum(free, read(world, rows["blocked_until_ms"], link)), now)
    link_wait = (start - now) * remote
    upload = request.payload_kb * read(world, rows["ms_per_kb"], link) * remote
    jitter = pick(c.jitter, jitter_u + pick(c.jitter_start, a))
    rtt = ops.maximum(read(world, rows["rtt_ms"], link) + read(world, rows["jitter_ms"], link) * jitter, 0.0)
    rtt = (rtt + pick(c.extra_rtt_ms, a)) * remote
    position = read(s.position_ms, 0, node)
    connection = read(s.connection, 0, node)
    if site.has_tcp:
        # After a long silence the connection starts afresh.
        state = ops.where(now - position > pick(c.idle_reset_ms, a), pick(c.initial_state, a), connection)
        path = ops.floor(read(world, rows["path"], link))
        entry = (
            state * pick(c.state_stride, a)
            + pick(c.segment_bin, ops.floor(request.payload_kb * BINS_PER_KB)) * pick(c.segment_stride, a)
            + path * pick(c.path_stride, a)
            + (transfer_u >> pick(c.draw_shift, a))
            + pick(c.transfer_start, a)
        )
        recovery = pick(c.extra_rtts, entry) * rtt  # rtt is zero on the device
        connection = pick(c.next_state, entry)
        transfer = link_wait + upload + recovery
    else:
        recovery = 0.0 * rtt
        transfer = link_wait + upload
    sent = now + transfer
    arrival = sent + 0.5 * rtt

    # Node: what the other tenants leave of it, and our own work that is still there (node_bank.py).
    passed = arrival - position
    batch: Number = 1.0
    wait: Number = 0.0
    level: Number = 0
    if site.has_background:
        shared = remote * pick(c.shared, a)
        level = ops.floor(read(world, rows["level"], node))
        offset = read(phase, 0, node)
        entry, round_now = _history(ops, c, a, level, arrival + offset)
        wait = pick(c.bank_wait_ms, entry) * shared
        if site.has_shared_fifo:
            # Exact: our work drains while the other tenants alone would be idle.
            then, round_then = _history(ops, c, a, level, position + offset)
            idle = pick(c.bank_idle_ms, entry) - pick(c.bank_idle_ms, then)
            idle = idle + (round_now - round_then) * pick(c.idle_per_round_ms, level + pick(c.level_start, a))
            passed = passed + (idle - passed) * shared * (1.0 - pick(c.batches, a))
        if site.has_batching:
            batch = (pick(c.bank_batch, entry) - 1.0) * shared + 1.0
    servers, own_wait = _servers(ops, site, c, s, a, node, ops.maximum(passed, 0.0))

    # Service: the device slows down when hot; in a batch of b everybody waits for the batch.
    alone = pick(c.service_ms, service_u + pick(c.service_start, a))
    if site.has_throttling:
        slower = site.scenario.device.throttling.slowdown - 1.0  # type: ignore[union-attr]
        alone = alone * ((s.throttled * slower) * (1.0 - remote) + 1.0)
    share = pick(c.batch_share, a)
    service = alone * ((batch - 1.0) * share + 1.0)
    work = service / batch  # our part of a shared batch is what we add to the node's own work
    node_wait = wait + own_wait
    here = node_wait + service
    latency = transfer + rtt + here

    tail_until, radio_j = s.tail_until_ms, 0.0 * latency
    if site.has_radio:
        tail_until, radio_j = _radio(ops, site, s, remote, now + link_wait, sent)
    outcome = account(ops, site, c, s, world, request.payload_kb, a, remote, node, link, level, batch, radio_j)
    outcome.link_wait_ms, outcome.upload_ms, outcome.rtt_ms = link_wait, upload, rtt
    outcome.recovery_ms, outcome.node_wait_ms, outcome.service_ms = recovery, node_wait, service
    outcome.latency_ms = latency
    outcome.missed = latency > site.scenario.slo.latency_ms
    link_free = free + (sent - free) * remote
    device_free = s.device_free_ms + (arrival + here - s.device_free_ms) * (1.0 - remote)
    servers = _occupy(ops, servers, own_wait, work)
    return outcome, Effects(
        link, link_free, node, ops.maximum(arrival, position), servers, connection, now + latency, tail_until, device_free,
        remote,
    )  # fmt: skip


def _history(ops: Any, c: Constants, a: Number, level: Number, time_ms: Number) -> tuple[Number, Number]:
    """Entry of a node history at a time; it is read in a circle, so also how many rounds have passed."""
    tick = ops.floor(time_ms * (1.0 / TICK_MS))
    bits = ops.pick(c.tick_bits, a)
    entry = (level << bits) + (tick & ops.pick(c.tick_mask, a)) + ops.pick(c.bank_start, a)
    return entry, tick >> bits


def _servers(
    ops: Any, site: Site, c: Constants, s: State, a: Number, node: Number, passed: Number
) -> tuple[list, Number]:
    """Own work left at each server of the node, and the least of it."""
    if site.max_parallelism == 1:
        left = ops.maximum(ops.read(s.remaining_ms, 0, node) - passed, 0.0)
        return [(node, left)], left
    first, last = ops.pick(c.first_server, a), ops.pick(c.last_server, a)
    servers = []
    for extra in range(site.max_parallelism):  # nodes with fewer servers see their last one again
        handle = ops.handle(first + ops.minimum(extra, last))
        servers.append((handle, ops.maximum(ops.read(s.remaining_ms, 0, handle) - passed, 0.0)))
    least = servers[0][1]
    for _, left in servers[1:]:
        least = ops.minimum(least, left)
    return servers, least


def _occupy(ops: Any, servers: list, own_wait: Number, work: Number) -> list:
    """Give the work to the server that is free first (Kiefer and Wolfowitz 1955)."""
    if len(servers) == 1:
        return [(servers[0][0], own_wait + work)]
    taken: Number = False
    out = []
    for handle, left in servers:
        mine = (left <= own_wait) & (taken == False)  # noqa: E712 - arrays and bools alike
        taken = taken | mine
        out.append((handle, left + ops.where(mine, work, 0.0)))
    return out


def _radio(ops: Any, site: Site, s: State, remote: Number, start: Number, sent: Number) -> tuple[Number, Number]:
    """When the radio may sleep again, and the radio energy that the request adds, J.

    Sending keeps the radio at transmit power; afterwards it stays awake for the tail. The request pays the
    tail that it adds to what earlier requests had already caused.
    """
    radio = site.scenario.device.radio
    assert radio is not None
    sending = (sent - start) * remote
    awake = ops.maximum(s.tail_until_ms, start)
    until = sent + radio.tail_s * MS_PER_S
    added = ops.maximum(until - awake - sending, 0.0) * remote
    joules = sending * (radio.transmit_power_w / MS_PER_S) + added * (radio.tail_power_w / MS_PER_S)
    return s.tail_until_ms + (until - s.tail_until_ms) * remote, joules


def commit(ops: Any, site: Site, s: State, world: Any, n: Any, payload_kb: Number, outcome: Outcome, e: Effects) -> None:
    """Write what the chosen placement changes."""
    _believe(ops, site, s, world, payload_kb, e)
    ops.write(s.link_free_ms, e.link, e.link_free_ms)
    ops.write(s.position_ms, e.node, e.position_ms)
    for handle, left in reversed(e.servers):  # a row that stands twice keeps its first entry, which got the work
        ops.write(s.remaining_ms, handle, left)
    if site.has_tcp:
        ops.write(s.connection, e.node, e.connection)
    ops.write(s.done_ms, e.node, e.done_ms)
    ops.write(s.pending_ms, e.node, outcome.latency_ms)
    s.tail_until_ms, s.device_free_ms = e.tail_until_ms, e.device_free_ms
    # A miss is known when the answer comes or the deadline passes, whichever is first.
    known = s.issued_ms + ops.minimum(outcome.latency_ms, site.scenario.slo.latency_ms)
    ops.set_row(s.known_at_ms, n, known)
    ops.set_row(s.miss, n, outcome.missed)


def _believe(ops: Any, site: Site, s: State, world: Any, payload_kb: Number, e: Effects) -> None:
    """Extend what the device believes about its own queues; it knows neither true rates nor true service times."""
    rows, now = site.rows, s.issued_ms
    if site.link_names:
        believed = ops.read(s.believed_link_ms, 0, e.link)
        sent = ops.maximum(believed, now) + payload_kb * ops.read(world, rows.start["believed_ms_per_kb"], e.link)
        ops.write(s.believed_link_ms, e.link, believed + (sent - believed) * e.remote)
    service = world[rows.start["believed_ms"]]  # the first placement is local
    if site.has_throttling:
        service = service * (s.throttled * (site.scenario.device.throttling.slowdown - 1.0) + 1.0)  # type: ignore[union-attr]
    believed = s.believed_device_ms
    done = ops.maximum(believed, now) + service
    s.believed_device_ms = believed + (done - believed) * (1.0 - e.remote)


def advance(ops: Any, site: Site, s: State, next_issue_ms: Number, ambient: Number) -> None:
    """Let time pass to the next request: heat, throttling, and what the device learns meanwhile."""
    gap = next_issue_ms - s.issued_ms
    throttling = site.scenario.device.throttling
    if throttling is not None:
        busy = ops.minimum(ops.maximum(s.device_free_ms - s.issued_ms, 0.0), gap)
        # First-order low-pass of utilisation, implicit Euler: h' = h + (busy - h x gap) / (tau + gap).
        s.heat = s.heat + (busy - s.heat * gap) / (gap + throttling.time_constant_s * MS_PER_S)
        felt = s.heat + ambient
        # Hysteresis: on above hot, off below cool, unchanged between.
        s.throttled = ops.maximum(s.throttled * (felt >= throttling.cool_utilisation), felt > throttling.hot_utilisation)
    s.previous_ms, s.issued_ms = s.issued_ms, next_issue_ms
    unread = ops.handle(s.next_known)
    known = ops.read(s.known_at_ms, 0, unread) <= next_issue_ms
    missed = ops.read(s.miss, 0, unread) * known
    s.spent_misses = s.spent_misses + missed
    s.recent_miss = s.recent_miss + (missed - s.recent_miss) * (known * RECENT_WEIGHT)
    s.next_known = s.next_known + known
    for k in ops.sites(len(site.node_names)):
        answered = s.done_ms[k] <= next_issue_ms
        ops.write_where(s.seen_ms, k, answered, s.pending_ms[k])
        ops.write_where(s.answered_ms, k, answered, s.done_ms[k])
