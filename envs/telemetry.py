"""What the device can know, second by second: probed, delayed and noisy, with ages; never the truth of now.

Row s shows what was measured up to row s - 1. The believed latencies and carbon are made from these values and
from believed parameters (median service times, a textbook wait), as a device would make them.
"""

from __future__ import annotations

import numpy as np

from .beliefs import BELIEVED_TOP_LOAD, local_numbers, predict, remote_numbers
from .compiling import COMPILED, compiled, inlined
from .dial import WISH_FEATURES, draw_wishes
from .link_sources import LinkRows
from .probe_filter import SMOOTHING
from .schema import LOCAL, Scenario
from .shifts import absent_nodes, hide_beliefs, hide_reports, silent_hours
from .site import Site
from .streams import Stream
from .units import SECONDS_PER_HOUR
from .world_types import F32
from .zone_sources import ZoneRows, pick_rows

_predict = inlined(predict)


def fill_telemetry(
    rows: F32,
    site: Site,
    keys: np.ndarray,
    links: dict[str, LinkRows],
    loads: dict[str, F32],
    zones: ZoneRows,
) -> None:
    """Fill the telemetry rows of a tape (R, S, B) in place, features encoded by the observation table."""
    scenario, layout = site.scenario, site.rows
    shown: dict[str, F32 | float] = {}
    for name, link in links.items():
        shown.update(_probe_link(name, link, scenario, Stream(keys, f"probe:{name}")))
    delay_h = scenario.telemetry.feed_delay_h
    shown["device_carbon_g_per_kwh"] = zones[scenario.device.zone][1]
    silent = silent_hours(scenario, keys)
    shown["feed_age_h"] = delay_h if silent is None else _age_of_silent_feeds(delay_h, silent, rows.shape[1])
    for name, node in scenario.nodes.items():
        shown[f"{name}_carbon_g_per_kwh"] = zones[node.zone][1]
        if name in loads:
            shown.update(_probe_load(name, loads[name], scenario, Stream(keys, f"report:{name}")))
    absent = absent_nodes(scenario, keys)
    hide_reports(shown, absent, site.table)
    wishes = draw_wishes(scenario, keys)
    shown.update(
        scenario.wishes.features if wishes is None else dict(zip(WISH_FEATURES, wishes, strict=True))
    )
    levels: dict[str, np.ndarray] = {}
    for p in scenario.placements:
        latency, carbon = _believe(site, p.name, shown, levels)
        shown[f"{p.name}_carbon_mg"] = carbon
        rows[layout[f"{p.name}:believed_ms"]] = latency
    hide_beliefs(rows, absent, scenario, layout, site.table)
    for name in scenario.links:
        rows[layout[f"{name}:believed_ms_per_kb"]] = np.float32(8.0) / np.asarray(
            shown[f"{name}_uplink_mbps"]
        )
    low, high = site.table.low, site.table.high
    for feature in site.table.features:
        if feature.clock == "second":
            j = site.table.index[feature.name]
            row = rows[layout[f"feature:{feature.name}"]]
            values = shown[feature.name]
            if COMPILED and isinstance(values, np.ndarray) and values.dtype == np.float32:
                _scale(values, np.float32(1.0 / feature.scale), low[j], high[j], row)
                continue
            np.multiply(values, np.float32(1.0 / feature.scale), out=row, casting="unsafe")
            np.clip(row, low[j], high[j], out=row)


def _age_of_silent_feeds(delay_h: float, silent_h: F32, count: int) -> F32:
    """Age of what the feeds show (S, B), h: it grows where they are silent."""
    grown = np.arange(count, dtype=np.float32)[:, None] / np.float32(SECONDS_PER_HOUR)
    return np.float32(delay_h) + silent_h + np.where(silent_h > 0, grown, np.float32(0.0))


@compiled
def _scale(values: F32, factor: np.float32, low: np.float32, high: np.float32, out: F32) -> None:
    """Multiply and clip (S, B) in one pass; only ever run compiled."""
    for s in range(values.shape[0]):
        for b in range(values.shape[1]):
            out[s, b] = min(max(values[s, b] * factor, low), high)


def _before(values: F32) -> F32:
    """Shift by one row: what was measured up to the row before."""
    return np.concatenate([values[:1], values[:-1]])


def _probe_link(name: str, link: LinkRows, scenario: Scenario, stream: Stream) -> dict[str, F32]:
    """Probe a link once per interval: smoothed and last RTT, deviation, loss, rate, age of the last answer."""
    world, spec = link.world, scenario.telemetry
    count, batch = world.rtt_ms.shape
    noise = stream.four_normals(count, used=3)
    probed = world.rtt_ms * np.maximum(1 + np.float32(spec.rtt_noise_fraction) * noise[0], np.float32(0.2))
    probed += world.jitter_ms * np.abs(noise[1])
    rate = link.rate_mbps * np.exp(np.float32(spec.uplink_noise_fraction) * noise[2])
    every = int(spec.probe_interval_s) if scenario.world_clock == "time" else 1
    out = np.empty((6, count, batch), np.float32)
    _follow(probed, rate, world.blocked, np.ascontiguousarray(world.loss), every, out)
    return {
        f"{name}_rtt_ms": out[1],
        f"{name}_rtt_last_ms": out[0],
        f"{name}_rtt_deviation_ms": out[2],
        f"{name}_loss_pct": out[3],
        f"{name}_uplink_mbps": out[4],
        f"{name}_probe_age_s": out[5],
    }


