"""Looks at the world once a second, in a thread of its own: for the observer, the log, the accounts and the page."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...envs.absence import always_absent, zones_in_use
from ...envs.schema import LOCAL, Scenario
from ..clock import Clock
from ..feeds import Latest
from ..log_records import EventRecord, LinkRecord, LoadRecord, Record, WorldRecord, ZoneRecord
from ..observer import Observer
from ..probes.loop import ProbeSnapshot
from .accounts import Surroundings, network_of

LINK_SILENT_S = 5.0  # without an answered probe for so long a link is told of as silent
EARLY_S = (0.05, 0.2, 0.5)  # further looks in the first second

log = logging.getLogger(__name__)


class Probes(Protocol):
    """What `probes.loop.ProbeLoop` does."""

    def latest(self) -> ProbeSnapshot:
        """What is known by now."""
        ...


class Feeds(Protocol):
    """What `SiteFeeds` does."""

    def latest(self) -> dict[str, Latest]:
        """Newest readings by zone of the scenario."""
        ...


@dataclass(frozen=True)
class Seen:
    """One look at the world; it never changes.

    Attributes:
        time_s: when, on the clock.
        snapshot: of the probes.
        zones: readings by zone.
        surroundings: for the accounts; a stale reading says nothing about now, so it is unknown there.
        states: what is told of as an event when it changes: "link uplink" -> "answers".
    """

    time_s: float
    snapshot: ProbeSnapshot
    zones: Mapping[str, Latest]
    surroundings: Surroundings
    states: Mapping[str, str]


class World:
    """Refreshes the observer and writes `WorldRecord`s and events.

    Args:
        scenario: the site's.
        probes, feeds: what is looked at.
        observer: is refreshed.
        clock, began_s: time, and when the run began.
        put: takes records.
        breakers: states of the breakers by node.
        in_flight: frames without a result.
        also: further work for this thread at each look, such as the meters' windows.
        placements: whether each server's placement is allowed, or why not.
        troubles: what went wrong in deciding since it was asked last: reason and detail; each becomes an event.
    """

    def __init__(
        self,
        scenario: Scenario,
        probes: Probes,
        feeds: Feeds,
        observer: Observer,
        clock: Clock,
        began_s: float,
        put: Callable[[Record], None],
        breakers: Callable[[], Mapping[str, str]],
        in_flight: Callable[[], int],
        also: Callable[[float], None] = lambda now_s: None,
        placements: Callable[[], Mapping[str, str]] = dict,
        troubles: Callable[[], Sequence[tuple[str, str]]] = tuple,
    ) -> None:
        self._scenario, self._probes, self._feeds, self._observer = scenario, probes, feeds, observer
        self._clock, self._began_s, self._put = clock, began_s, put
        self._breakers, self.in_flight, self._also = breakers, in_flight, also
        self._placements, self._troubles, self._warned = placements, troubles, set[str]()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.faults = 0
        self.seen = self._look()

    def start(self) -> None:
        """Look now, and every second from now on."""
        self.tick()
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._tell_troubles()

    def now_s(self) -> float:
        """The clock's time."""
        return self._clock.monotonic_s()

    @property
    def zones(self) -> list[str]:
        """Zones of the scenario that something draws power from."""
        return list(zones_in_use(self._scenario))

    @property
    def absent(self) -> tuple[str, ...]:
        """Nodes that the site leaves out."""
        return always_absent(self._scenario)

    def device(self) -> dict[str, float | bool]:
        """The device's heat and speed."""
        state = self._observer.device_state()
        return {"heat": round(state.heat, 3), "throttled": state.throttled}

    def tick(self) -> None:
        """Look once; the thread lives by this."""
        self._put(self._record(self._refresh()))
        self._also(self.seen.time_s)

    def _refresh(self) -> Seen:
        """Look, show it to the observer, and tell what has changed."""
        seen = self._look()
        self._observer.refresh(seen.snapshot, seen.zones, self._ms(seen.time_s))
        before, self.seen = self.seen, seen
        for subject, state in seen.states.items():
            if before.states.get(subject, state) != state:
                self.event(state, subject, self._detail(subject, seen))
        self._tell_troubles()
        return seen

    def _tell_troubles(self) -> None:
        """An event for each reason and second; a warning for the first of each."""
        for reason, detail in self._troubles():
            self.event(reason, "decisions", detail)
            if reason not in self._warned:
                self._warned.add(reason)
                log.warning("%s: %s. Further ones are in the log.", reason, detail)

    def event(self, event: str, subject: str, detail: str) -> None:
        """Have an event logged."""
        now_s = self._clock.monotonic_s()
        self._put(
            EventRecord(
                time_ms=self._ms(now_s),
                utc=self._clock.utc().isoformat(),
                event=event,
                subject=subject,
                detail=detail,
            )
        )

    def _run(self) -> None:
        due_s = self._clock.monotonic_s()
        for after_s in EARLY_S:  # the probes' first answers must not wait for a second
            self._wait_and(self._refresh, due_s + after_s)
        while not self._stopping.is_set():
            due_s = max(due_s + 1.0, self._clock.monotonic_s())
            self._wait_and(self.tick, due_s)

    def _wait_and(self, look: Callable[[], object], due_s: float) -> None:
        if self._stopping.wait(max(due_s - self._clock.monotonic_s(), 0.0)):
            return
        try:
            look()
        except Exception:
            self.faults += 1
            log.exception("Error while looking at the world; the run goes on with what was known.")

    def _ms(self, time_s: float) -> float:
        return (time_s - self._began_s) * 1000

    def _look(self) -> Seen:
        now_s = self._clock.monotonic_s()
        snapshot, zones = self._probes.latest(), self._feeds.latest()
        return Seen(
            now_s, snapshot, zones, self._surroundings(snapshot, zones), self._states(now_s, snapshot, zones)
        )

    def _surroundings(self, snapshot: ProbeSnapshot, zones: Mapping[str, Latest]) -> Surroundings:
        scenario = self._scenario

        def intensity(zone: str) -> float | None:
            latest = zones.get(zone)
            return None if latest is None or latest.stale else float(latest.reading.carbon_g_per_kwh)

        carbon = {LOCAL: intensity(scenario.device.zone)}
        carbon.update({name: intensity(node.zone) for name, node in scenario.nodes.items()})
        carbon.update(
            {network_of(name): intensity(link.network_zone) for name, link in scenario.links.items()}
        )
        loads = {name: _float(state.load) for name, state in snapshot.loads.items()}
        uplinks = {name: _float(state.uplink.rate_mbps) for name, state in snapshot.links.items()}
        return Surroundings(carbon, loads, uplinks)

    def _states(self, now_s: float, snapshot: ProbeSnapshot, zones: Mapping[str, Latest]) -> dict[str, str]:
        states = {}
        for name, link in snapshot.links.items():
            silent = link.age_s(now_s) > LINK_SILENT_S
            states[f"link {name}"] = "silent" if silent else "answers"
        for zone in self.zones:
            if zone in zones:
                states[f"feed {zone}"] = "stale" if zones[zone].stale else "fresh"
        states.update({f"node {name}": "absent" for name in self.absent})
        states["device"] = "throttled" if self._observer.device_state().throttled else "full-speed"
        states.update({f"placement {name}": state for name, state in self._placements().items()})
        breakers = self._breakers()
        names = {p.name for p in self._scenario.placements if p.node in self.absent}
        gone = {*self.absent, *(f"head of {name}" for name in names)}
        states.update({f"breaker {name}": s for name, s in breakers.items() if name not in gone})
        return states

    def _detail(self, subject: str, seen: Seen) -> str:
        kind, _, name = subject.partition(" ")
        if kind == "link":
            return seen.snapshot.links[name].error or ""
        if kind == "feed":
            return f"{seen.zones[name].reading.source}, {seen.zones[name].age_s:.0f} s old"
        return ""

    def _record(self, seen: Seen) -> WorldRecord:
        device = self._observer.device_state()
        return WorldRecord(
            time_ms=self._ms(seen.time_s),
            utc=self._clock.utc().isoformat(),
            links={name: _link(state, seen.time_s) for name, state in seen.snapshot.links.items()},
            loads={
                name: LoadRecord(load=_float(state.load), load_age_s=_age(state.measured_s, seen.time_s))
                for name, state in seen.snapshot.loads.items()
            },
            zones={
                name: ZoneRecord(
                    carbon_g_per_kwh=float(latest.reading.carbon_g_per_kwh),
                    age_s=latest.age_s,
                    estimated=latest.reading.estimated,
                    source=latest.reading.source,
                )
                for name, latest in seen.zones.items()
            },
            device_heat=device.heat,
            device_throttled=device.throttled,
            in_flight=self.in_flight(),
        )


def _link(state: Any, now_s: float) -> LinkRecord:
    return LinkRecord(
        answered=state.error is None and state.probes > 0,
        rtt_last_ms=_float(state.rtt_last_ms),
        rtt_ms=_float(state.rtt_ms),
        rtt_deviation_ms=_float(state.rtt_deviation_ms),
        loss_pct=_float(state.loss_pct) if state.probes else None,
        uplink_mbps=_float(state.uplink.rate_mbps),
        probe_age_s=_age(state.answered_s, now_s),
    )


def _age(then_s: float | None, now_s: float) -> float | None:
    return None if then_s is None else max(0.0, now_s - then_s)


def _float(value: Any) -> float | None:
    """A plain number; NumPy's own are not written to JSON."""
    return None if value is None else float(value)
