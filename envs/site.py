"""A scenario turned into the constant tables that the physics looks up, in one of the two arithmetics."""

from __future__ import annotations

from typing import Any

import numpy as np

from .node_bank import NodeBank, bank_for
from .observation import ObservationTable, build_table
from .ops import JITTER_DRAWS, BatchOps, ScalarOps
from .rows import RowLayout
from .schema import LOCAL, Scenario
from .service import mean_ms, quantile_table
from .transfer.empirical import jitter_table
from .transfer.table import TransferTable, transfer_table
from .units import network_energy_j

Ops = BatchOps | ScalarOps


class Site:
    """Everything about a scenario that is the same in every episode (arrays indexed by placement or node)."""

    def __init__(self, scenario: Scenario) -> None:
        """Work the scenario's numbers out once."""
        self.scenario = scenario
        self.table: ObservationTable = build_table(scenario)
        self.rows = RowLayout(scenario, self.table)
        self.node_names = [LOCAL, *scenario.nodes]
        self.link_names = list(scenario.links)
        self.placement_names = [p.name for p in scenario.placements]
        self.banks: list[NodeBank | None] = [None] + [bank_for(n) for n in scenario.nodes.values()]
        self.has_background = any(n.background is not None for n in scenario.nodes.values())
        self.has_batching = any(n.batching is not None for n in scenario.nodes.values())
        self.max_parallelism = max([1] + [n.parallelism for n in scenario.nodes.values()])
        self.transfers: list[TransferTable | None] = [
            transfer_table(link.transfer.congestion_control) if link.transfer.congestion_control else None
            for link in scenario.links.values()
        ]
        self.has_tcp = any(t is not None for t in self.transfers)

    def constants(self, ops: Ops) -> Constants:
        """The look-up tables in the arithmetic of ``ops``."""
        return Constants(self, ops)


