"""The observation table of a scenario as a Markdown page; ``docs/observation.md`` is the flagship's."""

from __future__ import annotations

from .observation import build_table
from .schema import Scenario

_INTRODUCTION = """\
# What the agent sees: `{name}`

Written by `carbonpilot scenarios --observation {name}`, from `envs/observation.py`; a test compares the two.

The observation is a float32 vector of {count} numbers, in the order below. Each is
`clip(value / scale, low / scale, high / scale)`; low, high and scale are in the feature's unit. It holds only
what a device can know: probed, delayed and noisy values with their age, its own backlog and heat, what it
believes a placement would take and emit, how much of the SLO's miss budget is spent, the operator's wishes.

The clock says when a value changes: with the telemetry (`second`, or every request where the scenario's
`world_clock` is `request`) or with every request (`request`). What is believed comes from the scenario's mean
values and the telemetry, never from the tape.

| # | name | unit | low | high | scale | clock | meaning |
|---:|---|---|---:|---:|---:|---|---|
"""

_NAMES = """
## How the names follow from a scenario

The table is built from the scenario's own names: every pattern below stands once for each link, node or
placement, in the order of the file, the telemetry's features first. Other names are the same everywhere. A
node has `NODE_load` and `NODE_load_age_s` only if it has `background`. Latencies and backlogs have the
objective (`slo.latency_ms`) as scale and four times the objective as upper bound, so two scenarios with the
same names but another objective have different tables. A bundle holds its table, and its hash is compared
before the bundle may decide ([bundles](bundles.md)).

| one for each | names |
|---|---|
"""


def observation_page(scenario: Scenario) -> str:
    """The page of one scenario: every feature of its table, and how names come about."""
    features = build_table(scenario).features
    rows = [
        f"| {i} | `{f.name}` | {f.unit} | {f.low:g} | {f.high:g} | {f.scale:g} | {f.clock} | {f.meaning} |"
        for i, f in enumerate(features)
    ]
    introduction = _INTRODUCTION.format(name=scenario.name, count=len(features))
    return introduction + "\n".join(rows) + "\n" + _NAMES + "\n".join(_pattern_rows(scenario)) + "\n"


def _pattern_rows(scenario: Scenario) -> list[str]:
    """One row per part, with the names that the table gives to a part called like its kind."""
    links = list(scenario.links.values())[:1]
    nodes = sorted(scenario.nodes.values(), key=lambda node: node.background is None)[:1]
    placeholder = scenario.model_copy(
        update={
            "links": dict(zip(["LINK"], links, strict=False)),
            "nodes": dict(zip(["NODE"], nodes, strict=False)),
            "placements": [scenario.placements[0].model_copy(update={"name": "PLACEMENT"})],
        }
    )
    names = build_table(placeholder).names
    found = {kind: [f"`{n}`" for n in names if n.startswith(kind)] for kind in ("LINK", "NODE", "PLACEMENT")}
    return [f"| {kind.lower()} | {', '.join(patterns)} |" for kind, patterns in found.items() if patterns]
