"""A site's numbers as the records and joined look-up tables that the compiled physics reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .node_bank import NodeBank
from .physics import BINS_PER_KB, JITTER_BITS, TRANSFER_BITS
from .records import PLACEMENT, SITE
from .schema import ClosedLoop, Placement
from .service import quantile_table
from .site import Site
from .transfer.empirical import jitter_table
from .transfer.table import TransferTable
from .units import BYTES_PER_KB, MS_PER_S, network_energy_j

F64, I64 = npt.NDArray[np.float64], npt.NDArray[np.int64]


class Tables(NamedTuple):
    """Look-up tables, those of all placements, links and nodes end to end."""

    service_ms: F64
    jitter: F64
    extra_rtts: npt.NDArray[np.float32]
    next_state: I64
    segment_bin: I64
    bank_wait_ms: npt.NDArray[np.float32]
    bank_idle_ms: F64
    bank_batch: npt.NDArray[np.float32]
    idle_per_round_ms: F64
    background_per_ms: F64


class Constants:
    """`sites` (1,), `placements` (P,) and `tables` of a site."""

    def __init__(self, site: Site) -> None:
        """Fill the records and join the tables."""
        self._site = site
        scenario = site.scenario
        self._links = list(scenario.links.values())
        self.placements = np.zeros(len(scenario.placements), PLACEMENT).view(np.recarray)
        service, service_starts = self._services()
        jitters = [jitter_table(link.transfer, 1 << JITTER_BITS).astype(np.float64) for link in self._links]
        transfers = _unique(t for t in site.transfers if t is not None)
        banks = _unique(b for b in site.banks if b is not None)
        transfer_starts = _starts([t.extra_rtts.size for t in transfers])
        bank_starts = _starts([b.wait_ms.size for b in banks])
        level_starts = _starts([len(b.levels) for b in banks])
        widths = [1] + [n.parallelism for n in scenario.nodes.values()]
        server_starts = _starts(widths)
        self.server_count = sum(widths)
        for p, record, start in zip(scenario.placements, self.placements, service_starts, strict=True):
            k = site.node_names.index(p.node)
            record.node, record.service_start, record.accuracy_miou = k, start, p.accuracy_miou
            record.first_server, record.servers = server_starts[k], widths[k]
            if k == 0:
                record.device_j = p.active_energy_j
                continue
            link = site.link_names.index(scenario.nodes[p.node].link)
            record.link, record.jitter_start = link, link << JITTER_BITS
            self._server(record, p)
            bank, transfer = site.banks[k], site.transfers[link]
            assert bank is not None
            i = _position(banks, bank)
            record.bank_start, record.level_start = bank_starts[i], level_starts[i]
            record.tick_bits = bank.ticks.bit_length() - 1
            if transfer is not None:
                self._transfer(record, transfer, transfer_starts[_position(transfers, transfer)])
        self.tables = Tables(
            service_ms=service,
            jitter=_join(jitters, np.float64),
            extra_rtts=_join([t.extra_rtts for t in transfers], np.float32),
            next_state=_join([t.next_state for t in transfers], np.int64),
            segment_bin=self._segments(transfers),
            bank_wait_ms=_join([b.wait_ms.ravel() for b in banks], np.float32),
            bank_idle_ms=_join([b.idle_ms.ravel() for b in banks], np.float64),
            bank_batch=_join([b.batch_size.ravel() for b in banks], np.float32),
            idle_per_round_ms=_join([b.idle_ms[:, -1] for b in banks], np.float64),
            background_per_ms=_join([b.background_per_ms for b in banks], np.float64),
        )
        self.sites = self._site_record()

    def _services(self) -> tuple[F64, list[int]]:
        """Quantile tables end to end, and each placement's start; equal distributions share one."""
        starts: dict[str, int] = {}
        blocks: list[F64] = []
        for p in self._site.scenario.placements:
            key = p.service.model_dump_json()
            if key not in starts:
                starts[key] = sum(len(b) for b in blocks)
                blocks.append(quantile_table(p.service))
        return np.concatenate(blocks), [starts[p.service.model_dump_json()] for p in self._site.scenario.placements]

    def _server(self, record: np.record, p: Placement) -> None:
        """Fill what only remote placements have."""
        node = self._site.scenario.nodes[p.node]
        # An image in a batch of b: (alone - batched) / b + batched.
        batched = p.active_energy_j if p.batched_energy_j is None else p.batched_energy_j
        record.remote, record.extra_rtt_ms = 1, node.extra_rtt_ms
        record.server_fixed_j = node.pue * (p.active_energy_j - batched)
        record.server_each_j = node.pue * batched
        record.server_idle_w = node.pue * node.idle_power_w
        record.network_j_per_kb = network_energy_j(1.0, self._site.scenario.links[node.link].network_energy_nj_per_bit)
        record.shared = int(node.background is not None)
        record.batches = int(node.batching is not None)
        record.batch_share = 0.0 if node.batching is None else node.batching.marginal_service_share

    @staticmethod
    def _transfer(record: np.record, t: TransferTable, start: int) -> None:
        if t.draws != 1 << TRANSFER_BITS:
            raise ValueError(f"a transfer table must have {1 << TRANSFER_BITS} draws, got {t.draws}")
        record.tcp, record.transfer_start = 1, start
        record.state_stride = t.n_segments * t.n_paths * t.draws
        record.segment_stride, record.path_stride = t.n_paths * t.draws, t.draws
        record.initial_state, record.idle_reset_ms = t.initial_state, t.idle_reset_s * MS_PER_S

    def _segments(self, transfers: list[TransferTable]) -> I64:
        """Payload bin of each quarter kB up to the largest payload."""
        top = int(self._site.scenario.payload.high_kb * BINS_PER_KB) + 2
        middle_bytes = (np.arange(top) + 0.5) / BINS_PER_KB * BYTES_PER_KB
        return transfers[0].segment_bin(middle_bytes) if transfers else np.zeros(top, dtype=np.int64)

    def _site_record(self) -> np.recarray:
        site, scenario, rows = self._site, self._site.scenario, self._site.rows
        sites = np.zeros(1, SITE).view(np.recarray)
        s = sites[0]
        s.slo_ms, s.requests = scenario.slo.latency_ms, scenario.episode.requests
        s.slowdown = 1.0
        if (throttling := scenario.device.throttling) is not None:
            s.throttling, s.slowdown = 1.0, throttling.slowdown
            s.time_constant_ms = throttling.time_constant_s * MS_PER_S
            s.hot, s.cool = throttling.hot_utilisation, throttling.cool_utilisation
        if (radio := scenario.device.radio) is not None:
            s.radio, s.tail_ms = 1.0, radio.tail_s * MS_PER_S
            s.transmit_w, s.tail_w = radio.transmit_power_w, radio.tail_power_w
        s.idle_w = scenario.device.idle_power_w
        weights = scenario.reward
        s.weight_carbon, s.weight_miss = weights.carbon_per_mg, weights.slo_miss
        s.weight_excess, s.weight_accuracy = weights.latency_excess_per_s, weights.accuracy_per_miou
        s.best_miou = max(p.accuracy_miou for p in scenario.placements)
        s.miss_budget = max(1.0, (1.0 - scenario.slo.quantile) * scenario.episode.requests)
        s.marginal = int(scenario.account == "marginal")
        s.request_clock = int(scenario.world_clock == "request")
        s.closed_loop = int(isinstance(scenario.arrivals, ClosedLoop))
        s.links, s.nodes, s.placements = len(site.link_names), len(site.node_names), len(scenario.placements)
        for field, kind in _ROWS.items():
            s[field] = rows.start[kind]
        s.row_features, s.features = rows.world, rows.count - rows.world
        return sites


_ROWS = {
    "row_rtt": "rtt_ms",
    "row_jitter": "jitter_ms",
    "row_ms_per_kb": "ms_per_kb",
    "row_blocked": "blocked_until_ms",
    "row_path": "path",
    "row_network_grid": "network_carbon_mg_per_j",
    "row_level": "level",
    "row_grid": "carbon_mg_per_j",
    "row_believed": "believed_ms",
    "row_believed_rate": "believed_ms_per_kb",
}


def _unique(items) -> list:  # noqa: ANN001
    """Items without repetition, by identity."""
    return list({id(i): i for i in items}.values())


def _position(items: list, item: NodeBank | TransferTable) -> int:
    return next(i for i, other in enumerate(items) if other is item)


def _starts(sizes: list[int]) -> list[int]:
    return np.cumsum([0, *sizes]).tolist()


def _join(parts: list, dtype: type) -> np.ndarray:
    """Tables end to end; never empty, so that every table has an address."""
    return np.concatenate([np.asarray(p, dtype=dtype) for p in parts] or [np.zeros(1, dtype=dtype)])