class Constants:
    """Look-up tables of a site: one entry per placement unless the name says otherwise."""

    def __init__(self, site: Site, ops: Ops) -> None:
        """Fill the tables."""
        scenario, rows = site.scenario, site.rows
        links = list(scenario.links.values())
        link_index = {name: i for i, name in enumerate(scenario.links)}
        node_index = {name: i for i, name in enumerate(site.node_names)}
        nodes = [scenario.nodes.get(p.node) for p in scenario.placements]

        def table(values: list) -> Any:
            return ops.table(values)

        self.node_of = table([node_index[p.node] for p in scenario.placements])
        # The device has a link of its own that is always free and takes no time.
        self.link_of = table([len(links) if n is None else link_index[n.link] for n in nodes])
        self.is_remote = table([0.0 if n is None else 1.0 for n in nodes])
        self.extra_rtt_ms = table([0.0 if n is None else n.extra_rtt_ms for n in nodes])
        for name in ("rtt_ms", "jitter_ms", "ms_per_kb", "blocked_until_ms", "path"):
            column = [0 if n is None else rows[f"{n.link}:{name}"] for n in nodes]
            setattr(self, f"row_{name}", table(column))
        self.row_level = table([0 if n is None else rows[f"{p.node}:level"] for p, n in zip(scenario.placements, nodes, strict=True)])
        self.row_carbon = table([rows[f"{scenario.device.zone if n is None else n.zone}:carbon"] for n in nodes])
        self.row_network_carbon = table(
            [0 if n is None else rows[f"{scenario.links[n.link].network_zone}:carbon"] for n in nodes]
        )
        self.row_device_carbon = rows[f"{scenario.device.zone}:carbon"]
        self._noise(site, ops, links, link_index, nodes)
        self._energy(site, ops, nodes)
        self._banks(site, ops)
        self.accuracy = table([p.accuracy_miou for p in scenario.placements])
        self.best_accuracy = max(p.accuracy_miou for p in scenario.placements)

    row_rtt_ms: Any
    row_jitter_ms: Any
    row_ms_per_kb: Any
    row_blocked_until_ms: Any
    row_path: Any

    def _noise(self, site: Site, ops: Ops, links: list, link_index: dict, nodes: list) -> None:
        scenario = site.scenario
        services: dict[str, int] = {}
        blocks: list[np.ndarray] = []
        base = []
        for p in scenario.placements:  # equal service distributions share one block
            key = p.service.model_dump_json()
            if key not in services:
                services[key] = sum(len(b) for b in blocks)
                blocks.append(quantile_table(p.service))
            base.append(services[key])
        self.service_base = ops.table(base)
        self.service_ms = ops.table(np.concatenate(blocks))
        jitters = [jitter_table(link.transfer, JITTER_DRAWS).astype(np.float64) for link in links]
        self.jitter = ops.table(np.concatenate([*jitters, np.zeros(1)]))
        self.jitter_base = ops.table([0 if n is None else JITTER_DRAWS * link_index[n.link] for n in nodes])
        self.has_jitter = ops.table([0 if n is None else 1 for n in nodes])
        sizes = [0 if t is None else t.extra_rtts.size for t in site.transfers]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        rounds = [t.extra_rtts.astype(np.float64) for t in site.transfers if t is not None]
        nexts = [np.asarray(t.next_state) for t in site.transfers if t is not None]
        idle_entry = int(offsets[-1])  # one entry for placements without TCP: no extra rounds
        self.extra_rtts = ops.table(np.concatenate([*rounds, np.zeros(1)]))
        self.next_state = ops.table(np.concatenate([*nexts, np.zeros(1, dtype=np.int64)]).astype(np.int64))
        tcp = [None if n is None else site.transfers[link_index[n.link]] for n in nodes]
        self.transfer_base = ops.table(
            [idle_entry if t is None else int(offsets[link_index[n.link]]) for n, t in zip(nodes, tcp, strict=True)]
        )
        self.state_stride = ops.table([0 if t is None else t.n_segments * t.n_paths * t.draws for t in tcp])
        self.segment_stride = ops.table([0 if t is None else t.n_paths * t.draws for t in tcp])
        self.path_stride = ops.table([0 if t is None else t.draws for t in tcp])
        self.draw_stride = ops.table([0 if t is None else 1 for t in tcp])
        self.initial_state = ops.table([0 if t is None else t.initial_state for t in tcp])
        self.idle_reset_ms = ops.table([1e18 if t is None else 1000.0 * t.idle_reset_s for t in tcp])

    def _energy(self, site: Site, ops: Ops, nodes: list) -> None:
        scenario = site.scenario
        device = scenario.device
        pairs = list(zip(scenario.placements, nodes, strict=True))
        self.device_energy_j = ops.table([p.active_energy_j if n is None else 0.0 for p, n in pairs])
        # Per image in a batch of b: (alone - batched) / b + batched (DESIGN, Physics: active energy
        # amortised over the batch).
        batched = [p.active_energy_j if p.batched_energy_j is None else p.batched_energy_j for p in scenario.placements]
        self.server_fixed_j = ops.table(
            [0.0 if n is None else n.pue * (p.active_energy_j - b) for (p, n), b in zip(pairs, batched, strict=True)]
        )
        self.server_each_j = ops.table([0.0 if n is None else n.pue * b for (_, n), b in zip(pairs, batched, strict=True)])
        self.server_idle_w = ops.table([0.0 if n is None else n.pue * n.idle_power_w for n in nodes])
        self.network_j_per_kb = ops.table(
            [0.0 if n is None else network_energy_j(1.0, scenario.links[n.link].network_energy_nj_per_bit) for n in nodes]
        )
        radio = device.radio
        self.transmit_w = ops.table([0.0 if n is None or radio is None else radio.transmit_power_w for n in nodes])
        self.tail_w = ops.table([0.0 if n is None or radio is None else radio.tail_power_w for n in nodes])

    def _banks(self, site: Site, ops: Ops) -> None:
        """Node histories end to end; placements of nodes without background read an idle level."""
        unique: dict[int, int] = {}
        parts: list[NodeBank] = []
        offsets: list[int] = []
        total = 0
        for bank in site.banks[1:]:
            assert bank is not None
            if id(bank) not in unique:
                unique[id(bank)] = total
                parts.append(bank)
                total += bank.wait_ms.size
            offsets.append(unique[id(bank)])
        by_node = [0, *offsets]
        ticks = [1] + [b.ticks for b in site.banks[1:] if b is not None]
        nodes = [site.node_names.index(p.node) for p in site.scenario.placements]
        self.bank_base = ops.table([by_node[k] for k in nodes])
        self.bank_ticks = ops.table([ticks[k] for k in nodes])
        empty = [np.zeros(1)]
        self.bank_wait = ops.table(np.concatenate([b.wait_ms.ravel() for b in parts] or empty))
        self.bank_idle = ops.table(np.concatenate([b.idle_ms.ravel() for b in parts] or empty))
        self.bank_batch = ops.table(np.concatenate([b.batch_size.ravel() for b in parts] or empty))
        rates = [np.zeros(1)] + [b.background_per_ms for b in site.banks[1:] if b is not None]
        starts = np.concatenate([[0], np.cumsum([len(r) for r in rates])[:-1]])
        self.rate_base = ops.table([int(starts[k]) for k in nodes])
        self.background_per_ms = ops.table(np.concatenate(rates))
        spec = [site.scenario.nodes.get(p.node) for p in site.scenario.placements]
        self.batch_share = ops.table(
            [0.0 if n is None or n.batching is None else n.batching.marginal_service_share for n in spec]
        )
        self.uses_bank = ops.table([0.0 if n is None or n.background is None else 1.0 for n in spec])
        widths = [1] + [n.parallelism for n in site.scenario.nodes.values()]
        slots = np.concatenate([[0], np.cumsum(widths)])
        self.slots = int(slots[-1])
        self.slot_base = ops.table([int(slots[k]) for k in nodes])
        self.slot_last = ops.table([widths[k] - 1 for k in nodes])
