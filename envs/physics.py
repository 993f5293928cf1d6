"""The dynamics: what a placement costs given the world and what past placements left behind.

Written once, against `ops` (arrays over a batch, or plain floats). `serve` only reads the state, so a judge can
ask what each placement would give; `commit` writes what the chosen one changes; `advance` lets time pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .node_bank import TICK_MS
from .ops import BatchOps, ScalarOps
from .outcome import Outcome
from .site import Constants, Site
from .state import State
from .units import MG_PER_J_PER_G_PER_KWH, MS_PER_S

Number = Any
Ops = BatchOps | ScalarOps


class Request(NamedTuple):
    """The waiting request: payload, its bin for the transfer table, its noise, and where it stands in time."""

    payload_kb: Number
    segment: Number
    words: Number


class Effects(NamedTuple):
    """What a placement changes."""

    link: Number
    link_free_ms: Number
    node: Number
    position_ms: Number
    slots: list  # (row, work left) of each server of the node
    connection: Number
    done_ms: Number
    tail_until_ms: Number
    device_free_ms: Number


def serve(
    ops: Ops, site: Site, c: Constants, s: State, world: Any, request: Request, phase: Any, a: Number
) -> tuple[Outcome, Effects]:
    """Work out the outcome of placing the waiting request at ``a``; the state is not touched.

    Args:
        ops: arithmetic.
        site: the scenario's constants that are not tables.
        c: look-up tables.
        s: state before the request.
        world: rows of the tape at this moment, (R, B).
        request: the request.
        phase: start of each node's history (K, B), ms.
        a: placement (B,).
    """
    pick, at = ops.pick, ops.at
    remote = pick(c.is_remote, a)
    node, link = pick(c.node_of, a), pick(c.link_of, a)
    service_u, jitter_u, transfer_u = ops.noise(request.words, a)
    now = s.issued_ms

    # Link: wait, bytes, one round trip, recovery (latency terms of Ng et al. eqs (1)-(4), with loss added).
    start = ops.maximum(now, at(s.link_free_ms, link))
    start = ops.maximum(start, at(world, pick(c.row_blocked_until_ms, a)))
    upload = request.payload_kb * at(world, pick(c.row_ms_per_kb, a))
    jitter = pick(c.jitter, (pick(c.jitter_base, a) + jitter_u) * pick(c.has_jitter, a))
    rtt = at(world, pick(c.row_rtt_ms, a)) + at(world, pick(c.row_jitter_ms, a)) * jitter
    rtt = ops.maximum(rtt, 0.0) + pick(c.extra_rtt_ms, a)
    if site.has_tcp:
        fresh = now - at(s.last_used_ms, node) > pick(c.idle_reset_ms, a)
        state = ops.where(fresh, pick(c.initial_state, a), at(s.connection, node))
        path = ops.floor(at(world, pick(c.row_path, a)))
        entry = (
            pick(c.transfer_base, a)
            + state * pick(c.state_stride, a)
            + request.segment * pick(c.segment_stride, a)
            + path * pick(c.path_stride, a)
            + transfer_u * pick(c.draw_stride, a)
        )
        recovery = pick(c.extra_rtts, entry) * rtt
        connection = pick(c.next_state, entry)
    else:
        recovery = 0.0 * upload
        connection = at(s.connection, node)
    sent = start + upload + recovery
    arrival = sent + 0.5 * rtt

    # Node: own work drains while the other tenants alone would be idle (node_bank.py).
    passed = arrival - at(s.position_ms, node)
    wait_background, batch = 0.0, 1.0
    if site.has_background:
        uses = pick(c.uses_bank, a)
        level = ops.floor(at(world, pick(c.row_level, a)))
        base, ticks = pick(c.bank_base, a) + level * pick(c.bank_ticks, a), pick(c.bank_ticks, a)
        offset = at(phase, node)
        entry_now, idle_now = _history(ops, c, base, ticks, (arrival + offset) / TICK_MS)
        _, idle_then = _history(ops, c, base, ticks, (at(s.position_ms, node) + offset) / TICK_MS)
        wait_background = uses * pick(c.bank_wait, entry_now)
        batch = 1.0 + uses * (pick(c.bank_batch, entry_now) - 1.0)
        passed = ops.where(uses > 0.0, idle_now - idle_then, passed)
    passed = ops.maximum(passed, 0.0)
    first = pick(c.slot_base, a)
    slots = [(first, ops.maximum(at(s.remaining_ms, first) - passed, 0.0))]
    for extra in range(1, site.max_parallelism):
        row = first + ops.minimum(extra, pick(c.slot_last, a))
        slots.append((row, ops.maximum(at(s.remaining_ms, row) - passed, 0.0)))
    own_wait = slots[0][1]
    for _, left in slots[1:]:
        own_wait = ops.minimum(own_wait, left)
    node_wait = wait_background + own_wait

    # Service: the device slows down when hot; in a batch of b everybody waits for the batch.
    alone = pick(c.service_ms, pick(c.service_base, a) + service_u)
    if site.scenario.device.throttling is not None:
        alone = alone * (1.0 + (site.scenario.device.throttling.slowdown - 1.0) * s.throttled * (1.0 - remote))
    share = pick(c.batch_share, a)
    service = alone * (1.0 + share * (batch - 1.0))
    work = ops.where(batch > 1.0, alone * share, alone)  # what we add to the node's own work
    slots = _occupy(ops, slots, own_wait, work)

    link_wait = start - now
    latency = link_wait + upload + rtt + recovery + node_wait + service
    tail_until, radio_j = _radio(ops, site, c, s, a, remote, start, sent)
    outcome = _account(ops, site, c, s, world, request, a, batch, radio_j)
    outcome.link_wait_ms, outcome.upload_ms, outcome.rtt_ms = link_wait, upload, rtt
    outcome.recovery_ms, outcome.node_wait_ms, outcome.service_ms = recovery, node_wait, service
    outcome.latency_ms = latency
    outcome.missed = latency > site.scenario.slo.latency_ms
    device_free = ops.where(remote > 0.0, s.device_free_ms, arrival + own_wait + service)
    done = now + latency
    return outcome, Effects(link, sent, node, arrival, slots, connection, done, tail_until, device_free)


def _history(ops: Ops, c: Constants, base: Number, ticks: Number, tick: Number) -> tuple[Number, Number]:
    """Entry of a node history at a time, and the idle time cumulated since its start; it is read in a circle."""
    whole = ops.floor(tick)
    rounds = ops.floor(whole / ticks)
    entry = base + (whole - rounds * ticks)
    per_round = ops.pick(c.bank_idle, base + ticks - 1)
    within = (tick - whole - 0.5) * TICK_MS  # idle is kept at the middle of a tick
    idle = ops.pick(c.bank_idle, entry) + rounds * per_round
    return entry, idle + ops.where(ops.pick(c.bank_wait, entry) > 0.0, 0.0, within)


def _occupy(ops: Ops, slots: list, own_wait: Number, work: Number) -> list:
    """Give the work to the server that is free first (Kiefer and Wolfowitz 1955)."""
    if len(slots) == 1:
        return [(slots[0][0], slots[0][1] + work)]
    taken = False
    out = []
    for row, left in slots:
        mine = (left <= own_wait) & (taken == False)  # noqa: E712 - works on arrays and bools
        taken = taken | mine
        out.append((row, left + ops.where(mine, work, 0.0)))
    return out


def _radio(
    ops: Ops, site: Site, c: Constants, s: State, a: Number, remote: Number, start: Number, sent: Number
) -> tuple[Number, Number]:
    """Radio energy that the request adds (J) and when the radio may sleep again.

    Sending keeps the radio at transmit power; afterwards it stays awake for the tail. The request pays the
    tail that it adds to what earlier requests had already caused.
    """
    radio = site.scenario.device.radio
    if radio is None:
        return s.tail_until_ms, 0.0 * start
    tail_ms = radio.tail_s * MS_PER_S
    sending = (sent - start) * remote
    awake = ops.maximum(s.tail_until_ms, start)
    until = ops.where(remote > 0.0, sent + tail_ms, s.tail_until_ms)
    # The already paid tail that sending now replaces is at most the time spent sending.
    added = ops.maximum(until - awake - sending, 0.0) * remote
    joules = (ops.pick(c.transmit_w, a) * sending + ops.pick(c.tail_w, a) * added) / MS_PER_S
    return until, joules


def _account(
    ops: Ops, site: Site, c: Constants, s: State, world: Any, request: Request, a: Number, batch: Number, radio_j: Number
) -> Outcome:
    """Energy and carbon of both accounts (CarbonEdge eq (2): energy x intensity x PUE, summed by grid zone)."""
    pick, at = ops.pick, ops.at
    compute = pick(c.device_energy_j, a)
    server = pick(c.server_fixed_j, a) / batch + pick(c.server_each_j, a)
    network = pick(c.network_j_per_kb, a) * request.payload_kb
    gap = s.issued_ms - s.previous_ms
    device_idle = site.scenario.device.idle_power_w * gap / MS_PER_S
    server_idle = pick(c.server_idle_w, a) * gap / MS_PER_S
    if site.has_background:  # other tenants share the server's idle power by their number of requests
        level = ops.floor(at(world, pick(c.row_level, a)))
        server_idle = server_idle / (1.0 + gap * pick(c.background_per_ms, pick(c.rate_base, a) + level))
    device_grid = world[c.row_device_carbon] * MG_PER_J_PER_G_PER_KWH
    node_grid = at(world, pick(c.row_carbon, a)) * MG_PER_J_PER_G_PER_KWH
    network_grid = at(world, pick(c.row_network_carbon, a)) * MG_PER_J_PER_G_PER_KWH
    marginal_mg = (compute + radio_j) * device_grid + network * network_grid + server * node_grid
    idle_mg = device_idle * device_grid + server_idle * node_grid
    marginal_j = compute + radio_j + network + server
    return Outcome(
        placement=a, issued_ms=s.issued_ms, link_wait_ms=None, upload_ms=None, rtt_ms=None, recovery_ms=None,
        node_wait_ms=None, service_ms=None, latency_ms=None, missed=None, compute_energy_j=compute,
        radio_energy_j=radio_j, network_energy_j=network, server_energy_j=server, device_idle_energy_j=device_idle,
        server_idle_energy_j=server_idle, energy_j_marginal=marginal_j,
        energy_j_attributional=marginal_j + device_idle + server_idle, carbon_mg_marginal=marginal_mg,
        carbon_mg_attributional=marginal_mg + idle_mg, accuracy_miou=pick(c.accuracy, a),
    )  # fmt: skip


def commit(ops: Ops, site: Site, s: State, n: Any, outcome: Outcome, e: Effects) -> None:
    """Write what the chosen placement changes."""
    ops.put(s.link_free_ms, e.link, e.link_free_ms)
    ops.put(s.position_ms, e.node, ops.maximum(e.position_ms, ops.at(s.position_ms, e.node)))
    for row, left in reversed(e.slots):  # a row that stands twice keeps its first entry, which got the work
        ops.put(s.remaining_ms, row, left)
    ops.put(s.connection, e.node, e.connection)
    ops.put(s.last_used_ms, e.node, e.link_free_ms)
    ops.put(s.last_issue_ms, e.node, s.issued_ms)
    ops.put(s.done_ms, e.node, e.done_ms)
    ops.put(s.pending_ms, e.node, outcome.latency_ms)
    s.tail_until_ms, s.device_free_ms = e.tail_until_ms, e.device_free_ms
    # A miss is known when the answer comes or the deadline passes, whichever is first.
    known = s.issued_ms + ops.minimum(outcome.latency_ms, site.scenario.slo.latency_ms)
    ops.set_row(s.known_at_ms, n, known)
    ops.set_row(s.miss, n, outcome.missed)


def advance(ops: Ops, site: Site, s: State, next_issue_ms: Number, ambient: Number) -> None:
    """Let time pass to the next request: heat, throttling, and what the device learns meanwhile."""
    gap = next_issue_ms - s.issued_ms
    throttling = site.scenario.device.throttling
    if throttling is not None:
        busy = ops.minimum(ops.maximum(s.device_free_ms - s.issued_ms, 0.0), gap)
        tau = throttling.time_constant_s * MS_PER_S
        # First-order low-pass of utilisation, implicit Euler: h' = h + (busy - h x gap) / (tau + gap).
        s.heat = s.heat + (busy - s.heat * gap) / (tau + gap)
        felt = s.heat + ambient
        keep = ops.where(felt < throttling.cool_utilisation, 0.0, s.throttled)
        s.throttled = ops.where(felt > throttling.hot_utilisation, 1.0, keep)
    s.previous_ms, s.issued_ms = s.issued_ms, next_issue_ms
    known = ops.at(s.known_at_ms, s.next_known) <= next_issue_ms
    missed = ops.at(s.miss, s.next_known)
    s.spent_misses = s.spent_misses + ops.where(known, missed, 0.0)
    s.recent_miss = s.recent_miss + ops.where(known, RECENT_WEIGHT * (missed - s.recent_miss), 0.0)
    s.next_known = s.next_known + known
    for k in ops.sites(len(site.node_names)):
        answered = s.done_ms[k] <= next_issue_ms
        s.seen_ms[k] = ops.where(answered, s.pending_ms[k], s.seen_ms[k])
        s.answered_ms[k] = ops.where(answered, s.done_ms[k], s.answered_ms[k])


RECENT_WEIGHT = 0.05  # smoothing of the recent miss rate: about the last 20 answered requests
