"""The tape: everything of an episode that does not depend on the placements, drawn or read before it starts.

What belongs to a request (payload, noise of each placement) is indexed by request; what belongs to the world
(links, loads, grids, and what telemetry shows of them) by time. One random stream per source.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .compiling import compiled
from .dial import episode_weights
from .errors import InputError
from .link_sources import LinkRows, blocked_until_ms, draw_link, require_traces
from .node_loads import draw_load
from .records import NOISE_BITS
from .schema import LOCAL, ClosedLoop, Periodic, Poisson, Scenario, TraceArrivals
from .shifts import allowed_placements, draw_factor, lowest_rate_factor, shifted_links
from .site import Site
from .streams import Stream, episode_keys, mix64, salt
from .telemetry import fill_telemetry
from .threads import worker
from .units import MG_PER_J_PER_G_PER_KWH, MS_PER_S, ms_per_kb
from .world_types import F32
from .zone_sources import draw_zones

Part = Literal["training", "evaluation"]
WARMUP_ROWS = 10  # seconds of telemetry before the first request
# What a tape holds by episode, the last axis; some of it may be None.
TAPE_ARRAYS = (
    "rows", "arrivals_ms", "payload_kb", "words", "phase_ms", "ambient", "valid_rows", "service_factor", "allowed",
    "weights",
)  # fmt: skip
CLOSED_LOOP_MEAN_MS = 500.0  # a closed loop's rows reach this far per request; slower ends the episode


@dataclass
class Tape:
    """A batch of episodes before anything is placed.

    Attributes:
        rows: world and telemetry by time (R, S, B) float32; row names in `RowLayout`.
        arrivals_ms: issue times (N + 1, B) float64, or None in a closed loop.
        payload_kb: request sizes (N + 1, B) float32.
        words: noise words of each request at each placement (N + 1, P, B) uint32: quantiles of service, jitter and
            transfer.
        phase_ms: where each node's history starts (K, B) float64.
        ambient: hidden offset of the device's heat (B,) float64.
        valid_rows: rows before a trace ended (B,).
        warmup: rows that lie before time zero.
        service_factor: true over believed service time of the device (B,); None: one.
        allowed: placements whose node is there (P, B); None: all.
        weights: of the reward's terms (4, B), in the order of `RewardWeights`; None: the scenario's.
    """

    rows: F32
    arrivals_ms: npt.NDArray[np.float64] | None
    payload_kb: F32
    words: npt.NDArray[np.uint32]
    phase_ms: npt.NDArray[np.float64]
    ambient: npt.NDArray[np.float64]
    valid_rows: npt.NDArray[np.int64]
    warmup: int
    service_factor: F32 | None = None
    allowed: npt.NDArray[np.bool_] | None = None
    weights: npt.NDArray[np.float64] | None = None

    def of_columns(self, columns: npt.NDArray | slice) -> Tape:
        """The episodes with the given numbers, each as often as it is named, in fresh arrays or views."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in TAPE_ARRAYS}
        picked = {n: None if v is None else np.ascontiguousarray(v[..., columns]) for n, v in arrays.items()}
        return Tape(**picked, warmup=self.warmup)  # type: ignore[arg-type]

    def copy_columns(self, source: Tape, columns: npt.NDArray) -> None:
        """Replace some episodes by those of another tape of the same site."""
        for name in TAPE_ARRAYS:
            mine = getattr(self, name)
            if mine is not None:
                mine[..., columns] = getattr(source, name)


def evaluation_seeds(seed: int, episodes: int) -> npt.NDArray[np.int64]:
    """Episode seeds of a benchmark (B,): well-spread, the same for every policy, others for another seed."""
    return np.random.SeedSequence(seed).generate_state(episodes).astype(np.int64)


