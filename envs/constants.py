"""A site's numbers as the records and joined look-up tables that the compiled physics reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .node_bank import NodeBank
from .records import JITTER_BITS, PLACEMENT, TRANSFER_BITS
from .schema import Placement
from .sending import BINS_PER_KB
from .service import batch_energy_j, mean_ms, quantile_table
from .site import Site
from .site_record import site_record
from .transfer.empirical import jitter_table
from .transfer.table import TransferTable
from .units import BYTES_PER_KB, MS_PER_S, network_energy_j

F64 = npt.NDArray[np.float64]


class Tables(NamedTuple):
    """Look-up tables end to end; `PLACEMENT` holds where each placement's begin.

    Attributes:
        floats: service times (ms), jitter, pairs of (extra round trips, next congestion state), and of node histories:
            pairs of (wait in ms, batch size), idle time per round (ms), background arrivals per ms. What is read
            together lies together: a look-up costs one cache line.
        integers: payload bins.
        idle_ms: cumulated idle time of node histories, which needs double precision.
    """

    floats: npt.NDArray[np.float32]
    integers: npt.NDArray[np.int16]
    idle_ms: F64


class _Joined:
    """Collects tables and remembers where each began; the same table is kept once."""

    def __init__(self, dtype: type) -> None:
        self._dtype, self._parts, self._starts, self._size = dtype, [np.zeros(1, dtype)], {}, 1

    def add(self, key: object, table: npt.ArrayLike) -> int:
        """Append a table unless one of this key is there; return its start."""
        if key not in self._starts:
            part = np.asarray(table, dtype=self._dtype).ravel()
            self._starts[key], self._size = self._size, self._size + part.size
            self._parts.append(part)
        return self._starts[key]

    def array(self) -> np.ndarray:
        """All tables end to end; entry 0 belongs to none."""
        return np.concatenate(self._parts)


class Constants:
    """`sites` (1,), `placements` (P,) and `tables` of a site."""

    def __init__(self, site: Site) -> None:
        """Fill the records and join the tables."""
        self._site = site
        scenario = site.scenario
        self.placements = np.zeros(len(scenario.placements), PLACEMENT).view(np.recarray)
        floats, integers, idle = _Joined(np.float32), _Joined(np.int16), _Joined(np.float64)
        widths = [1] + [n.parallelism for n in scenario.nodes.values()]
        server_starts = np.cumsum([0, *widths]).tolist()
        self.server_count = sum(widths)
        for p, record in zip(scenario.placements, self.placements, strict=True):
            k = site.node_names.index(p.node)
            record.node, record.accuracy_miou = k, p.accuracy_miou
            record.service = floats.add(p.service.model_dump_json(), quantile_table(p.service))
            record.first_server, record.servers = server_starts[k], widths[k]
            if k == 0:
                record.device_j = p.active_energy_j
                continue
            link = site.link_names.index(scenario.nodes[p.node].link)
            spec = scenario.links[site.link_names[link]].transfer
            record.link = link
            record.jitter = floats.add(f"jitter {link}", jitter_table(spec, 1 << JITTER_BITS))
            self._server(record, p)
            if p.split is not None:
                record.split, record.device_j = 1, p.split.active_energy_j
                record.head = floats.add(p.split.service.model_dump_json(), quantile_table(p.split.service))
                record.head_ms, record.activation_kb = mean_ms(p.split.service), p.split.activation_kb
            bank, transfer = site.banks[k], site.transfers[link]
            assert bank is not None
            _history(record, bank, floats, idle)
            if transfer is not None:
                self._transfer(record, transfer, floats, integers)
        self.tables = Tables(floats.array(), integers.array(), idle.array())
        self.sites = site_record(scenario, site.rows)

    def _server(self, record: np.record, p: Placement) -> None:
        """Fill what only remote placements have."""
        node = self._site.scenario.nodes[p.node]
        record.remote, record.extra_rtt_ms = 1, node.extra_rtt_ms
        record.server_fixed_j, record.server_each_j = batch_energy_j(p, node.pue)
        record.server_idle_w = node.pue * node.idle_power_w
        record.network_j_per_kb = network_energy_j(
            1.0, self._site.scenario.links[node.link].network_energy_nj_per_bit
        )
        record.shared = int(node.background is not None)
        record.batches = int(node.batching is not None)
        record.batch_share = 0.0 if node.batching is None else node.batching.marginal_service_share

    def _transfer(self, record: np.record, t: TransferTable, floats: _Joined, integers: _Joined) -> None:
        if t.draws != 1 << TRANSFER_BITS:
            raise ValueError(f"a transfer table must have {1 << TRANSFER_BITS} draws, got {t.draws}")
        record.tcp, record.recovery = 1, floats.add(id(t), np.stack([t.extra_rtts, t.next_state], axis=-1))
        # Payload bin of each quarter kB up to the largest payload or activation.
        scenario = self._site.scenario
        crossing = [p.split.activation_kb for p in scenario.placements if p.split is not None]
        top = int(max([scenario.payload.high_kb, *crossing]) * BINS_PER_KB) + 2
        middle_bytes = (np.arange(top) + 0.5) / BINS_PER_KB * BYTES_PER_KB
        record.segment_bin = integers.add(f"segments {id(t)}", t.segment_bin(middle_bytes))
        record.state_stride, record.segment_stride, record.path_stride = t.strides
        record.initial_state, record.idle_reset_ms = t.initial_state, t.idle_reset_s * MS_PER_S


def _history(record: np.record, bank: NodeBank, floats: _Joined, idle: _Joined) -> None:
    key = id(bank)
    record.bank = floats.add(("waits", key), np.stack([bank.wait_ms, bank.batch_size], axis=-1))
    record.idle_per_round = floats.add(("round", key), bank.idle_ms[:, -1])
    record.background = floats.add(("rate", key), bank.background_per_ms)
    record.bank_idle = idle.add(key, bank.idle_ms)
    record.tick_bits = bank.ticks.bit_length() - 1
