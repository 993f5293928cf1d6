"""The telemetry's clock on the device: features that change once a second, what is believed, and what is unknown.

The values of the simulator's telemetry (`envs.telemetry`) come about by the same functions (`envs.beliefs`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...envs.absence import absent_latency_ms, always_absent, shown_of_absent
from ...envs.beliefs import BELIEVED_TOP_LOAD, local_numbers, nearest_level, predict, remote_numbers
from ...envs.observation import ObservationTable, build_table
from ...envs.rows import RowLayout
from ...envs.schema import LOCAL, Placement, Scenario
from ...envs.units import BITS_PER_BYTE, SECONDS_PER_HOUR
from ..probes.loop import ProbeSnapshot
from ..site_file import NodeLevels
from .attempts import UNKNOWN_MS

UNKNOWN, STALE_FEED = "unknown", "stale-feed"


class ZoneReading(Protocol):
    """What is needed of a feed's newest reading; `real.feeds.background.Latest` has it."""

    @property
    def reading(self) -> Any:
        """Holds ``carbon_g_per_kwh``."""
        ...

    @property
    def age_s(self) -> float:
        """Its age, s."""
        ...

    @property
    def stale(self) -> bool:
        """It says nothing about now."""
        ...


@dataclass(frozen=True)
class Doubts:
    """What must not be relied on; for the shield.

    Attributes:
        device: why nothing can be compared with the device ("unknown" or "stale-feed" of its own grid), or None.
        placements: the same for each placement (P,), None where all is known; also for absent nodes', of which
            nothing is to be known and which the shield forbids.
    """

    device: str | None
    placements: tuple[str | None, ...]

    @cached_property
    def any(self) -> bool:
        """Whether a placement is in doubt."""
        return any(why is not None for why in self.placements)


@dataclass(frozen=True)
class SecondView:
    """All that changes once a second; it never changes itself.

    Attributes:
        time_ms: when it was made.
        raw: value of each feature by name, in its unit, without the unknown ones.
        unknown: names of the features without a value.
        doubts: what must not be relied on.
        encoded: the vector (F,), zero where features have the request's clock.
        believed: what `request_features` reads, by row.
    """

    time_ms: float
    raw: Mapping[str, float]
    unknown: tuple[str, ...]
    doubts: Doubts
    encoded: npt.NDArray[np.float32]
    believed: dict[int, float]


class ViewMaker:
    """Makes a `SecondView` of probes and feeds."""

    def __init__(self, scenario: Scenario, levels: Mapping[str, NodeLevels]) -> None:
        """Work out all that stays the same."""
        self._scenario = scenario
        self.table = build_table(scenario)
        self.rows = RowLayout(scenario, self.table)
        self._encoder = SecondEncoder(self.table)
        self.placement_names = [p.name for p in scenario.placements]
        gone = always_absent(scenario)
        there = [node.zone for name, node in scenario.nodes.items() if name not in gone]
        self._zones = list(dict.fromkeys([scenario.device.zone, *there]))
        self._places = [_Place(scenario, p, levels) for p in scenario.placements]
        # As in the simulator's telemetry, by the same functions.
        self._of_absent = {k: v for name in gone for k, v in shown_of_absent(name, self.table).items()}
        self._absent_ms = {
            p.name: absent_latency_ms(p.name, self.table) for p in scenario.placements if p.node in gone
        }
        self._wishes = scenario.wishes.features

    def make(self, snapshot: ProbeSnapshot, zones: Mapping[str, ZoneReading], now_ms: float) -> SecondView:
        """Make the view of this moment.

        Args:
            snapshot: of the probes.
            zones: newest readings by zone of the scenario; a zone without one is missing.
            now_ms: since the run began.
        """
        raw = {**self._wishes, **{k: v for k, v in snapshot.features().items() if _usable(k, v)}}
        intensity = {z: float(zones[z].reading.carbon_g_per_kwh) for z in self._zones if z in zones}
        self._show_grid(raw, zones, intensity)
        raw.update(self._of_absent)
        stale = {z for z in self._zones if z in zones and zones[z].stale}
        believed: dict[int, float] = {}
        for name in self._scenario.links:
            rate = raw.get(f"{name}_uplink_mbps")
            row = self.rows[f"{name}:believed_ms_per_kb"]
            believed[row] = 0.0 if rate is None else float(np.float32(BITS_PER_BYTE) / np.float32(rate))
        reasons: list[str | None] = []
        for place in self._places:
            latency, carbon = place.believe(raw)
            if carbon is not None:
                raw[f"{place.name}_carbon_mg"] = carbon
            if place.name in self._absent_ms:
                believed[self.rows[f"{place.name}:believed_ms"]] = self._absent_ms[place.name]
                reasons.append(None)
                continue
            believed[self.rows[f"{place.name}:believed_ms"]] = UNKNOWN_MS if latency is None else latency
            reasons.append(UNKNOWN if latency is None else STALE_FEED if place.zone in stale else None)
        unknown = self._encoder.unknown(raw)
        home = self._scenario.device.zone
        device = UNKNOWN if home not in intensity else STALE_FEED if home in stale else None
        doubts = Doubts(device, (None, *reasons[1:]))
        return SecondView(now_ms, raw, unknown, doubts, self._encoder.encode(raw), believed)

    def _show_grid(
        self, raw: dict[str, float], zones: Mapping[str, ZoneReading], intensity: Mapping[str, float]
    ) -> None:
        scenario = self._scenario
        if scenario.device.zone in intensity:
            raw["device_carbon_g_per_kwh"] = intensity[scenario.device.zone]
        for name, node in scenario.nodes.items():
            if node.zone in intensity:
                raw[f"{name}_carbon_g_per_kwh"] = intensity[node.zone]
        # One age for all: that of the oldest.
        if all(z in zones for z in self._zones):
            raw["feed_age_h"] = max(zones[z].age_s for z in self._zones) / SECONDS_PER_HOUR


