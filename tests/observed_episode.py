"""One simulated episode, and an observer that is driven through the same: what both show can be compared bit by bit."""

import heapq
import itertools
from types import SimpleNamespace

import numpy as np

from carbonpilot.envs.absence import always_absent, zones_in_use
from carbonpilot.envs.link_sources import draw_link
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.streams import Stream, episode_keys, mix64, salt
from carbonpilot.envs.tape import WARMUP_ROWS, _loads, row_count
from carbonpilot.envs.telemetry import _probe_link, _probe_load
from carbonpilot.envs.zone_sources import draw_zones
from carbonpilot.real.observer import Observer, node_levels
from carbonpilot.real.probes.link import LinkState
from carbonpilot.real.probes.loop import ProbeSnapshot
from carbonpilot.real.probes.triton_load import LoadState
from carbonpilot.real.probes.uplink import UplinkState


class Told:
    """A throttle that says what it is told."""

    def __init__(self):
        self.now = 0.0

    def served(self, now_ms, service_ms, calibrated_ms):
        pass

    def look(self):
        pass

    def throttled(self, now_ms):
        return self.now > 0.0


class Episode:
    """One simulated episode, and an observer that lives through the same."""

    def __init__(self, scenario, seed=5):
        self.simulator = Simulator(scenario, 1)
        self.scenario = self.simulator.scenario
        # Of a node that a deployment leaves out nothing is probed, and no feed is asked for its zone.
        self.gone, self.wanted_zones = always_absent(self.scenario), zones_in_use(self.scenario)
        self.expected = self.simulator.reset([seed])[0]
        self._shown = self._telemetry(seed)
        self._warmup = 0 if self.scenario.world_clock == "request" else WARMUP_ROWS
        self.throttle = Told()
        self.observer = Observer(self.scenario, node_levels(self.scenario), self.throttle)
        self._events, self._number, self._row = [], itertools.count(), None
        self.n = 0

    def _telemetry(self, seed):
        """The raw values behind the tape's telemetry, drawn again from the same streams."""
        scenario, part = self.scenario, "training"
        keys = mix64(episode_keys([seed]) ^ salt(part))
        count = row_count(scenario)
        warmup = 0 if scenario.world_clock == "request" else WARMUP_ROWS
        shown = {}
        for name, link in scenario.links.items():
            rows = draw_link(link.source, Stream(keys, f"link:{name}"), count, warmup, part, None)
            shown |= _probe_link(name, rows, scenario, Stream(keys, f"probe:{name}"))
        for name, load in _loads(scenario, keys, count, warmup).items():
            shown |= _probe_load(name, load, scenario, Stream(keys, f"report:{name}"))
        self._zones = {
            z: feed[:, 0] for z, (_, feed) in draw_zones(scenario, keys, count, part, None).items()
        }
        return {name: values[:, 0] for name, values in shown.items()}

    def _refresh(self, row, now_ms):
        values = {name: column[row] for name, column in self._shown.items()}
        links = {
            name: LinkState(
                rtt_ms=values[f"{name}_rtt_ms"], rtt_last_ms=values[f"{name}_rtt_last_ms"],
                rtt_deviation_ms=values[f"{name}_rtt_deviation_ms"], loss_pct=values[f"{name}_loss_pct"],
                uplink=UplinkState(values[f"{name}_uplink_mbps"], None, False, 1, 0),
                answered_s=1000.0 - float(values[f"{name}_probe_age_s"]), probes=1, lost=0, tcp=None, error=None,
            )
            for name in self.scenario.links
        }  # fmt: skip
        loads = {
            name: LoadState(
                load=float(values[f"{name}_load"]), measured_s=1000.0 - float(values[f"{name}_load_age_s"])
            )
            for name, node in self.scenario.nodes.items()
            if node.background is not None and name not in self.gone
        }
        age_s = self.scenario.telemetry.feed_delay_h * 3600
        zones = {
            z: SimpleNamespace(
                reading=SimpleNamespace(carbon_g_per_kwh=float(v[row])), age_s=age_s, stale=False
            )
            for z, v in self._zones.items()
            if z in self.wanted_zones
        }
        self.observer.refresh(ProbeSnapshot(1000.0, links, loads, {}), zones, now_ms)

    def observed(self):
        """The observer's vector for the waiting request."""
        state = self.simulator.state
        now_ms = float(state.episodes.issued_ms[0])
        while self._events and self._events[0][0] <= now_ms:
            _, _, happen = heapq.heappop(self._events)
            happen()
        row = self.n if self.scenario.world_clock == "request" else self._warmup + int(now_ms * 0.001)
        if row != self._row:
            self._row = row
            self._refresh(row, now_ms)
        self.throttle.now = state.episodes.throttled[0]
        return self.observer.observe(now_ms, float(self.simulator.tape.payload_kb[self.n, 0]))

    def _sent_ms(self, link, now_ms, outcome):
        """When the bytes have left: of those that went before a split model's, the link remembers it elsewhere."""
        before = ("device_wait_ms", "head_ms", "link_wait_ms", "upload_ms", "recovery_ms")
        about_ms = now_ms + sum(float(getattr(outcome, name)[0]) for name in before)
        links = self.simulator.state.links
        exact = [float(links.free_ms[0, link]), float(links.gap_from_ms[0, link])]
        return min(exact, key=lambda ms: abs(ms - about_ms))

    def _at(self, time_ms, happen):
        heapq.heappush(self._events, (time_ms, next(self._number), happen))

    def place(self, placement):
        """Place the waiting request in both; returns whether the episode goes on.

        As in a batch of episodes the device does what an absent node was asked for.
        """
        placement = placement if self.simulator.masks()[0, placement] else 0
        simulator, observer, state = self.simulator, self.observer, self.simulator.state
        now_ms = float(state.episodes.issued_ms[0])
        frame = observer.frame
        attempt = observer.placed(now_ms, placement, float(simulator.tape.payload_kb[self.n, 0]))
        result = simulator.step([placement])
        p = simulator.constants.placements[placement]
        latency_ms, missed = float(result.outcome.latency_ms[0]), bool(result.outcome.missed[0])
        done_ms = now_ms + latency_ms
        sending_ms, service_ms = None, None
        if p.split:
            ready_ms, head_ms = float(state.episodes.device_free_ms[0]), float(result.outcome.head_ms[0])
            self._at(ready_ms, lambda: observer.headed(attempt, ready_ms, head_ms))
        if p.remote:
            sending_ms = float(result.outcome.upload_ms[0]) + float(result.outcome.recovery_ms[0])
            sent_ms = self._sent_ms(p.link, now_ms, result.outcome)
            self._at(sent_ms, lambda: observer.sent(attempt, sent_ms))
        else:
            done_ms = float(state.episodes.device_free_ms[0])
            service_ms = float(result.outcome.service_ms[0])
        self._at(done_ms, lambda: observer.answered(attempt, done_ms, latency_ms, service_ms, sending_ms))
        ended_ms = now_ms + latency_ms
        self._at(ended_ms, lambda: observer.finished(frame, ended_ms, missed))
        self.expected = result.observation[0]
        self.n += 1
        return not result.truncated[0]


def compare(episode, placements, steps):
    """Live through some steps. Every feature must have the very same bits, with one exception.

    The simulator knows when an unanswered request was issued as (issue + latency) - latency, the observer, which
    cannot know the latency yet, as (issue + something else) - something else: one rounding, at most one unit of the
    number before it is scaled, which may be two after.
    """
    names = episode.simulator.table.names
    for _, placement in zip(range(steps), placements, strict=False):
        seen, expected = episode.observed(), episode.expected
        off = np.abs(seen.astype(np.float64) - expected) / np.spacing(np.abs(expected))
        for i in np.flatnonzero(seen != expected):
            allowed = 2 if names[i].endswith("_outstanding_ms") else 0
            assert off[i] <= allowed, f"request {episode.n}: {names[i]} is {seen[i]}, not {expected[i]}"
        if not episode.place(int(placement)):
            break
