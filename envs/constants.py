"""A site's look-up tables in one of the two arithmetics: one entry per placement."""

from __future__ import annotations

from typing import Any

import numpy as np

from .node_bank import NodeBank
from .ops import JITTER_DRAWS, TRANSFER_BITS, BatchOps, ScalarOps
from .schema import LOCAL, Node, Placement
from .service import quantile_table
from .site import Site
from .streams import salt
from .transfer.empirical import jitter_table
from .units import BYTES_PER_KB, network_energy_j


BINS_PER_KB = 4.0  # resolution of the look-up from payload to the transfer table's payload bin


class Constants:
    """Look-up tables of a site.

    Values of the device's own placements never matter in tables of links and servers, because physics masks
    them with `is_remote`; so such a table is one plain number where all servers agree.
    """

    def __init__(self, site: Site, ops: BatchOps | ScalarOps) -> None:
        """Fill the tables."""
        self._site, self._ops = site, ops
        scenario = site.scenario
        self._placements = scenario.placements
        self._nodes: list[Node | None] = [scenario.nodes.get(p.node) for p in self._placements]
        self.is_remote = ops.table([0.0 if n is None else 1.0 for n in self._nodes])
        self.node = ops.table([site.node_names.index(p.node) for p in self._placements])
        self.salt = ops.table(np.array([salt(f"placement:{i}") for i in range(len(self._placements))], dtype=np.uint64))
        self.accuracy = ops.table([p.accuracy_miou for p in self._placements])
        self.link = self._remote(lambda p, n: site.link_names.index(n.link))
        self.extra_rtt_ms = self._remote(lambda p, n: n.extra_rtt_ms)
        self._services()
        self._transfers()
        self._energy()
        self._histories()
        self._servers()

    def _remote(self, value: Any) -> Any:
        """A table of what ``value(placement, node)`` says of each remote placement."""
        pairs = zip(self._placements, self._nodes, strict=True)
        values = [None if n is None else value(p, n) for p, n in pairs]
        known = [v for v in values if v is not None]
        if len(set(known)) <= 1:
            return known[0] if known else 0
        return self._ops.table([known[0] if v is None else v for v in values])

    def _services(self) -> None:
        """Quantile tables end to end; equal distributions share one."""
        starts: dict[str, int] = {}
        blocks: list[np.ndarray] = []
        for p in self._placements:
            key = p.service.model_dump_json()
            if key not in starts:
                starts[key] = sum(len(b) for b in blocks)
                blocks.append(quantile_table(p.service))
        self.service_ms = self._ops.table(np.concatenate(blocks))
        self.service_start = self._ops.table([starts[p.service.model_dump_json()] for p in self._placements])

    def _transfers(self) -> None:
        """Jitter and transfer tables of all links end to end."""
        site, ops = self._site, self._ops
        links = list(site.scenario.links.values())
        jitters = [jitter_table(link.transfer, JITTER_DRAWS).astype(np.float64) for link in links]
        self.jitter = ops.table(np.concatenate([*jitters, np.zeros(1)]))
        self.jitter_start = self._remote(lambda p, n: JITTER_DRAWS * site.link_names.index(n.link))
        tables = {id(t): t for t in site.transfers if t is not None}
        sizes = [t.extra_rtts.size for t in tables.values()]
        starts = dict(zip(tables, np.cumsum([0, *sizes[:-1]]).tolist() if sizes else [], strict=True))
        none = sum(sizes)  # the entry of links without TCP: no extra rounds

        def of(n: Node, value: Any, otherwise: float) -> Any:
            t = site.transfers[site.link_names.index(n.link)]
            return otherwise if t is None else value(t)

        self.extra_rtts = ops.table(np.concatenate([*(t.extra_rtts for t in tables.values()), np.zeros(1)]))
        following = [np.asarray(t.next_state, dtype=np.int64) for t in tables.values()]
        self.next_state = ops.table(np.concatenate([*following, np.zeros(1, dtype=np.int64)]))
        top = int(site.scenario.payload.high_kb * BINS_PER_KB) + 2
        middle_bytes = (np.arange(top) + 0.5) / BINS_PER_KB * BYTES_PER_KB
        known = [t for t in site.transfers if t is not None]
        self.segment_bin = ops.table(known[0].segment_bin(middle_bytes) if known else np.zeros(1, dtype=np.int64))
        self.transfer_start = self._remote(lambda p, n: of(n, lambda t: starts[id(t)], none))
        self.state_stride = self._remote(lambda p, n: of(n, lambda t: t.n_segments * t.n_paths * t.draws, 0))
        self.segment_stride = self._remote(lambda p, n: of(n, lambda t: t.n_paths * t.draws, 0))
        self.path_stride = self._remote(lambda p, n: of(n, lambda t: t.draws, 0))
        # A noise word holds more bits than a table has draws; links without TCP read their one entry.
        self.draw_shift = self._remote(lambda p, n: of(n, lambda t: TRANSFER_BITS - (t.draws.bit_length() - 1), TRANSFER_BITS))
        self.initial_state = self._remote(lambda p, n: of(n, lambda t: int(t.initial_state), 0))
        self.idle_reset_ms = self._remote(lambda p, n: of(n, lambda t: 1000.0 * t.idle_reset_s, 1e18))

    def _energy(self) -> None:
        """Energies; per image in a batch of b: (alone - batched) / b + batched (active energy amortised over it)."""
        scenario = self._site.scenario
        self.device_energy_j = self._ops.table(
            [p.active_energy_j if n is None else 0.0 for p, n in zip(self._placements, self._nodes, strict=True)]
        )

        def batched(p: Placement) -> float:
            return p.active_energy_j if p.batched_energy_j is None else p.batched_energy_j

        self.server_fixed_j = self._remote(lambda p, n: n.pue * (p.active_energy_j - batched(p)))
        self.server_each_j = self._remote(lambda p, n: n.pue * batched(p))
        self.server_idle_w = self._remote(lambda p, n: n.pue * n.idle_power_w)
        self.network_j_per_kb = self._remote(
            lambda p, n: network_energy_j(1.0, scenario.links[n.link].network_energy_nj_per_bit)
        )

    def _histories(self) -> None:
        """Node histories end to end, each level a power of two of ticks long."""
        site, ops = self._site, self._ops
        banks: dict[int, NodeBank] = {id(b): b for b in site.banks if b is not None}
        sizes = [b.wait_ms.size for b in banks.values()]
        starts = dict(zip(banks, np.cumsum([0, *sizes]).tolist(), strict=False))
        levels = dict(zip(banks, np.cumsum([0, *(len(b.levels) for b in banks.values())]).tolist(), strict=False))

        def bank(p: Placement) -> NodeBank:
            found = site.banks[site.node_names.index(p.node)]
            assert found is not None
            return found

        join = lambda parts: ops.table(np.concatenate([*parts, np.zeros(1)]))  # noqa: E731
        self.bank_wait_ms = join(b.wait_ms.ravel() for b in banks.values())
        self.bank_idle_ms = join(b.idle_ms.ravel() for b in banks.values())
        self.bank_batch = join(b.batch_size.ravel() for b in banks.values())
        self.idle_per_round_ms = join(b.idle_ms[:, -1] for b in banks.values())
        self.background_per_ms = join(b.background_per_ms for b in banks.values())
        self.bank_start = self._remote(lambda p, n: starts[id(bank(p))])
        self.level_start = self._remote(lambda p, n: levels[id(bank(p))])
        self.tick_bits = self._remote(lambda p, n: int(bank(p).ticks).bit_length() - 1)
        self.tick_mask = self._remote(lambda p, n: bank(p).ticks - 1)

    def _servers(self) -> None:
        scenario = self._site.scenario
        self.shared = self._remote(lambda p, n: 0.0 if n.background is None else 1.0)
        self.batches = self._remote(lambda p, n: 0.0 if n.batching is None else 1.0)
        self.batch_share = self._remote(lambda p, n: 0.0 if n.batching is None else n.batching.marginal_service_share)
        widths = [1] + [n.parallelism for n in scenario.nodes.values()]
        starts = np.cumsum([0, *widths]).tolist()
        self.server_count = starts[-1]
        index = [self._site.node_names.index(p.node) for p in self._placements]
        one_each = self._site.max_parallelism == 1
        self.first_server = self.node if one_each else self._ops.table([starts[k] for k in index])
        self.last_server = self._ops.table([widths[k] - 1 for k in index])
        assert all(p.node == LOCAL or p.node in scenario.nodes for p in self._placements)
