"""From tape rows and state to the observation vector, in the order of the observation table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .ops import BatchOps, ScalarOps
from .schema import LOCAL
from .site import Site
from .state import State
from .units import MS_PER_S


class Encoder:
    """Writes the request-clock features; the second-clock ones come encoded on the tape."""

    def __init__(self, site: Site, ops: BatchOps | ScalarOps) -> None:
        """Fix the positions, divisors and bounds once."""
        table, scenario = site.table, site.scenario
        self.ops, self.site, self.table = ops, site, table
        first = [f.clock for f in table.features].index("request")
        assert all(f.clock == "request" for f in table.features[first:]), "second-clock features come first"
        self.first, self.count = first, len(table)
        shape = (-1, 1) if isinstance(ops, BatchOps) else (-1,)
        self.low, self.high = table.low[first:].reshape(shape), table.high[first:].reshape(shape)
        self.inverse = (1.0 / table.scale.astype(np.float64)).tolist()
        placements = scenario.placements
        self.service_row = [site.rows[f"{p.name}:believed_ms"] for p in placements]
        self.link_row = [
            -1 if p.node == LOCAL else site.rows[f"{scenario.nodes[p.node].link}:believed_ms_per_kb"] for p in placements
        ]
        self.link_index = [-1 if p.node == LOCAL else site.link_names.index(scenario.nodes[p.node].link) for p in placements]
        self.budget = max(1.0, (1.0 - scenario.slo.quantile) * scenario.episode.requests)
        throttling = scenario.device.throttling
        self.slower = 0.0 if throttling is None else throttling.slowdown - 1.0

    def raw(self, s: State, world: Any, payload: Any, progress: Any) -> list:
        """Values of the request-clock features in their units, in table order."""
        ops, site = self.ops, self.site
        now = s.issued_ms
        link_backlog = [ops.maximum(s.link_free_ms[i] - now, 0.0) for i in range(len(site.link_names))]
        device_backlog = ops.maximum(s.device_free_ms - now, 0.0)
        values: list[Any] = []
        for service, rate, link in zip(self.service_row, self.link_row, self.link_index, strict=True):
            if link < 0:
                believed = world[service]
                if self.slower:
                    believed = believed * (1.0 + self.slower * s.throttled)
                values.append(believed + device_backlog)
            else:
                values.append(world[service] + payload * world[rate] + link_backlog[link])
        values += [payload, now - s.previous_ms, *link_backlog, device_backlog]
        nodes = range(1, len(site.node_names))
        values += [ops.where(s.done_ms[k] <= now, 0.0, now - s.last_issue_ms[k]) for k in nodes]
        values += [s.seen_ms[k] for k in nodes]
        values += [(now - s.answered_ms[k]) / MS_PER_S for k in nodes]
        tail = ops.maximum(s.tail_until_ms - now, 0.0) / MS_PER_S
        values += [s.heat, s.throttled, tail, s.spent_misses / self.budget, s.recent_miss, progress]
        return values

    def batch(self, out: npt.NDArray[np.float32], values: list) -> None:
        """Encode values of (B,) into the rows of ``out`` (F, B), clipped to the table's bounds."""
        block = out[self.first :]
        for row, value, inverse in zip(block, values, self.inverse[self.first :], strict=True):
            row[...] = value * inverse
        np.maximum(block, self.low, out=block)
        np.minimum(block, self.high, out=block)

    def single(self, out: npt.NDArray[np.float32], values: list) -> None:
        """Encode plain numbers into ``out`` (F,), clipped to the table's bounds."""
        block = out[self.first :]
        block[...] = [v * i for v, i in zip(values, self.inverse[self.first :], strict=True)]
        np.maximum(block, self.low, out=block)
        np.minimum(block, self.high, out=block)