def _usable(name: str, value: float) -> bool:
    """Whether a probed value says anything; an age is infinite before the first answer."""
    return math.isfinite(value) and (value > 0.0 or not name.endswith("_uplink_mbps"))


class SecondEncoder:
    """The table's rows of the telemetry's clock: how they are encoded, and what stands for an unknown value.

    An unknown value is shown as the worst that its row can hold, a bound of the table and no plausible number: the
    shield keeps from placements with one, and a policy that is asked about the others must not see them as good.
    """

    def __init__(self, table: ObservationTable) -> None:
        """Note scale, bounds and worst value of each row."""
        self.names = [f.name for f in table.features if f.clock == "second"]
        # Scaling and cutting in single precision, as the simulator's telemetry does.
        self._factor = np.array([1.0 / f.scale for f in table.features], np.float32)
        self._low, self._high = table.low, table.high
        self._worst = {f.name: f.low if f.name.endswith("_uplink_mbps") else f.high for f in table.features}
        self._size = len(table)
        self._places = np.array([table.index[name] for name in self.names])

    def unknown(self, raw: Mapping[str, float]) -> tuple[str, ...]:
        """Names without a value."""
        return tuple(name for name in self.names if name not in raw)

    def encode(self, raw: Mapping[str, float]) -> npt.NDArray[np.float32]:
        """The vector (F,) with the telemetry's features."""
        out = np.zeros(self._size, np.float32)
        at = self._places
        values = np.array([raw.get(name, self._worst[name]) for name in self.names], np.float32)
        out[at] = np.clip(values * self._factor[at], self._low[at], self._high[at])
        return out


class _Place:
    """What a placement's belief follows from."""

    def __init__(self, scenario: Scenario, p: Placement, levels: Mapping[str, NodeLevels]) -> None:
        self.name, self._node = p.name, p.node
        self.local = p.node == LOCAL
        if self.local:
            self.zone = scenario.device.zone
            self._service_ms, self._mg = local_numbers(p)
            return
        node, kept = scenario.nodes[p.node], levels[p.node]
        self.zone, self._link = node.zone, node.link
        self._numbers = remote_numbers(scenario, p)
        self._loaded = node.background is not None
        self._levels = np.array(kept.load)
        self._waits, self._batches = (
            np.array(kept.wait_ms, np.float32),
            np.array(kept.batch, np.float32),
        )

    def believe(self, raw: Mapping[str, float]) -> tuple[float | None, float | None]:
        """Latency (ms, without payload and own backlog) and carbon (mg); None what cannot be known."""
        device_grid = raw.get("device_carbon_g_per_kwh")
        if self.local:
            carbon = None if device_grid is None else float(np.float32(device_grid) * self._mg)
            return float(np.float32(self._service_ms)), carbon
        rtt, uplink = raw.get(f"{self._link}_rtt_ms"), raw.get(f"{self._link}_uplink_mbps")
        grid, load = raw.get(f"{self._node}_carbon_g_per_kwh"), raw.get(f"{self._node}_load")
        if not self._loaded:
            load = 0.0
        if rtt is None or uplink is None or grid is None or device_grid is None or load is None:
            return None, None
        level = nearest_level(self._levels, np.minimum(np.float32(load), BELIEVED_TOP_LOAD))
        latency, carbon = predict(
            np.float32(rtt), np.float32(uplink), np.float32(grid), np.float32(device_grid), level,
            self._waits, self._batches, self._numbers,
        )  # fmt: skip
        return float(latency), float(carbon)
