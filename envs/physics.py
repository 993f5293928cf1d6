"""The dynamics of one request: what a placement costs given the world and what past placements left behind.

`serve` only reads the state, so a judge can ask what each placement would give; `commit` writes what the chosen one
changes; `advance` lets time pass to the next request. All are scalar functions, compiled where numba is installed.
"""

from __future__ import annotations

from typing import Any

from . import next_request
from .beliefs import believe_computing, believe_sending, sent_mbps
from .compiling import inlined
from .records import SERVICE_BITS
from .sending import PER_S, TICKS_PER_MS, history_entry

advance = inlined(next_request.advance)
_believe_sending, _believe_computing = inlined(believe_sending), inlined(believe_computing)
_sent_mbps = inlined(sent_mbps)


@inlined
def idle_until(p: Any, floats: Any, idle: Any, level: int, tick: int) -> float:
    """Time up to a tick in which the other tenants alone would have left the node idle, ms."""
    rounds = tick >> p.tick_bits
    return idle[p.bank_idle + history_entry(p, level, tick)] + rounds * floats[p.idle_per_round + level]


@inlined
def serve(
    site: Any, p: Any, a: int, e: Any, b: int, nodes: Any, servers: Any, floats: Any, idle: Any, worlds: Any,
    s: Any, o: Any,
) -> tuple:  # fmt: skip
    """Work out the outcome of placing the waiting request of episode ``b``; the state is not touched.

    Values stay in local variables until they are final: the compiler cannot keep a record's fields in registers.

    Args:
        site, p: records `SITE` and `PLACEMENT`; ``a`` is the placement's number.
        e, nodes, servers: state: the `EPISODE`; `NODE` (B, K), work left by server (B, Q).
        floats, idle: look-up tables (`constants.Tables`).
        worlds: the tape's rows at this moment (B, R).
        s: `SENDING`, filled by `sending.send` and with the node history's wait and batch.
        o: `OUTCOME` to fill.

    Returns:
        What `commit` needs beside ``s``: the node's own work done until the arrival (ms), our work it then has,
        when the device is done, the server taken.
    """
    now, node, arrival = e.issued_ms, nodes[b, p.node], s.arrival_ms
    link_wait, upload, rtt, recovery = s.link_wait_ms, s.upload_ms, s.rtt_ms, s.recovery_ms
    radio_j, network_j, network_mg = s.radio_j, s.network_j, s.network_mg
    service_u = s.noise & ((1 << SERVICE_BITS) - 1)

    # Node: what the other tenants leave of it, and our own work that is still there (Lindley's recursion; the server
    # that is free first takes the request, Kiefer and Wolfowitz 1955).
    wait, batch, background, passed = 0.0, 1.0, 0.0, max(arrival - node.position_ms, 0.0)
    if p.shared == 1:
        level, tick = s.level, s.tick
        wait, batch, background = s.wait_ms, s.batch, floats[p.background + level]
        if p.batches == 0:
            # On a shared FIFO node our work drains exactly while the tenants alone would leave it idle; on a batching
            # node their batches carry it along.
            then = int((node.position_ms + node.phase_ms) * TICKS_PER_MS)
            passed = max(
                idle_until(p, floats, idle, level, tick) - idle_until(p, floats, idle, level, then), 0.0
            )
    server, own_wait = p.first_server, max(servers[b, p.first_server] - passed, 0.0)
    for k in range(p.first_server + 1, p.first_server + p.servers):
        left = max(servers[b, k] - passed, 0.0)
        if left < own_wait:
            server, own_wait = k, left
    node_wait = wait + own_wait

    # Service: the device may be slower than believed, and slows down when hot; in a batch of b everybody waits for it.
    service = floats[p.service + service_u] * (1.0 + p.batch_share * (batch - 1.0))
    if p.remote == 0:
        service *= e.service_factor
        if e.throttled > 0.0:
            service *= site.slowdown
    device_wait, head = s.device_wait_ms, s.head_ms
    latency = device_wait + head + link_wait + upload + rtt + recovery + node_wait + service
    per_request = 1.0 / batch

    # Energy, then carbon = energy x intensity of the zone it is drawn from x PUE (CarbonEdge eq (2)).
    gap = now - e.previous_ms
    server_j = p.server_fixed_j * per_request + p.server_each_j  # active energy amortised over the batch
    device_idle_j, server_idle_j = gap * site.idle_w * PER_S, gap * p.server_idle_w * PER_S
    if p.shared == 1:  # tenants share the server's idle power by their number of requests
        server_idle_j /= 1.0 + gap * background
    device_grid, node_grid = worlds[b, site.row_grid], worlds[b, site.row_grid + p.node]
    on_device = p.device_j + radio_j
    marginal_j = on_device + network_j + server_j
    marginal_mg = on_device * device_grid + server_j * node_grid + network_mg
    o.energy_j_marginal, o.carbon_mg_marginal = marginal_j, marginal_mg
    o.energy_j_attributional = marginal_j + device_idle_j + server_idle_j
    o.carbon_mg_attributional = marginal_mg + (device_idle_j * device_grid + server_idle_j * node_grid)
    o.placement, o.issued_ms, o.latency_ms, o.missed = a, now, latency, 1 if latency > site.slo_ms else 0
    o.device_wait_ms, o.head_ms = device_wait, head
    o.link_wait_ms, o.upload_ms, o.rtt_ms, o.recovery_ms = link_wait, upload, rtt, recovery
    o.node_wait_ms, o.service_ms, o.accuracy_miou = node_wait, service, p.accuracy_miou
    o.compute_energy_j, o.radio_energy_j, o.network_energy_j, o.server_energy_j = (
        p.device_j,
        radio_j,
        network_j,
        server_j,
    )
    o.device_idle_energy_j, o.server_idle_energy_j = device_idle_j, server_idle_j
    reward(site, e, o)
    # Our part of a shared batch is what we add to the node's work.
    own_work = own_wait + service * per_request
    return passed, own_work, arrival + node_wait + service, server


