"""What a site file names: is it there, is it the same, does it answer, is it fresh?"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from ...envs.absence import links_in_use, zones_in_use
from ...envs.errors import CarbonPilotError
from ...envs.observation import build_table
from ...envs.schema import LOCAL
from ..calibrate.machine import differences, this_machine
from ..clock import SystemClock
from ..probes.echo_probe import EchoProbe
from ..probes.failure import ProbeFailure
from ..probes.triton_counters import model_counters, parse_metrics
from ..segments.manifest import Segment, check_files, read_manifest
from ..site_file import Prober, RemoteModel, Server, SiteFile, file_sha256
from .finding import Finding, looked_at

GROUP = "site"
OLD_DAYS = 30  # of a calibration; assumed
LEAST_FREE_BYTES = 1_000_000_000  # of the log's disk: some days of ten frames a second
PROBE_S = 2.0
RUN_ECHO = "python -m carbonpilot.real.probes.echo --host 0.0.0.0 --port"


def site_findings(site: SiteFile, path: Path, logs: Path) -> list[Finding]:
    """Everything that a run with this site file needs.

    Args:
        site: of ``path``.
        path: the site file; paths in it are relative to its folder.
        logs: folder that a run would log to.
    """
    folder, d = path.resolve().parent, site.deployment
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("machine", lambda: _machine(site)),
        ("calibration", lambda: _age(site)),
        ("local model", lambda: _model(site, folder)),
        *(
            (f"probe of {name}", _bound(_probe, name, spec))
            for name, spec in d.probes.items()
            if name in links_in_use(site.scenario)
        ),
        *((f"node {name}", _bound(_absent, name, site)) for name in site.absent),
        *(
            (
                f"placement {p.name}",
                _bound(_server, p.name, d.servers[p.node], d.remote[p.name], site, folder),
            )
            for p in site.scenario.placements
            if p.node != LOCAL and p.node not in site.absent
        ),
        *((f"metrics of {name}", _bound(_metrics, name, spec, site)) for name, spec in d.servers.items()),
        *((f"feed for {zone}", _bound(_feed, zone, site, folder)) for zone in zones_in_use(site.scenario)),
        ("log disk", lambda: _disk(logs)),
    ]
    return [looked_at(GROUP, name, look) for name, look in looks]


def _bound(function: Callable[..., Finding], *arguments: object) -> Callable[[], Finding]:
    return lambda: function(*arguments)


def _machine(site: SiteFile) -> Finding:
    measured_on = site.deployment.machine
    found = differences(measured_on, this_machine())
    if found:
        mend = "Calibrate on this device; its times and energies are its own."
        return Finding(GROUP, "machine", "failed", "; ".join(found), mend)
    return Finding(
        GROUP, "machine", "ok", f"{measured_on.model}, {measured_on.cpu_count} processors, as calibrated"
    )


def _age(site: SiteFile) -> Finding:
    features = len(build_table(site.scenario))
    measured = datetime.fromisoformat(site.provenance.measured_utc)
    if measured.tzinfo is None:
        measured = measured.replace(tzinfo=timezone.utc)
    days = (datetime.now(timezone.utc) - measured).total_seconds() / 86400
    kinds = [n.kind for n in site.provenance.numbers.values()]
    detail = (
        f"of {site.provenance.measured_utc}, {days:.1f} days ago: {kinds.count('measured')} numbers measured, "
        f"{kinds.count('assumed')} assumed, {features} features"
    )
    if days < -0.1:
        return Finding(
            GROUP, "calibration", "failed", detail, "It lies in the future: set this device's clock."
        )
    mend = "" if days <= OLD_DAYS else "Verify a recent log, and calibrate again if it no longer fits."
    return Finding(GROUP, "calibration", "ok", detail, mend)


def _model(site: SiteFile, folder: Path) -> Finding:
    spec = site.deployment.local
    file = folder / spec.file
    if not file.is_file():
        mend = "Copy it there, or make it with `carbonpilot models export`."
        return Finding(GROUP, "local model", "failed", f"no file {file}", mend)
    found = file_sha256(file)
    if found != spec.sha256:
        mend = "Put the calibrated file back, or calibrate with this one."
        detail = f"{file} is another file than the calibrated one ({found[:12]}, not {spec.sha256[:12]})"
        return Finding(GROUP, "local model", "failed", detail, mend)
    return Finding(GROUP, "local model", "ok", f"{file}, as calibrated")


def _probe(name: str, spec: Prober) -> Finding:
    what, where = f"probe of {name}", f"{spec.host}:{spec.port}"
    probe = EchoProbe(spec.host, spec.port, timeout_s=PROBE_S, method=spec.method)
    try:
        probe.exchange()  # the first one pays for the connection
        rtt_ms = probe.exchange().rtt_ms
    except ProbeFailure as failure:
        mend = f"Start the echo server behind the link: {RUN_ECHO} {spec.port}"
        return Finding(GROUP, what, "failed", f"{where}: {failure}", mend)
    finally:
        probe.close()
    return Finding(GROUP, what, "ok", f"{where} answers in {rtt_ms:.3g} ms")


def _server(placement: str, server: Server, model: RemoteModel, site: SiteFile, folder: Path) -> Finding:
    what = f"placement {placement}"
    try:
        provider = asyncio.run(_ask(server, model, site, folder))
    except CarbonPilotError as error:
        detail, _, mend = str(error).partition(". ")
        return Finding(GROUP, what, "failed", detail, mend or "Start the server and load the model.")
    return Finding(GROUP, what, "ok", f"{model.model} at {server.grpc}: {provider}")


async def _ask(server: Server, model: RemoteModel, site: SiteFile, folder: Path) -> str:
    from ...envs.errors import MissingExtraError
    from ..executors.triton_channel import TritonChannel
    from ..executors.triton_checks import check_served_model, check_served_tail

    segment = None if model.segments is None else _segment(folder / model.segments, model.cut or "")
    channel = TritonChannel(server, folder)
    try:
        channel.open()
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError("Asking a Triton server", "device") from error
    try:
        frame = site.deployment.frame
        if segment is not None:
            return (await check_served_tail(channel, model, segment, frame)).provider
        return (await check_served_model(channel, model, frame)).provider
    finally:
        await channel.close()


def _segment(folder: Path, cut: str) -> Segment:
    """A split model's cut, with its files as they were written.

    Raises:
        InputError: one is missing or has changed.
    """
    manifest = read_manifest(folder)
    check_files(manifest, folder, cut)
    return manifest.segment(cut)


def _absent(node: str, site: SiteFile) -> Finding:
    names = ", ".join(p.name for p in site.scenario.placements if p.node == node) or "no placement"
    detail = f"absent: deployment.servers leaves it out, so {names} will never be used"
    mend = f"If it is there: name its server and models in the deployment and calibrate again (nodes.{node})."
    return Finding(GROUP, f"node {node}", "missing", detail, mend)


def _metrics(node: str, server: Server, site: SiteFile) -> Finding:
    from ..probes.triton_http import HttpPage

    what = f"metrics of {node}"
    watched = site.scenario.nodes[node].background is not None
    if server.metrics is None:
        mend = (
            f"Give deployment.servers.{node}.metrics, so that the load of other tenants is seen."
            if watched
            else ""
        )
        return Finding(GROUP, what, "missing", "no metrics page is named", mend)
    mine = [site.deployment.remote[p.name].model for p in site.scenario.placements if p.node == node]
    page = None
    try:
        page = HttpPage(server.metrics, PROBE_S)
        counters = parse_metrics(page.get().decode("utf-8", "replace"))
        for model in mine:
            model_counters(counters, model)
    except (ProbeFailure, CarbonPilotError) as error:
        mend = "Check the address; Triton serves it on port 8002 unless told otherwise (--metrics-port)."
        return Finding(GROUP, what, "failed", str(error), mend)
    finally:
        if page is not None:
            page.close()
    return Finding(GROUP, what, "ok", f"{server.metrics} knows {', '.join(mine)}")


def _feed(zone: str, site: SiteFile, folder: Path) -> Finding:
    from ..feeds.reading import FeedError
    from ..feeds.registry import make_feed

    spec, what = site.deployment.feeds, f"feed for {zone}"
    at_source = spec.zones[zone]
    files = None if spec.files is None else {z: folder / f for z, f in spec.files.items()}
    clock, feed = SystemClock(), None
    try:
        feed = make_feed(spec.source, clock, files=files)
        reading = feed.fetch(at_source)
    except FeedError as error:
        return Finding(GROUP, what, "failed", f"{spec.source}, {at_source}: {error.said}", f"{error.mend}.")
    except CarbonPilotError as error:  # a secret that is not set, a file that is not there; it names no value
        detail, _, mend = str(error).partition(". ")
        return Finding(GROUP, what, "failed", f"{spec.source}: {detail}", mend)
    finally:
        if feed is not None:
            feed.close()
    flag = ", estimated" if reading.estimated else ""
    detail = (
        f"{spec.source}, {at_source}: {reading.carbon_g_per_kwh:.4g} g/kWh ({reading.kind}{flag}), measured "
        f"{reading.measured_at:%Y-%m-%d %H:%M} UTC"
    )
    return Finding(GROUP, what, "ok", detail)


def _disk(logs: Path) -> Finding:
    place = next(p for p in (logs.resolve(), *logs.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free for {logs}"
    if free < LEAST_FREE_BYTES:
        return Finding(
            GROUP, "log disk", "failed", detail, "Free some space, or log to another disk (run --log)."
        )
    return Finding(GROUP, "log disk", "ok", detail)