def draw_tape(
    site: Site, seeds: npt.ArrayLike, part: Part, traces_dir: Path | None = None, worn: Tape | None = None
) -> Tape:
    """Draw the tape of a batch of episodes.

    Args:
        site: the scenario's constants.
        seeds: one non-negative integer per episode (B,); an episode depends on its own seed only.
        part: "training" or "evaluation"; they share no seed, no trace row and no hour.
        traces_dir: trace folder, for scenarios that read one.
        worn: a tape of the same site and batch that is needed no more; its largest arrays are drawn over, because
            fresh memory costs a third of the time.
    """
    if part not in ("training", "evaluation"):
        raise InputError(f"part must be 'training' or 'evaluation', got '{part}'.")
    scenario = site.scenario
    # The part is mixed into the key, so an evaluation episode is never a training episode of the same seed.
    keys = mix64(episode_keys(seeds) ^ salt(part))
    batch = keys.size
    requests = scenario.episode.requests + 1  # one more, so that the last step has a next observation
    warmup = 0 if scenario.world_clock == "request" else WARMUP_ROWS
    count = row_count(scenario)
    with worker(batch) as beside:
        drawn_zones = beside.submit(draw_zones, scenario, keys, count, part, traces_dir)
        drawn_loads = beside.submit(_loads, scenario, keys, count, warmup)
        of_requests = beside.submit(_of_requests, scenario, keys, requests, part, traces_dir, worn)
        links = {
            name: draw_link(link.source, Stream(keys, f"link:{name}"), count, warmup, part, traces_dir)
            for name, link in scenario.links.items()
        }
        links = shifted_links(scenario, keys, links)
        # Rows that nothing fills are zero on every tape of the site.
        rows = np.zeros((site.rows.count, count, batch), dtype=np.float32) if worn is None else worn.rows
        zones, loads = drawn_zones.result(), drawn_loads.result()
        _fill_truth(rows, site, links, loads, {name: truth for name, (truth, _) in zones.items()}, warmup)
        fill_telemetry(rows, site, keys, links, loads, zones)
        arrivals_ms, payload_kb, words = of_requests.result()
    nodes = Stream(keys, "nodes")
    ticks = np.array([1] + [b.ticks for b in site.banks[1:] if b is not None], dtype=np.float64)
    device = scenario.device.throttling
    spread = 0.0 if device is None else device.ambient_spread
    ambient = Stream(keys, "ambient").uniform().astype(np.float64)
    return Tape(
        rows=rows,
        arrivals_ms=arrivals_ms,
        payload_kb=payload_kb,
        words=words,
        phase_ms=nodes.uniform(len(ticks)).astype(np.float64) * (ticks * 2.0)[:, None],
        ambient=(2.0 * ambient - 1.0) * spread,
        valid_rows=np.min([link.world.valid_rows for link in links.values()], axis=0)
        if links
        else np.full(batch, count),
        warmup=warmup,
        service_factor=draw_factor(scenario, "device_service_factor", keys),
        allowed=allowed_placements(scenario, keys),
        weights=episode_weights(scenario, keys),
    )


def _loads(scenario: Scenario, keys: npt.NDArray[np.uint64], count: int, warmup: int) -> dict[str, F32]:
    """Other tenants' load by node, where there are any."""
    return {
        name: draw_load(node.background, Stream(keys, f"load:{name}"), count, warmup)
        for name, node in scenario.nodes.items()
        if node.background is not None
    }


def _of_requests(
    scenario: Scenario, keys: npt.NDArray[np.uint64], requests: int, part: Part, traces_dir: Path | None,
    worn: Tape | None,
) -> tuple[npt.NDArray[np.float64] | None, F32, npt.NDArray[np.uint32]]:  # fmt: skip
    """Issue times, payloads and noise words: what a tape holds by request."""
    words = None if worn is None else worn.words
    return (
        _arrivals(scenario, keys, requests, part, traces_dir),
        _payloads(scenario, keys, requests),
        Stream(keys, "noise").halves(requests, len(scenario.placements), NOISE_BITS, words),
    )


def row_count(scenario: Scenario) -> int:
    """Rows that an episode can need; it depends on the scenario only, never on what was drawn."""
    n = scenario.episode.requests + 1
    if scenario.world_clock == "request":
        return n + 1
    arrivals = scenario.arrivals
    if isinstance(arrivals, ClosedLoop):
        seconds = n * CLOSED_LOOP_MEAN_MS / MS_PER_S
    elif isinstance(arrivals, TraceArrivals):
        seconds = 3.0 * n / (arrivals.mean_per_s * lowest_rate_factor(scenario)) + 60.0
    else:
        slowest_per_s = arrivals.low_per_s * lowest_rate_factor(scenario)
        mean = n / slowest_per_s
        seconds = mean + 6.0 * np.sqrt(n) / slowest_per_s
    return WARMUP_ROWS + int(np.ceil(seconds)) + 3