@inlined
def reward(site: Any, e: Any, o: Any) -> None:
    """Reward: minus a weighted sum of named costs in physical units; the account is the scenario's.

    The weights are the episode's: they follow from its position of the dial (`dial.reward_weights`).
    """
    marginal, latency = site.marginal == 1, o.latency_ms
    carbon_mg = o.carbon_mg_marginal if marginal else o.carbon_mg_attributional
    o.energy_j, o.carbon_mg = o.energy_j_marginal if marginal else o.energy_j_attributional, carbon_mg
    carbon = -e.weight_carbon * carbon_mg
    miss = -e.weight_miss if latency > site.slo_ms else 0.0
    excess = -e.weight_excess * max(latency - site.slo_ms, 0.0) * PER_S
    in_time_miou = o.accuracy_miou if latency <= site.slo_ms else 0.0  # a late answer has none
    accuracy = -e.weight_accuracy * (site.best_miou - in_time_miou)
    o.reward_carbon, o.reward_slo_miss, o.reward_latency_excess, o.reward_accuracy = (
        carbon,
        miss,
        excess,
        accuracy,
    )
    o.reward = carbon + miss + excess + accuracy


@inlined
def commit_head(site: Any, p: Any, e: Any, node: Any, servers: Any, b: int, device: Any, s: Any) -> None:
    """Write what the first part of a split request leaves on the device, which is node 0 with one server."""
    now = e.issued_ms
    servers[b, 0] = max(servers[b, 0] - max(now - node.position_ms, 0.0), 0.0) + s.head_ms
    node.position_ms = max(now, node.position_ms)
    e.device_free_ms = s.ready_ms
    computing = _believe_computing(site, e, device, now, p.head_ms)
    computing.done_ms, computing.service_ms = s.ready_ms, s.head_ms


@inlined
def occupy(link: Any, now: float, s: Any) -> None:
    """Write how long a link is taken. A split request reserves its time, so the link has a gap before it.

    One gap is kept, the next to come; of a second one behind it the link knows nothing until the first has passed.
    """
    if s.in_gap == 1:
        link.gap_from_ms = s.sent_ms
        return
    if s.head_ms > 0.0 and link.gap_until_ms <= now:
        link.gap_from_ms, link.gap_until_ms = max(link.free_ms, now), s.sent_ms - s.upload_ms - s.recovery_ms
    link.free_ms = s.sent_ms


@inlined
def commit(
    site: Any, p: Any, e: Any, b: int, links: Any, nodes: Any, servers: Any, device: Any, known_at: Any, miss: Any,
    worlds: Any, expected_ms: float, s: Any, o: Any, effect: tuple,
) -> None:  # fmt: skip
    """Write what the chosen placement changes; ``known_at`` and ``miss`` are by request (N + 1, B).

    ``device`` is the episode's ring of `COMPUTING`, ``expected_ms`` the latency that the device believed in, ``s`` and
    ``effect`` are what `serve` took and gave.
    """
    now, latency, node = e.issued_ms, o.latency_ms, nodes[b, p.node]
    passed, own_work, device_done, server = effect
    if p.split == 1:
        commit_head(site, p, e, nodes[b, 0], servers, b, device, s)
    if p.remote == 1:
        link = links[b, p.link]
        occupy(link, now, s)
        _believe_sending(link, now, s.payload_kb, worlds[b, site.row_believed_rate + p.link])
    else:
        e.device_free_ms = device_done
        computing = _believe_computing(site, e, device, now, worlds[b, site.row_believed])
        computing.done_ms, computing.service_ms = device_done, o.service_ms
    for k in range(p.first_server, p.first_server + p.servers):
        servers[b, k] = max(servers[b, k] - passed, 0.0)
    servers[b, server] = own_work
    node.position_ms = max(s.arrival_ms, node.position_ms)
    node.connection = s.connection
    # An unanswered request is followed to its end; of those sent meanwhile nothing is noted.
    if node.done_ms <= now:
        node.done_ms, node.pending_ms, node.expected_ms = now + latency, latency, expected_ms
        node.pending_mbps = _sent_mbps(s.payload_kb, s.upload_ms + s.recovery_ms)
    e.tail_until_ms = s.tail_until_ms
    # A miss is known when the answer comes or the deadline passes, whichever is first.
    known_at[e.n, b] = now + min(latency, site.slo_ms)
    miss[e.n, b] = o.missed