@compiled
def _follow(probed: F32, rate: F32, blocked: np.ndarray, loss: F32, every: int, out: F32) -> None:
    """What the device makes of the probes (S, B): last, smooth, deviation, loss (%), rate, age (6, S, B).

    A blocked second answers nothing but counts as lost.
    """
    out[:, 0] = 0.0
    for b in range(probed.shape[1]):
        out[0, 0, b] = out[1, 0, b] = probed[0, b]
        out[4, 0, b] = rate[0, b]
    for s in range(probed.shape[0] - 1):
        for b in range(probed.shape[1]):
            last, smooth, deviation, lost, uplink = (
                out[0, s, b],
                out[1, s, b],
                out[2, s, b],
                out[3, s, b],
                out[4, s, b],
            )
            age = out[5, s, b] + np.float32(1.0)
            if s % every == 0:
                share = np.float32(1.0) if blocked[s, b] else loss[s, b]
                lost += SMOOTHING * (np.float32(100.0) * share - lost)
                if not blocked[s, b]:
                    last = probed[s, b]
                    error = last - smooth
                    smooth += SMOOTHING * error
                    deviation += SMOOTHING * (abs(error) - deviation)
                    uplink += SMOOTHING * (rate[s, b] - uplink)
                    age = np.float32(0.0)
            n = s + 1
            out[0, n, b], out[1, n, b], out[2, n, b], out[3, n, b], out[4, n, b] = (
                last,
                smooth,
                deviation,
                lost,
                uplink,
            )
            out[5, n, b] = age


def _probe_load(name: str, load: F32, scenario: Scenario, stream: Stream) -> dict[str, F32]:
    """A node's own report: delayed by a per-episode time, noisy."""
    spec = scenario.telemetry
    count, batch = load.shape
    span = np.float32(spec.load_delay_high_s - spec.load_delay_low_s)
    delay = np.ceil(np.float32(spec.load_delay_low_s) + span * stream.uniform()).astype(np.int64)
    if scenario.world_clock == "request":
        delay = np.ones(batch, np.int64)
    source = np.maximum(np.arange(count)[:, None] - np.maximum(delay, 1), 0)
    seen = np.empty_like(load)
    pick_rows(load, source, seen)
    seen = np.clip(seen + np.float32(spec.load_noise) * stream.four_normals(count, used=1)[0], 0, 2)
    return {f"{name}_load": seen, f"{name}_load_age_s": np.broadcast_to(delay.astype(np.float32), load.shape)}


def _believe(
    site: Site, placement: str, shown: dict, levels: dict[str, np.ndarray]
) -> tuple[F32 | float, F32]:
    """Believed latency (ms, without payload and own backlog) and carbon (mg) of a placement.

    ``levels`` keeps the levels of the nodes' reported loads, for other placements on the same node.
    """
    scenario = site.scenario
    index = site.placement_names.index(placement)
    p = scenario.placements[index]
    if p.node == LOCAL:
        service_ms, mg_per_intensity = local_numbers(p)
        return service_ms, shown["device_carbon_g_per_kwh"] * mg_per_intensity
    node, bank = scenario.nodes[p.node], site.banks[site.node_names.index(p.node)]
    rtt, uplink = shown[f"{node.link}_rtt_ms"], shown[f"{node.link}_uplink_mbps"]
    grid, device_grid = shown[f"{p.node}_carbon_g_per_kwh"], shown["device_carbon_g_per_kwh"]
    wait, batch = np.zeros(1, np.float32), np.ones(1, np.float32)
    if bank is not None and node.background is not None:
        wait, batch = bank.mean_wait_ms.astype(np.float32), bank.mean_batch.astype(np.float32)
        if p.node not in levels:
            load = shown.get(f"{p.node}_load", np.float32(0.0))
            levels[p.node] = np.broadcast_to(bank.level_of(np.minimum(load, BELIEVED_TOP_LOAD)), rtt.shape)
    level = levels.get(p.node, np.broadcast_to(np.int64(0), rtt.shape))
    numbers = remote_numbers(scenario, p)
    arrays = (rtt, uplink, grid, device_grid, level)
    if not COMPILED:
        return _predict(*arrays, wait, batch, numbers)
    out = np.empty((2, *rtt.shape), dtype=np.float32)
    _predict_all(*(np.ascontiguousarray(a) for a in arrays), wait, batch, numbers, out)
    return out[0], out[1]


@compiled
def _predict_all(
    rtt: F32, uplink: F32, grid: F32, device_grid: F32, level: np.ndarray, waits: F32, batches: F32, numbers: F32,
    out: F32,
) -> None:  # fmt: skip
    """`_predict` of every cell (S, B) into ``out`` (2, S, B)."""
    for s in range(rtt.shape[0]):
        for b in range(rtt.shape[1]):
            out[0, s, b], out[1, s, b] = _predict(
                rtt[s, b], uplink[s, b], grid[s, b], device_grid[s, b], level[s, b], waits, batches, numbers
            )
