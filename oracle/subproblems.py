"""The three kinds of small problems that the coupled bound falls into, each solved exactly by dynamic programming.

A plan is a path of the device (backlog, radio), of each link (lateness) and of each node's connection (congestion
state) through the same choices. The relaxation lets each of them choose for itself and charges the difference: one
that is offloaded costs the device ``offload[n]``, which the links are paid; a link that takes it in one bin of lateness
and leaves it in another is charged ``entry[n, l, j]`` and ``leave[n, l, j]``, which the nodes are paid. A link
that is still busy when the next request could start costs ``busy`` a ms of that step, and sending that leaves it busy
earns its node as much a ms: a link cannot be busy for longer than it is sent to, however its bins are rounded. Whatever
these prices are, the sum of the best values is below the best plan's; which prices make it largest is `dual`'s concern.

Every function fills its values-to-go, adds its choices to the counts, and returns its value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arcs import late_bin
from .compiling import compiled

IMPOSSIBLE = 1e18


@compiled
def settle(backlog_ms: float, gap_ms: float, levels: int) -> int:
    """Backlog after a gap, rounded down to whole ms: less work left is never worse."""
    return int(min(max(backlog_ms - gap_ms, 0.0), levels - 1.0))


@compiled
def device_values(
    local: Any, local_ms: Any, local_mg: Any, gap_ms: Any, slo_ms: float, price: float, offload: Any, wake_mg: Any,
    awake_mg: Any, values: Any,
) -> float:  # fmt: skip
    """Best value-to-go of the device at each request, radio state and backlog: values (N + 1, 2, D).

    The radio pays for the shorter of the gap between two transfers and its tail, so it may as well choose freely, after
    each request, between staying awake at a price per time and sleeping at the price of a whole tail later.
    """
    requests, levels = local_ms.shape[0], values.shape[2]
    values[requests] = 0.0
    for n in range(requests - 1, -1, -1):
        ahead, stay = values[n + 1], awake_mg[n]
        for d in range(levels):
            idle = settle(d, gap_ms[n], levels)
            sent = offload[n] + min(ahead[0, idle], ahead[1, idle] + stay)
            asleep, awake = sent + wake_mg[n], sent
            for a in local:
                busy = d + local_ms[n, a]
                cost = local_mg[n, a] + (price if busy > slo_ms else 0.0)
                left = settle(busy, gap_ms[n], levels)
                asleep = min(asleep, cost + ahead[0, left])
                awake = min(awake, cost + min(ahead[0, left], ahead[1, left] + stay))
            values[n, 0, d], values[n, 1, d] = asleep, awake
    return values[0, 0, 0]


@compiled
def device_path(
    local: Any, local_ms: Any, local_mg: Any, gap_ms: Any, slo_ms: float, price: float, offload: Any, wake_mg: Any,
    awake_mg: Any, values: Any, offloaded: Any,
) -> int:  # fmt: skip
    """Follow the best path: adds 1 to ``offloaded`` (N,) where it offloads; returns its misses."""
    requests, levels = local_ms.shape[0], values.shape[2]
    awake, d, misses = 0, 0, 0
    for n in range(requests):
        ahead, stay = values[n + 1], awake_mg[n]
        idle = settle(d, gap_ms[n], levels)
        best = offload[n] + (0.0 if awake else wake_mg[n]) + min(ahead[0, idle], ahead[1, idle] + stay)
        following, left, missed, sent = int(ahead[1, idle] + stay < ahead[0, idle]), idle, 0, 1
        for a in local:
            busy = d + local_ms[n, a]
            cost = local_mg[n, a] + (price if busy > slo_ms else 0.0)
            to = settle(busy, gap_ms[n], levels)
            keep = awake == 1 and ahead[1, to] + stay < ahead[0, to]
            cost += ahead[1, to] + stay if keep else ahead[0, to]
            if cost < best:
                best, following, left, missed, sent = cost, int(keep), to, int(busy > slo_ms), 0
        offloaded[n] += sent
        misses += missed
        awake, d = following, left
    return misses


@compiled
def link_choice(
    j: int, edges: Any, longest: float, step: float, busy: float, refund: float, offload: float, entry: Any,
    leave: Any, least: int, most: int, ahead: Any,
) -> tuple:  # fmt: skip
    """Best of leaving the link alone and of sending: (value, sent, next bin)."""
    low, high = 0.0 if j == 0 else edges[j - 1], min(edges[j], longest)
    none, rest = IMPOSSIBLE, 0
    for to in range(late_bin(edges, low - step), late_bin(edges, high - step) + 1):
        cost = ahead[to] + (busy * step if to > 0 else 0.0)
        if cost < none:
            none, rest = cost, to
    none -= refund * min(step, high)
    best, after = IMPOSSIBLE, 0
    for to in range(least, most + 1):
        cost = leave[to] + ahead[to] + (busy * step if to > 0 else 0.0)
        if cost < best:
            best, after = cost, to
    best += entry[j] - offload
    if best < none:
        return best, 1, after
    return none, 0, rest


@compiled
def link_values(
    edges: Any, start_ms: Any, longest: Any, possible: Any, busy: float, refund: Any, offload: Any, entry: Any,
    leave: Any, least: Any, most: Any, values: Any, sent: Any, entered: Any, left: Any,
) -> tuple:  # fmt: skip
    """One link: values (N + 1, J); adds its choices to sent (N,), entered and left (N, J).

    Returns (value, ms that it is busy when the next request could start).
    """
    requests, bins = sent.size, edges.size
    for j in range(bins):
        values[requests, j] = 0.0 if possible[requests, j] else IMPOSSIBLE
    for n in range(requests - 1, -1, -1):
        step = start_ms[n + 1] - start_ms[n]
        for j in range(bins):
            values[n, j] = IMPOSSIBLE
            if possible[n, j]:
                values[n, j] = link_choice(
                    j, edges, longest[n], step, busy, refund[n], offload[n], entry[n], leave[n], least[n, j],
                    most[n, j], values[n + 1],
                )[0]  # fmt: skip
    j, busy_ms = 0, 0.0
    for n in range(requests):
        step = start_ms[n + 1] - start_ms[n]
        _, taken, after = link_choice(
            j, edges, longest[n], step, busy, refund[n], offload[n], entry[n], leave[n], least[n, j], most[n, j],
            values[n + 1],
        )  # fmt: skip
        if after > 0:
            busy_ms += step
        if taken == 1:
            sent[n] += 1
            entered[n, j] += 1
            left[n, after] += 1
        j = after
    return values[0, 0], busy_ms


@compiled
def exit_bin(arc: Any, busy: float, leave: Any) -> int:
    """Of the bins that an arc may leave its link in, the best paid."""
    chosen, best = arc.least, -IMPOSSIBLE
    for to in range(arc.least, arc.most + 1):
        payment = leave[to] + (busy * arc.sending_ms if to > 0 else 0.0)
        if payment > best:
            chosen, best = to, payment
    return chosen


@compiled
def arc_cost(arc: Any, price: float, busy: float, entry: Any, leave: Any) -> float:
    """Cost of an arc less what its link pays for it."""
    least, most, earned = arc.least, arc.most, busy * arc.sending_ms
    paid = leave[least] + (earned if least > 0 else 0.0)
    for to in range(least + 1, most + 1):
        paid = max(paid, leave[to] + earned)
    return arc.cost + price * arc.missed - entry[arc.late] - paid


@compiled
def node_values(
    arcs: Any, first: Any, price: float, busy: float, entry: Any, leave: Any, initial: int, values: Any, entered: Any,
    left: Any,
) -> tuple:  # fmt: skip
    """One node: values (N + 1, S); takes its choices from entered and left (N, J).

    Returns (value, misses, ms of sending that leave the link busy).

    Args:
        arcs, first: the node's arcs of request n are ``first[n]`` to ``first[n + 1]``.
        price: carbon that a miss costs, mg.
        busy: price of a busy link, mg per ms.
        entry, leave: prices (N, J) of its link.
        initial: the connection's first congestion state.
    """
    requests = entry.shape[0]
    values[requests] = 0.0
    for n in range(requests - 1, -1, -1):
        ahead, here, enter, leaving = values[n + 1], values[n], entry[n], leave[n]
        here[:] = ahead
        for i in range(first[n], first[n + 1]):
            arc = arcs[i]
            cost = arc_cost(arc, price, busy, enter, leaving) + ahead[arc.after]
            if cost < here[arc.before]:
                here[arc.before] = cost
    state, misses, busy_ms = initial, 0, 0.0
    for n in range(requests):
        if values[n, state] == values[n + 1, state]:
            continue
        for i in range(first[n], first[n + 1]):
            arc = arcs[i]
            if arc.before != state:
                continue
            if arc_cost(arc, price, busy, entry[n], leave[n]) + values[n + 1, arc.after] == values[n, state]:
                to = exit_bin(arc, busy, leave[n])
                if to > 0:
                    busy_ms += arc.sending_ms
                entered[n, arc.late] -= 1
                left[n, to] -= 1
                misses += arc.missed
                state = arc.after
                break
    return values[0, initial], misses, busy_ms


@compiled
def arcs_within(
    arcs: Any, first: Any, price: float, busy: float, entry: Any, leave: Any, initial: int, values: Any,
    slack: float, kept: Any,
) -> None:  # fmt: skip
    """Mark the arcs of a node on paths that are at most ``slack`` worse than its best one."""
    requests, states = entry.shape[0], values.shape[1]
    so_far, following = np.full(states, IMPOSSIBLE), np.empty(states)
    so_far[initial] = 0.0
    limit = values[0, initial] + slack
    for n in range(requests):
        following[:] = so_far
        enter, leaving, ahead = entry[n], leave[n], values[n + 1]
        for i in range(first[n], first[n + 1]):
            arc = arcs[i]
            cost = so_far[arc.before] + arc_cost(arc, price, busy, enter, leaving)
            kept[i] = cost + ahead[arc.after] <= limit
            following[arc.after] = min(following[arc.after], cost)
        so_far[:] = following
