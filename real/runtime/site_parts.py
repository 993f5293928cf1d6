"""From a site file to the parts that touch the world: probes, executors, meters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.absence import always_absent, links_in_use
from ...envs.errors import InputError
from ...envs.schema import LOCAL, GeneratedLink, PhasedLink, Scenario, SwitchedLink, TraceLink
from ...envs.service import mean_ms
from ..clock import Clock
from ..executors.make import make_executors
from ..executors.worker import Worker
from ..interfaces import Executor
from ..meters.meter import Meter
from ..probes.echo_probe import EchoProbe
from ..probes.link import LinkProbe, LinkState
from ..probes.loop import ProbeLoop, ProbeSnapshot
from ..probes.triton_counters import capacity_per_s
from ..probes.triton_http import triton_load_from_metrics
from ..probes.triton_load import LoadState, TritonLoad
from ..probes.uplink import UplinkEstimator, UplinkState
from ..probes.watch import TransferWatch, Watched
from ..site_file import Deployment, SiteFile
from .late_executor import late
from .meters import make_meter


@dataclass(frozen=True)
class SiteProbes:
    """The probes of a site.

    Attributes:
        loop: runs them.
        transfers: watches the frames' own transfers, for the links' rates and losses.
        loads: probes of the nodes' loads, to be told of our own requests.
    """

    loop: ProbeLoop
    transfers: TransferWatch
    loads: Mapping[str, TritonLoad]

    def latest(self) -> ProbeSnapshot:
        """What is known by now."""
        return self.loop.latest()

    def start(self) -> None:
        """Begin to probe."""
        self.transfers.start()
        self.loop.start()

    def stop(self) -> None:
        """End."""
        self.transfers.stop()
        self.loop.stop()


def site_probes(site: SiteFile, clock: Clock) -> SiteProbes:
    """Build a probe for each link in use, and one for the load of each node that tells its own."""
    scenario, deployment = site.scenario, site.deployment
    links = {
        name: LinkProbe(
            EchoProbe(p.host, p.port, method=p.method, clock=clock),
            clock,
            UplinkEstimator(prior_mbps(scenario, name)),
        )
        for name, p in deployment.probes.items()
        if name in links_in_use(scenario)
    }

    def learn(watched: Watched) -> None:
        link = links.get(scenario.nodes[watched.node].link)
        if link is not None and watched.result is not None:
            link.uplink.observe(watched.result)
            link.note_segments(watched.segments, watched.again)

    transfers = TransferWatch({name: s.grpc for name, s in deployment.servers.items()}, learn, clock)
    loads = {
        name: triton_load_from_metrics(server.metrics, capacities(site, name), clock)
        for name, server in deployment.servers.items()
        if server.metrics is not None and scenario.nodes[name].background is not None
    }
    loop = ProbeLoop(links, loads, scenario.telemetry.probe_interval_s, clock)
    return SiteProbes(loop, transfers, loads)


def capacities(site: SiteFile, node: str) -> dict[str, float]:
    """Images a second of each model that the placements on a node use."""
    spec = site.scenario.nodes[node]
    most, share = (1, 0.0)
    if spec.batching is not None:
        most, share = spec.batching.max_batch, spec.batching.marginal_service_share
    return {
        site.deployment.remote[p.name].model: capacity_per_s(
            mean_ms(p.service), spec.parallelism, most, share
        )
        for p in site.scenario.placements
        if p.node == node
    }


def prior_mbps(scenario: Scenario, link: str) -> float:
    """The site's own idea of a link's rate, until there is a measured one."""
    source = scenario.links[link].source
    if isinstance(source, PhasedLink):
        return source.phases[0].rate_mbps
    if isinstance(source, SwitchedLink):
        # Late: it brings the simulator's random streams along.
        from ...envs.switched_links import long_run_shares, next_second

        shares = long_run_shares(next_second(source))
        return float(shares @ [c.rate_mbps for c in source.conditions.values()])
    assert isinstance(source, GeneratedLink | TraceLink)
    return math.sqrt(source.uplink_median.low_mbps * source.uplink_median.high_mbps)


def site_meters(deployment: Deployment) -> dict[str, Meter]:
    """Open the meters.

    Raises:
        MeterError: one is missing or forbidden, with the mend; those before it are closed again.
    """
    opened: dict[str, Meter] = {}
    try:
        for name in deployment.meters:
            opened[name] = make_meter(name)
    except InputError:
        for meter in opened.values():
            meter.close()
        raise
    return opened


def site_executors(site: SiteFile, folder: Path, without_servers: bool) -> dict[str, Executor]:
    """An executor for each placement, the device's first.

    Args:
        site: the site.
        folder: of the site file.
        without_servers: a server that does not answer at the start is tried again later.

    Raises:
        InputError: the site file has one local model, but several placements on the device.
    """
    made = make_executors(site, folder)
    if not without_servers:
        return made
    return {
        p.name: made[p.name] if p.node == LOCAL else late(made[p.name])
        for p in site.scenario.placements
        if p.name in made
    }


class StandInProbes:
    """Probes of a run with stand-ins: every link answers as the site says, and nobody else is there."""

    def __init__(self, scenario: Scenario, clock: Clock) -> None:
        """Read the links' first phase or their usual rate."""
        self._scenario, self._clock = scenario, clock
        self.transfers = TransferWatch({}, lambda watched: None, clock)
        self.loads: dict[str, TritonLoad] = {}

    def latest(self) -> ProbeSnapshot:
        """All as calibrated, measured just now."""
        now_s = self._clock.monotonic_s()
        links = {name: self._link(name, now_s) for name in links_in_use(self._scenario)}
        gone = always_absent(self._scenario)
        loads = {
            name: LoadState(load=0.0, measured_s=now_s)
            for name, node in self._scenario.nodes.items()
            if node.background is not None and name not in gone
        }
        return ProbeSnapshot(now_s, links, loads, {})

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing runs."""

    def _link(self, name: str, now_s: float) -> LinkState:
        source = self._scenario.links[name].source
        rtt_ms, loss_pct = (
            (source.phases[0].rtt_ms, source.phases[0].loss_pct)
            if isinstance(source, PhasedLink)
            else (30.0, 0.0)
        )
        rate = UplinkState(np.float32(prior_mbps(self._scenario, name)), now_s, True, 0, 0)
        rtt = np.float32(rtt_ms)
        return LinkState(rtt, rtt, np.float32(0.0), np.float32(loss_pct), rate, now_s, 1, 0, None, None)


def stand_ins(site: SiteFile, folder: Path, seed: int = 0) -> dict[str, Executor]:
    """Executors that take the calibrated service times and compute nothing.

    Raises:
        InputError: as `site_executors`.
    """
    from ...envs.model_card import MASK_SCALE
    from ..executors.standin import StandInExecutor, StandInSplitExecutor

    there = make_executors(site, folder)
    size = site.deployment.frame
    mask_size = (size.height // MASK_SCALE, size.width // MASK_SCALE)
    device = Worker("stand-in for the device")
    made: dict[str, Executor] = {}
    for number, p in enumerate(site.scenario.placements):
        if p.name not in there:
            continue
        settings: dict[str, Any] = {"seed": seed + number, "mask_size": mask_size}
        if p.node == LOCAL:
            made[p.name] = StandInExecutor(p, worker=device, **settings)
            continue
        settings["parallelism"] = site.scenario.nodes[p.node].parallelism
        if p.split is None:
            made[p.name] = StandInExecutor(p, **settings)
        else:
            made[p.name] = StandInSplitExecutor(p, device=device, **settings)
    return made
