"""What a trained agent must not be used for, as far as it follows from what it was trained on; for its card."""

from __future__ import annotations

from collections.abc import Iterator

from ..envs.schema import LOCAL, ClosedLoop, GeneratedLink, Poisson, Scenario, TraceArrivals
from ..envs.schema_links import LinkPhase, LinkSource, PhasedLink, SwitchedLink, TraceLink, UplinkRange
from ..envs.schema_nodes import Background
from ..envs.schema_shift import Factor, Shift
from ..envs.schema_zones import ConstantZone, GeneratedZone, SameZone, TraceZone, Zone
from .dial_knowledge import position_text

# What holds for every agent, whatever it was trained on.
ALWAYS = (
    "Anything in which a late or missing answer can harm people, animals or property: the objective is a share of "
    "requests, and no network guarantees any single one.",
    "Deciding without the run-time shield (`carbonpilot run` has it): the bundle alone refuses broken observations, it "
    "does not replace them by a safe placement.",
    "Reporting emissions: what it believes of energy and grids is as good as the site's numbers, and no meter.",
)


def must_not_be_used_for(scenario: Scenario, knows_dial: bool, finished: bool = True) -> list[str]:
    """Sentences for a card, the most specific first.

    Args:
        scenario: what it was trained on.
        knows_dial: whether it heeds the wishes at every position of the dial.
        finished: whether its training reached the steps that it was asked for.
    """
    found = (
        []
        if finished
        else ["Anything but trying it out: its training had not finished when it was exported."]
    )
    return [*found, *_refused(scenario, knows_dial), *_untrained(scenario), *ALWAYS]


def _refused(scenario: Scenario, knows_dial: bool) -> Iterator[str]:
    """What is refused where it is loaded, most of it."""
    places = ", ".join(f"{p.name} ({p.node}, {p.model})" for p in scenario.placements)
    yield f"Sites with other placements, nodes or models, or in another order, than {places}."
    slo = scenario.slo
    yield f"Another objective than {slo.latency_ms:g} ms for {slo.quantile:.0%} of the requests of an episode."
    if not knows_dial:
        yield f"Other positions of the dial than the one that it was trained at, {position_text(scenario.wishes)}."


def _untrained(scenario: Scenario) -> Iterator[str]:
    """Conditions that it has not seen; nothing refuses them."""
    yield _arrivals(scenario)
    low, high = scenario.payload.low_kb, scenario.payload.high_kb
    yield f"Payloads outside {_range(low, high)} kB."
    for name, link in scenario.links.items():
        yield f"Other access links than {name} as it was trained: {_link(link.source)}."
    loads = [f"{name} {_load(n.background)}" for name, n in scenario.nodes.items()]
    if loads:
        yield f"Other background load of the nodes than (share of capacity): {'; '.join(loads)}."
    zones = [f"{name} {_zone(zone)}" for name, zone in scenario.zones.items()]
    yield f"Grids unlike those of the training: {'; '.join(zones)}."
    if LOCAL in {p.node for p in scenario.placements}:
        yield _device(scenario)


def _arrivals(scenario: Scenario) -> str:
    arrivals = scenario.arrivals
    if isinstance(arrivals, ClosedLoop):
        return "Frames that come at a rate of their own: it was trained where the next one waits for the last answer."
    if isinstance(arrivals, TraceArrivals):
        return f"Other arrivals than those of {arrivals.file} at {arrivals.mean_per_s:g} requests a second."
    kind = "Poisson" if isinstance(arrivals, Poisson) else "periodic"
    factor = None if scenario.shift is None else scenario.shift.rate_factor
    low, high = _times(arrivals.low_per_s, arrivals.high_per_s, factor)
    return f"Rates outside {_range(low, high)} requests a second, or other arrivals than {kind} ones."


def _link(source: LinkSource) -> str:
    if isinstance(source, GeneratedLink):
        return f"{', '.join(source.families)}, {_uplink(source.uplink_median)}"
    if isinstance(source, TraceLink):
        return f"recordings {', '.join(source.training)}, {_uplink(source.uplink_median)}"
    if isinstance(source, SwitchedLink):
        return f"conditions {', '.join(source.conditions)}"
    assert isinstance(source, PhasedLink)
    return "phases of " + ", ".join(_phase(phase) for phase in source.phases)


def _phase(phase: LinkPhase) -> str:
    return f"{phase.rtt_ms:g} ms RTT, {phase.loss_pct:g} % loss, {phase.rate_mbps:g} Mbit/s"


def _uplink(median: UplinkRange) -> str:
    return f"median uplink {_range(median.low_mbps, median.high_mbps)} Mbit/s"


def _load(background: Background | None) -> str:
    if background is None:
        return "none"
    if background.phases is not None:
        return "phases of " + ", ".join(f"{phase.load:g}" for phase in background.phases)
    assert background.mean_low_load is not None
    assert background.mean_high_load is not None
    words = f"mean {_range(background.mean_low_load, background.mean_high_load)}"
    return (
        words
        if background.bursts is None
        else f"{words} and bursts up to {background.bursts.high_load:g} more"
    )


def _zone(zone: Zone) -> str:
    if isinstance(zone, ConstantZone):
        return f"{zone.carbon_g_per_kwh:g} g/kWh"
    if isinstance(zone, GeneratedZone):
        return f"like {', '.join(zone.regions)}"
    if isinstance(zone, TraceZone):
        return f"{', '.join(zone.files)} before {zone.training_before}"
    assert isinstance(zone, SameZone)
    return f"the same as {zone.zone}"


def _device(scenario: Scenario) -> str:
    shift = scenario.shift or Shift()
    low, high = _times(1.0, 1.0, shift.device_service_factor)
    slower = "as measured" if (low, high) == (1.0, 1.0) else f"{_range(low, high)} times the measured"
    hot = scenario.device.throttling
    heat = "without throttling" if hot is None else f"at most {hot.slowdown:g} times that when it is hot"
    times = ", ".join(
        f"{p.name} {p.service.p50_ms or p.service.mean_ms:g} ms"
        for p in scenario.placements
        if p.node == LOCAL
    )
    return f"Devices whose service time is not {slower} ({times}), {heat}."


def _times(low: float, high: float, factor: Factor | None) -> tuple[float, float]:
    return (low, high) if factor is None else (low * factor.least, high * factor.most)


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
