"""Writes a simulated episode as the log of a run, so that verify can be tried where there is no device.

The probes of such a log are what a device would have measured on that link: one draw of the round-trip time a second.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import __version__
from ...envs.files import atomic_write_text
from ...envs.link_sources import LinkRows, draw_link
from ...envs.node_loads import draw_load
from ...envs.observation import build_table
from ...envs.outcome import IDLE_ENERGY_TERMS, MARGINAL_ENERGY_TERMS, Outcome
from ...envs.scenario import scenario_sha256
from ...envs.schema import LOCAL, Scenario
from ...envs.simulator import Simulator
from ...envs.streams import Stream, episode_keys, mix64, salt
from ...envs.tape import Part
from ...envs.transfer.empirical import jitter_table
from ...envs.zone_sources import draw_zones
from ..log_records import (
    Attempt,
    FrameRecord,
    Header,
    LinkRecord,
    LoadRecord,
    Record,
    WorldRecord,
    ZoneRecord,
    to_line,
)

START = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
Choose = Callable[[int, npt.NDArray[np.float32]], int]  # (request, observation (F,)) -> placement


def write_simulated_log(
    path: str | Path,
    truth: Scenario,
    choose: Choose,
    seed: int = 0,
    believed: Scenario | None = None,
    part: Part = "evaluation",
) -> Path:
    """Play one episode and write what a device would have logged.

    Args:
        path: the log file.
        truth: what really happens.
        choose: the placement of each request.
        seed: of the episode.
        believed: the site's scenario that the log's header names; the truth where None. Another one makes the log of a
            device whose calibration is out of date.
        part: of the seeds.
    """
    simulator = Simulator(truth, 1, part=part)
    observation = simulator.reset([seed])
    lines: list[Record] = [_header(believed or truth)]
    warmup = simulator.tape.warmup
    worlds = _worlds(truth, seed, part, simulator.tape.rows.shape[1], warmup)
    names, payloads, time_ms = simulator.placement_names, simulator.tape.payload_kb[:, 0], 0.0
    for n in range(truth.episode.requests):
        action = choose(n, observation[0])
        result = simulator.step([action])
        frame = _frame(truth, n, names[action], result.outcome, float(payloads[n]))
        while time_ms + 1000.0 <= frame.issued_ms:
            time_ms += 1000.0
            lines.append(worlds[warmup + int(time_ms / 1000.0) - 1])
        lines.append(frame)
        observation = result.observation
        if result.truncated[0]:
            break
    lines.append(worlds[warmup + int(time_ms / 1000.0)])
    atomic_write_text(path, "".join(to_line(line) for line in lines))
    return Path(path)


def _header(scenario: Scenario) -> Header:
    table = build_table(scenario)
    return Header(
        carbonpilot_version=__version__,
        run="simulated",
        part=0,
        started_utc=START.isoformat(),
        started_monotonic_s=0.0,
        mode="active",
        scenario=scenario.name,
        scenario_sha256=scenario_sha256(scenario),
        table_sha256=table.sha256,
        bundle="simulated",
        card_sha256="0" * 64,
        slo_ms=scenario.slo.latency_ms,
        placements=[p.name for p in scenario.placements],
        features=[f.name for f in table.features],
        providers={p.name: "simulator" for p in scenario.placements},
        first_frame=0,
    )


def _frame(scenario: Scenario, n: int, placement: str, outcome: Outcome, payload_kb: float) -> FrameRecord:
    values = {name: float(getattr(outcome, name)[0]) for name in _NUMBERS}
    issued, latency = float(outcome.issued_ms[0]), float(outcome.latency_ms[0])
    p = next(p for p in scenario.placements if p.name == placement)
    sent_kb = p.split.activation_kb if p.split is not None else 0.0 if p.node == LOCAL else payload_kb
    head_queued_ms, head_ms = (float(getattr(outcome, name)[0]) for name in ("device_wait_ms", "head_ms"))
    call = Attempt(
        placement=placement,
        started_ms=issued,
        ended_ms=issued + latency,
        error=None,
        used=True,
        prepare_ms=0.0,
        execute_ms=latency - head_queued_ms - head_ms,
        finish_ms=0.0,
        sent_bytes=round(1000 * sent_kb),
        received_bytes=0,
        queued_ms=0.0,
        head_queued_ms=head_queued_ms,
        head_ms=head_ms,
    )
    return FrameRecord(
        frame=n,
        image=f"simulated {n}",
        issued_ms=issued,
        issued_utc=(START + timedelta(milliseconds=issued)).isoformat(),
        payload_kb=payload_kb,
        observation=None,
        mask=[1] * len(scenario.placements),
        wanted=placement,
        placement=placement,
        reason="policy",
        executed=placement,
        fallback=None,
        attempts=[call],
        latency_ms=latency,
        missed=bool(outcome.missed[0]),
        decision_us=0.0,
        overhead_ms=0.0,
        energy_basis="calibrated",
        carbon_g_per_kwh={},
        accuracy_miou=float(outcome.accuracy_miou[0]),
        problem=None,
        **values,
    )


_NUMBERS = (*MARGINAL_ENERGY_TERMS, *IDLE_ENERGY_TERMS)
_NUMBERS += ("energy_j_marginal", "energy_j_attributional", "carbon_mg_marginal", "carbon_mg_attributional")


def _worlds(scenario: Scenario, seed: int, part: Part, rows: int, warmup: int) -> list[WorldRecord]:
    """What probes, servers and feeds would have said in each row of the episode's tape."""
    keys = mix64(episode_keys([seed]) ^ salt(part))
    links = {
        name: draw_link(link.source, Stream(keys, f"link:{name}"), rows, warmup, part, None)
        for name, link in scenario.links.items()
    }
    loads = {
        name: draw_load(node.background, Stream(keys, f"load:{name}"), rows, warmup)[:, 0]
        for name, node in scenario.nodes.items()
        if node.background is not None
    }
    zones = {name: truth[:, 0] for name, (truth, _) in draw_zones(scenario, keys, rows, part, None).items()}
    rng = np.random.default_rng(seed)
    noise = {name: rng.choice(jitter_table(k.transfer), rows) for name, k in scenario.links.items()}
    return [
        WorldRecord(
            time_ms=1000.0 * (row - warmup + 1),
            utc=(START + timedelta(seconds=row - warmup + 1)).isoformat(),
            links={name: _link(link, row, float(noise[name][row])) for name, link in links.items()},
            loads={
                name: LoadRecord(load=float(loads[name][row]) if name in loads else None, load_age_s=0.0)
                for name in scenario.nodes
            },
            zones={
                name: ZoneRecord(
                    carbon_g_per_kwh=float(v[row]), age_s=0.0, estimated=False, source="simulated"
                )
                for name, v in zones.items()
            },
            device_heat=0.0,
            device_throttled=False,
            in_flight=0,
        )
        for row in range(rows)
    ]


def _link(link: LinkRows, row: int, noise: float) -> LinkRecord:
    def at(values: Any) -> float:
        return float(values[row, 0])

    world = link.world
    answered = not bool(world.blocked[row, 0])
    rtt_ms = max(at(world.rtt_ms) + at(world.jitter_ms) * noise, 0.0)
    return LinkRecord(
        answered=answered,
        rtt_last_ms=rtt_ms,
        rtt_ms=at(world.rtt_ms),
        rtt_deviation_ms=at(world.jitter_ms),
        loss_pct=100 * at(world.loss),
        uplink_mbps=at(link.rate_mbps),
        probe_age_s=0.0 if answered else 1.0,
    )
