"""The site file: a scenario with measured numbers, where everything is, and what was measured or assumed.

`calibrate` writes it, `train` and `benchmark` read its scenario, `run`, `verify` and `doctor` read all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..envs.absence import always_absent, links_in_use, scenario_of_site, zones_in_use
from ..envs.errors import nearest
from ..envs.scenario import SITE_SCHEMA
from ..envs.schema import LOCAL, Placement, Scenario
from ..envs.schema_base import Fraction, NonNegative, Positive, Strict
from ..envs.strict_yaml import read_yaml
from ..envs.validation import validated

Encoding = Literal["jpeg", "uint8", "activation"]
FeedName = Literal["electricity-maps", "gb-carbon-intensity", "watttime", "csv-replay", "country-default"]


class Machine(Strict):
    """The device that the numbers were measured on; another one must be calibrated itself."""

    hostname: str
    architecture: str  # platform.machine()
    model: str  # /proc/device-tree/model of a board, else the processor's name
    cpu_count: Annotated[int, Field(ge=1)]


class FrameSize(Strict):
    """Size to which every frame is brought."""

    height: Annotated[int, Field(ge=32, le=8192)]
    width: Annotated[int, Field(ge=32, le=8192)]


class LocalModel(Strict):
    """The model that the device runs itself, in onnxruntime."""

    file: str  # relative to the site file
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    # In the order of preference; which one really computes is reported, a silent fall back to the CPU is refused.
    providers: Annotated[list[Literal["tensorrt", "cuda", "cpu"]], Field(min_length=1)]
    intra_op_threads: Annotated[int, Field(ge=1)]
    engine_cache: str | None = None  # folder for TensorRT engines, relative to the site file


class RemoteModel(Strict):
    """A model on a Triton server and how frames travel to it, or the rest of a split one and how its start is found."""

    model: str
    version: str = ""  # empty: the server's choice
    encoding: Encoding
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = None
    segments: str | None = None  # folder of the split model's manifest, relative to the site file
    cut: str | None = None  # which of its cuts; that of the scenario's placement

    @model_validator(mode="after")
    def _belonging(self) -> RemoteModel:
        if (self.encoding == "jpeg") != (self.jpeg_quality is not None):
            raise ValueError("jpeg_quality is needed with encoding jpeg and meaningless otherwise")
        if (self.encoding == "activation") != (self.segments is not None and self.cut is not None) or (
            self.segments is None
        ) != (self.cut is None):
            raise ValueError("segments and cut are needed with encoding activation and meaningless otherwise")
        return self


class Tls(Strict):
    """Certificates, as PEM files relative to the site file."""

    root_certificates: str | None = None  # none: the system's
    private_key: str | None = None
    certificate_chain: str | None = None


class Server(Strict):
    """A node's Triton server."""

    grpc: Annotated[str, Field(pattern=r"^[^/:]+:\d+$")]  # host:port, no scheme
    metrics: str | None = None  # http://host:port/metrics; none: no load is observed
    tls: Tls | None = None


