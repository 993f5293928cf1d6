"""Counters and gauges for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..log_records import FrameRecord, Header
from .log_writer import LogState
from .savings import Savings
from .world import World

_BUCKETS_S = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.3, 0.5, 1.0, 2.0)
ENERGY_TERMS = ("compute", "radio", "network", "server", "device_idle", "server_idle")


class Metrics:
    """Counts frames; what changes with time is read when it is asked for.

    Args:
        header: of the run.
        world: for ages and states.
        savings: for the carbon saved.
        log_state: how the log is doing.
        faults: errors of our own code so far.
        masked: decisions in which a placement was taken away, by placement and why.
    """

    def __init__(
        self,
        header: Header,
        world: World,
        savings: Savings,
        log_state: Callable[[], LogState],
        faults: Callable[[], int],
        masked: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        slo_s = header.slo_ms / 1000
        self._frames = Counter(
            "carbonpilot_frames",
            "Frames by placement decided on and reason.",
            ["placement", "reason"],
            registry=registry,
        )
        self._results = Counter(
            "carbonpilot_results", "Frames by where they were executed.", ["placement"], registry=registry
        )
        self._latency = Histogram(
            "carbonpilot_latency_seconds",
            "From issue to result; a bucket ends at the latency objective.",
            buckets=sorted({*_BUCKETS_S, slo_s}),
            registry=registry,
        )
        self._misses = Counter(
            "carbonpilot_slo_misses", "Frames above the objective or without a result.", registry=registry
        )
        self._fallbacks = Counter(
            "carbonpilot_fallbacks",
            "Frames for which another placement was tried, by why.",
            ["reason"],
            registry=registry,
        )
        self._attempts = Counter(
            "carbonpilot_attempts",
            "Calls by placement and how they ended.",
            ["placement", "end"],
            registry=registry,
        )
        self._energy = Counter(
            "carbonpilot_energy_joules", "Energy charged to frames.", ["term"], registry=registry
        )
        self._carbon = Counter(
            "carbonpilot_carbon_milligrams", "Carbon charged to frames.", ["account"], registry=registry
        )
        self._unknown = Counter(
            "carbonpilot_frames_of_unknown_carbon",
            "Frames whose grid was not known, or that could not be charged.",
            registry=registry,
        )
        self._uncharged = Counter(
            "carbonpilot_frames_of_unknown_energy", "Frames that could not be charged.", registry=registry
        )
        self._decision = Histogram(
            "carbonpilot_decision_seconds", "Telemetry read to placement chosen.",
            buckets=(1e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 1e-3, 1e-2), registry=registry,
        )  # fmt: skip
        self._overhead = Histogram(
            "carbonpilot_overhead_seconds", "Latency in which no call was under way.",
            buckets=(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2), registry=registry,
        )  # fmt: skip
        run = Gauge(
            "carbonpilot_run_info",
            "Which run this is.",
            ["run", "mode", "scenario", "bundle"],
            registry=registry,
        )
        run.labels(header.run, header.mode, header.scenario, header.bundle).set(1)
        registry.register(_Now(world, savings, log_state, faults, masked))

    def count(self, record: FrameRecord) -> None:
        """Take a frame."""
        self._frames.labels(record.placement or "none", record.reason).inc()
        self._results.labels(record.executed or "none").inc()
        if record.latency_ms is not None:
            self._latency.observe(record.latency_ms / 1000)
        if record.overhead_ms is not None:
            self._overhead.observe(record.overhead_ms / 1000)
        if record.missed:
            self._misses.inc()
        if record.fallback is not None:
            self._fallbacks.labels(record.fallback).inc()
        if record.observation is not None:
            self._decision.observe(record.decision_us / 1e6)
        for attempt in record.attempts:
            self._attempts.labels(attempt.placement, attempt.error or "answered").inc()
        for term in ENERGY_TERMS:
            joules = getattr(record, f"{term}_energy_j")
            if joules is not None and joules > 0:
                self._energy.labels(term).inc(joules)
        if record.energy_j_marginal is None:
            self._uncharged.inc()
        if record.carbon_mg_marginal is None:
            self._unknown.inc()
        else:
            self._carbon.labels("marginal").inc(record.carbon_mg_marginal)
        if record.carbon_mg_attributional is not None:
            self._carbon.labels("attributional").inc(record.carbon_mg_attributional)

    def page(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)


class _Now(Collector):
    """What is read at the moment of asking."""

    def __init__(
        self,
        world: World,
        savings: Savings,
        log_state: Callable[[], LogState],
        faults: Callable[[], int],
        masked: Callable[[], Mapping[tuple[str, str], int]],
    ) -> None:
        self._world, self._savings, self._log_state, self._faults = world, savings, log_state, faults
        self._masked = masked

    def collect(self) -> Iterator[Metric]:
        """Gauges of now."""
        yield from self._ages()
        taken = CounterMetricFamily(
            "carbonpilot_masked",
            "Decisions in which a placement was taken away, by why.",
            labels=["placement", "reason"],
        )
        for labels, count in self._masked().items():
            taken.add_metric(labels, count)
        yield taken
        states = GaugeMetricFamily(
            "carbonpilot_state", "1 for the state that a part is in.", labels=["subject", "state"]
        )
        for subject, state in self._world.seen.states.items():
            states.add_metric([subject, state], 1)
        yield states
        saved = GaugeMetricFamily(
            "carbonpilot_carbon_saved_milligrams",
            "Believed carbon of a static choice less what was charged.",
            labels=["baseline"],
        )
        for name, total in self._savings.totals.items():
            saved.add_metric([name], total.saved_mg)
        yield saved
        lines = GaugeMetricFamily("carbonpilot_log_lines", "Lines of the log by their fate.", labels=["fate"])
        log = self._log_state()
        for fate in ("written", "held", "dropped"):
            lines.add_metric([fate], getattr(log, fate))
        yield lines
        yield GaugeMetricFamily(
            "carbonpilot_in_flight", "Frames without a result.", value=self._world.in_flight()
        )
        yield GaugeMetricFamily(
            "carbonpilot_faults", "Errors of the runtime's own code.", value=self._faults()
        )

    def _ages(self) -> Iterator[Metric]:
        ages = GaugeMetricFamily(
            "carbonpilot_data_age_seconds", "Age of what the decisions rest on; absent: never seen.",
            labels=["kind", "name"],
        )  # fmt: skip
        seen = self._world.seen
        for name, link in seen.snapshot.links.items():
            if link.answered_s is not None:
                ages.add_metric(["link", name], link.age_s(self._world.now_s()))
        for name, load in seen.snapshot.loads.items():
            if load.measured_s is not None:
                ages.add_metric(["load", name], max(0.0, self._world.now_s() - load.measured_s))
        for name, latest in seen.zones.items():
            ages.add_metric(["feed", name], latest.age_s)
        yield ages