def _fill_truth(
    rows: F32,
    site: Site,
    links: dict[str, LinkRows],
    loads: dict[str, F32],
    zones: dict[str, F32],
    warmup: int,
) -> None:
    layout, scenario = site.rows, site.scenario
    grids = {name: truth * np.float32(MG_PER_J_PER_G_PER_KWH) for name, truth in zones.items()}
    for (name, link), transfer in zip(links.items(), site.transfers, strict=True):
        world = link.world
        rows[layout[f"{name}:rtt_ms"]] = world.rtt_ms
        rows[layout[f"{name}:jitter_ms"]] = world.jitter_ms
        rows[layout[f"{name}:ms_per_kb"]] = ms_per_kb(link.rate_mbps)
        rows[layout[f"{name}:blocked_until_ms"]] = blocked_until_ms(world.blocked, warmup)
        if transfer is not None:
            rows[layout[f"{name}:path"]] = transfer.path_bin(world.loss, link.rate_mbps, world.rtt_ms)
        rows[layout[f"{name}:network_carbon_mg_per_j"]] = grids[scenario.links[name].network_zone]
    rows[layout[f"{LOCAL}:carbon_mg_per_j"]] = grids[scenario.device.zone]
    for k, (name, node) in enumerate(scenario.nodes.items(), start=1):
        bank = site.banks[k]
        if name in loads and bank is not None:
            rows[layout[f"{name}:level"]] = bank.level_of(loads[name])
        rows[layout[f"{name}:carbon_mg_per_j"]] = grids[node.zone]


def _payloads(scenario: Scenario, keys: npt.NDArray[np.uint64], requests: int) -> F32:
    spec = scenario.payload
    low, high = np.float32(spec.low_kb), np.float32(spec.high_kb)
    sizes = Stream(keys, "payload").cheap_uniforms(requests)
    if spec.episode_share is not None:
        sizes *= np.float32(spec.episode_share)
        sizes += np.float32(1.0 - spec.episode_share) * Stream(keys, "payload-range").uniform()
    sizes *= high - low
    sizes += low
    return sizes


def _arrivals(
    scenario: Scenario, keys: npt.NDArray[np.uint64], requests: int, part: Part, traces_dir: Path | None
) -> npt.NDArray[np.float64] | None:
    """Issue times (N + 1, B), ms; None in a closed loop, where they follow from the outcomes."""
    spec, stream = scenario.arrivals, Stream(keys, "arrivals")
    if isinstance(spec, ClosedLoop):
        return None
    faster = draw_factor(scenario, "rate_factor", keys)
    if isinstance(spec, TraceArrivals):
        times = _trace_arrivals(spec, stream, requests, part, traces_dir)
        return times if faster is None else times / faster
    low, high = np.float32(spec.low_per_s), np.float32(spec.high_per_s)
    mean_gap_ms = np.float32(MS_PER_S) / (low + (high - low) * stream.uniform())
    if faster is not None:
        mean_gap_ms /= faster
    if isinstance(spec, Periodic):
        gaps = stream.cheap_normals(requests)
        np.clip(gaps, -1.9, 1.9, out=gaps)  # keeps gaps positive
        gaps *= np.float32(spec.jitter_fraction)
        gaps += 1
        gaps *= mean_gap_ms
    else:
        assert isinstance(spec, Poisson)
        gaps = mean_gap_ms * stream.exponential(requests)
    gaps[0] = 0  # the first request is there when the episode starts
    return _running_sum(gaps)


def _running_sum(gaps: F32) -> npt.NDArray[np.float64]:
    """Cumulated sum down the rows in double precision."""
    out = np.empty(gaps.shape, dtype=np.float64)
    _add_up(np.ascontiguousarray(gaps, dtype=np.float32), out)
    return out


@compiled
def _add_up(gaps: F32, out: npt.NDArray[np.float64]) -> None:
    out[0] = gaps[0]
    for n in range(1, gaps.shape[0]):
        for b in range(gaps.shape[1]):
            out[n, b] = out[n - 1, b] + gaps[n, b]


def _trace_arrivals(
    spec: TraceArrivals, stream: Stream, requests: int, part: Part, traces_dir: Path | None
) -> npt.NDArray[np.float64]:
    """A window of a recorded stream, scaled to the mean rate; the first 60 % of the file is for training."""
    from .traces.readers import read_arrivals

    trace = read_arrivals(require_traces(traces_dir) / spec.file)
    times = trace.request_times_s()  # refuses files of rates
    cut = int(0.6 * len(times))
    times = times[:cut] if part == "training" else times[cut:]
    if len(times) < requests + 1:
        raise InputError(
            f"{spec.file}: the {part} part holds {len(times)} arrivals, an episode needs {requests + 1}. "
            "Use a longer file or fewer requests per episode."
        )
    start = stream.integers(len(times) - requests)
    window = times[start[None, :] + np.arange(requests)[:, None]]
    scale = MS_PER_S * (len(times) - 1) / (times[-1] - times[0]) / spec.mean_per_s
    return (window - window[0]) * scale