class Prober(Strict):
    """The other end of a link's probe."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    method: Literal["echo", "connect", "auto"]


class Feeds(Strict):
    """Where carbon intensity comes from; one kind (average or marginal) for all zones."""

    source: FeedName
    zones: dict[str, str]  # zone of the scenario -> zone at the source
    files: dict[str, str] | None = None  # csv-replay: zone at the source -> file, relative to the site file
    interval_s: Positive
    fallback: Literal["country-default"] | None = None


class Deployment(Strict):
    """Where everything is."""

    machine: Machine
    frame: FrameSize
    local: LocalModel
    remote: dict[str, RemoteModel]  # placement -> model on its node's server
    servers: dict[str, Server]  # node -> server
    probes: dict[str, Prober]  # link -> other end
    feeds: Feeds
    meters: list[Literal["jetson-rails", "nvml", "rapl"]]  # [] : energy is calibrated only, and said so


class Measured(Strict):
    """Where one number of the scenario comes from.

    ``low`` and ``high`` are the bounds of a 95 % interval of the value; none for what was not measured.
    """

    value: float
    kind: Literal["measured", "assumed", "derived"]
    method: str
    low: float | None = None
    high: float | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    measured_utc: str | None = (
        None  # where only a part was measured again: when this number was; else provenance's
    )


class Provenance(Strict):
    """When and how the numbers came about."""

    measured_utc: str
    carbonpilot_version: str
    numbers: dict[str, Measured]  # dotted path in the scenario, e.g. placements.1.service.p50_ms
    # Mean wait (ms) and batch that a request meets at a node by level of its reported load, made from the scenario by
    # `envs.node_bank`; kept here because a device without numba would need a minute for it.
    node_levels: dict[str, NodeLevels]


class NodeLevels(Strict):
    """Believed wait and batch of a node by load level."""

    node_sha256: str  # hash of the node's part of the scenario; another one means that these are out of date
    load: list[Fraction]
    wait_ms: list[NonNegative]
    batch: list[Positive]

    @model_validator(mode="after")
    def _same_length(self) -> NodeLevels:
        if not len(self.load) == len(self.wait_ms) == len(self.batch) >= 1:
            raise ValueError("load, wait_ms and batch must be as long as one another")
        return self


Provenance.model_rebuild()


class SiteFile(Strict):
    """A site: scenario, deployment, provenance."""

    schema_version: Annotated[Literal["carbonpilot/site/1"], Field(alias="schema")]
    scenario: Scenario
    deployment: Deployment
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, content: Any) -> Any:
        """Nodes without a server are absent, in the scenario as well: simulator and device then show the same."""
        return {**content, "scenario": scenario_of_site(content)} if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _names(self) -> SiteFile:
        d, s = self.deployment, self.scenario
        gone = self.absent
        for name in gone:
            if name in d.servers:
                raise ValueError(
                    f"deployment.servers: '{name}' has a server, and the scenario says that it is never there "
                    f"(nodes.{name}.availability.probability is 0). Leave the server out, or calibrate with it."
                )
        for p in s.placements:
            if p.node in gone and p.name in d.remote:
                raise ValueError(
                    f"deployment.remote: '{p.name}' is on node '{p.node}', of which deployment.servers names no "
                    "server. Give the server, or leave all placements of the node out: it is absent then"
                )
        for p in s.placements:
            if p.name in d.remote:
                _same_cut(p, d.remote[p.name])
        remote = [p.name for p in s.placements if p.node != LOCAL]
        _same("deployment.remote", d.remote, remote, [p.name for p in s.placements if p.node in gone])
        _same("deployment.probes", d.probes, list(s.links), set(s.links) - set(links_in_use(s)))
        zones = {
            s.device.zone,
            *(n.zone for n in s.nodes.values()),
            *(k.network_zone for k in s.links.values()),
        }
        _same("deployment.feeds.zones", d.feeds.zones, sorted(zones), zones - set(zones_in_use(s)))
        if (d.feeds.files is not None) != (d.feeds.source == "csv-replay"):
            raise ValueError("deployment.feeds.files belongs to csv-replay and to no other source")
        return self

    @property
    def absent(self) -> tuple[str, ...]:
        """Nodes of the scenario that this deployment leaves out: their placements are never used."""
        return always_absent(self.scenario)


def _same_cut(p: Placement, model: RemoteModel) -> None:
    """Refuse a deployment that splits a model otherwise than the scenario, or not at all."""
    wanted = None if p.split is None else p.split.cut
    if wanted == model.cut:
        return
    where = f"deployment.remote.{p.name}"
    if wanted is None:
        raise ValueError(
            f"{where}: its model is split at '{model.cut}', and the scenario's placement is a whole model. Give "
            f"encoding jpeg or uint8, or a base whose placement '{p.name}' has a split"
        )
    if model.cut is None:
        raise ValueError(
            f"{where}: the scenario splits this placement at '{wanted}': expected encoding activation, segments and "
            f"cut, got encoding {model.encoding}. `carbonpilot segments write` makes the segments"
        )
    raise ValueError(
        f"{where}.cut: the scenario splits this placement at '{wanted}', the deployment at '{model.cut}'. Give the "
        "same cut in both"
    )


def _same(path: str, given: dict[str, Any], known: list[str], optional: Collection[str]) -> None:
    """Refuse names that the scenario does not have, and missing ones that only an absent node may leave out."""
    for name in given:
        if name not in known:
            raise ValueError(
                f"{path}: '{name}' is not in the scenario.{nearest(name, known)} Needed: {known}"
            )
    for name in known:
        if name not in given and name not in optional:
            raise ValueError(f"{path}: '{name}' is missing")


def load_site(path: str | Path) -> SiteFile:
    """Read and check a site file.

    Raises:
        ScenarioError: it is broken; names file, dotted path, rule and nearest known key.
    """
    return validated(SiteFile, read_yaml(Path(path)), str(path))


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


__all__ = ["SITE_SCHEMA", "Deployment", "SiteFile", "load_site"]
