"""From tape rows and state to the observation vector, in the order of the observation table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .ops import BatchOps, ScalarOps
from .schema import LOCAL, Placement
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
        batched = isinstance(ops, BatchOps)
        shape = (-1, 1) if batched else (-1,)
        self.low, self.high = table.low[first:].reshape(shape), table.high[first:].reshape(shape)
        self.inverse_column = (1.0 / table.scale.astype(np.float64))[first:].reshape(shape)
        self.scratch = np.empty((len(table) - first, ops.batch), dtype=np.float64)
        self.links = range(len(site.link_names))
        self.nodes = ops.sites(len(site.node_names))
        self.rate_rows = [site.rows[f"{link}:believed_ms_per_kb"] for link in site.link_names]
        self.predictions = [self._prediction(p) for p in scenario.placements]
        self.per_budget = 1.0 / max(1.0, (1.0 - scenario.slo.quantile) * scenario.episode.requests)
        radio, throttling = scenario.device.radio, scenario.device.throttling
        self.full_tail_s = 0.0 if radio is None else radio.tail_s
        self.slower = 0.0 if throttling is None else throttling.slowdown - 1.0

    def _prediction(self, p: Placement) -> tuple[int, int]:
        """Row of the believed latency, and the link (-1 on the device)."""
        believed = self.site.rows[f"{p.name}:believed_ms"]
        if p.node == LOCAL:
            return believed, -1
        return believed, self.site.link_names.index(self.site.scenario.nodes[p.node].link)

    def raw(self, s: State, world: Any, payload: Any, progress: Any) -> list:
        """Values of the request-clock features in their units, in table order; groups by site stay together."""
        ops = self.ops
        now = s.issued_ms
        # Whether something is still under way is known; how long it will take is only believed.
        device_backlog = ops.maximum(s.believed_device_ms - now, 0.0) * (s.device_free_ms > now)
        backlog = [ops.maximum(s.believed_link_ms[i] - now, 0.0) * (s.link_free_ms[i] > now) for i in self.links]
        sending = [payload * world[rate] + left for rate, left in zip(self.rate_rows, backlog, strict=True)]
        values: list[Any] = []
        for row, link in self.predictions:
            if link < 0:
                believed = world[row]
                if self.slower:
                    believed = believed * (s.throttled * self.slower + 1.0)
                values.append(believed + device_backlog)
            else:
                values.append(world[row] + sending[link])
        values += [payload, now - s.previous_ms, *backlog, device_backlog]
        # The age of an unanswered request is what is known of its fate.
        values += [(now - (s.done_ms[k] - s.pending_ms[k])) * (s.done_ms[k] > now) for k in self.nodes]
        values += [s.seen_ms[k] for k in self.nodes]
        values += [(now - s.answered_ms[k]) * (1.0 / MS_PER_S) for k in self.nodes]
        tail_s = ops.minimum(ops.maximum(s.tail_until_ms - now, 0.0) * (1.0 / MS_PER_S), self.full_tail_s)
        values += [s.heat, s.throttled, tail_s, s.spent_misses * self.per_budget, s.recent_miss, progress]
        return values

    def batch(self, out: npt.NDArray[np.float32], values: list) -> None:
        """Encode values of (B,), or (K, B) for a group of sites, into the rows of ``out`` (F, B), clipped."""
        scratch, row = self.scratch, 0
        for value in values:
            if getattr(value, "ndim", 0) == 2:
                scratch[row : row + len(value)] = value
                row += len(value)
            else:
                scratch[row] = value
                row += 1
        block = out[self.first :]
        np.multiply(scratch, self.inverse_column, out=block, casting="same_kind")
        np.maximum(block, self.low, out=block)
        np.minimum(block, self.high, out=block)

    def single(self, out: npt.NDArray[np.float32], values: list) -> None:
        """Encode plain numbers into ``out`` (F,), clipped to the table's bounds."""
        block = out[self.first :]
        np.multiply(values, self.inverse_column, out=block, casting="same_kind")
        np.maximum(block, self.low, out=block)
        np.minimum(block, self.high, out=block)
