"""The deployment file: where everything is, written by hand before the calibration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...envs.errors import InputError
from ...envs.schema import LOCAL, Placement, Scenario
from ...envs.strict_yaml import read_yaml
from ...envs.validation import validated
from ..site_file import Deployment, file_sha256
from .machine import this_machine

# What it leaves out of `site_file.Deployment`: calibrate finds these out itself.
_FOUND_OUT = "machine", "local.sha256"


def read_deployment(path: str | Path, site_folder: Path) -> Deployment:
    """Read a deployment file; paths in it are relative to it, and come back relative to the site file's folder.

    Raises:
        InputError: there is no such file, or a file that it names is missing.
        ScenarioError: it is broken; names dotted path and rule.
    """
    path = Path(path)
    content = read_yaml(path)
    folder = path.resolve().parent
    local = content.get("local")
    if isinstance(local, dict) and isinstance(local.get("file"), str):
        model = folder / local["file"]
        if not model.is_file():
            raise InputError(
                f"{path}: local.file: there is no file {model}. Make one with `carbonpilot models export`, or give the "
                "path of your ONNX model, relative to this file."
            )
        found = file_sha256(model)
        if local.setdefault("sha256", found) != found:
            raise InputError(
                f"{path}: local.sha256: {model} is another file than the one named here ({found[:12]}... against "
                f"{str(local['sha256'])[:12]}...). Remove the line to take the file that is there."
            )
    content.setdefault("machine", this_machine().model_dump())
    _move(content, folder, site_folder)
    return validated(Deployment, content, str(path))


def _move(content: dict[str, Any], folder: Path, site_folder: Path) -> None:
    """Make every path relative to the site file's folder."""

    def moved(value: Any) -> Any:
        if not isinstance(value, str):
            return value  # the check that follows says what is wrong with it
        return os.path.relpath(folder / value, site_folder.resolve())

    local = content.get("local")
    if isinstance(local, dict):
        for key in ("file", "engine_cache"):
            if local.get(key) is not None:
                local[key] = moved(local[key])
    remote = content.get("remote")
    for model in remote.values() if isinstance(remote, dict) else ():
        if isinstance(model, dict) and model.get("segments") is not None:
            model["segments"] = moved(model["segments"])
    servers = content.get("servers")
    for server in servers.values() if isinstance(servers, dict) else ():
        tls = server.get("tls") if isinstance(server, dict) else None
        if isinstance(tls, dict):
            server["tls"] = {key: None if value is None else moved(value) for key, value in tls.items()}
    feeds = content.get("feeds")
    if isinstance(feeds, dict) and isinstance(feeds.get("files"), dict):
        feeds["files"] = {zone: moved(file) for zone, file in feeds["files"].items()}


def template(scenario: Scenario) -> str:
    """A deployment file for a scenario, with what has to be filled in."""
    remote = [p for p in scenario.placements if p.node != LOCAL]
    zones = sorted(
        {
            scenario.device.zone,
            *(n.zone for n in scenario.nodes.values()),
            *(k.network_zone for k in scenario.links.values()),
        }
    )
    lines = [
        f"# Where everything of '{scenario.name}' is, for `carbonpilot calibrate --deployment`. Paths are relative to",
        "# this file. What stands here is an example to be replaced. A node that is not there is left out: its server,",
        "# all its placements, and the probe and zone that nothing else needs.",
        "frame: {height: 512, width: 1024} # pixels that every frame is brought to; the model's input",
        "local:",
        "  file: models/segformer-b0.onnx",
        "  providers: [cpu] # in the order of preference: tensorrt, cuda, cpu",
        "  intra_op_threads: 4",
        "remote: # placement: model on its node's server; encoding jpeg (with jpeg_quality) or uint8",
        *(f"  {p.name}: {_remote(p)}" for p in remote),
        "servers: # node: gRPC address of its Triton server, and its metrics page",
        *(
            f'  {name}: {{grpc: "{name}.example:8001", metrics: "http://{name}.example:8002/metrics"}}'
            for name in scenario.nodes
        ),
        "probes: # link: echo server behind it (python -m carbonpilot.real.probes.echo --host 0.0.0.0 --port 7007)",
        *(f"  {name}: {{host: {name}.example, port: 7007, method: echo}}" for name in scenario.links),
        "feeds: # where carbon intensity comes from; see docs/feeds.md",
        "  source: country-default",
        "  interval_s: 300",
        "  zones: # zone of the scenario: zone at the source",
        *(f"    {zone}: FRA" for zone in zones),
        "meters: [] # jetson-rails, rapl, nvml; none: energies of the base scenario are assumed",
    ]
    if not remote:
        lines = [
            line.replace("remote: #", "remote: {} #") if line.startswith("remote:") else line
            for line in lines
        ]
    for empty, names in (("servers:", scenario.nodes), ("probes:", scenario.links)):
        if not names:
            lines = [
                line.replace(empty, f"{empty} {{}}") if line.startswith(empty) else line for line in lines
            ]
    return "\n".join(lines) + "\n"


def _remote(p: Placement) -> str:
    """What the template says of a placement on a server."""
    if p.split is None:
        return f"{{model: {p.model}-jpeg, encoding: jpeg, jpeg_quality: 90}}"
    return (
        f"{{model: {p.model}-{p.split.cut}-tail, encoding: activation, segments: segments, cut: {p.split.cut}}} "
        "# of `carbonpilot segments write`"
    )
