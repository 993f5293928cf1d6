"""What a run writes, one JSON object a line: the log's schema, for the runtime that writes and everybody who reads.

The first line of every file is a `Header`; then come `FrameRecord` (one for each frame, whatever happened to it),
`WorldRecord` (once a second), `EnergyRecord` (once a window of a meter) and `EventRecord`. ``*_ms`` without further
word is time since the run began, on the monotonic clock; terms have the names of the simulator's `envs.outcome`.
NaN and infinity are not written: what is unknown is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..envs.errors import InputError

LOG_SCHEMA = "carbonpilot/log/3"
# Read as well: in schema 1 a frame that could not be charged has zeros where there are nulls now; attempts of 1 and 2
# know no split models.
READ_SCHEMAS = ("carbonpilot/log/1", "carbonpilot/log/2", LOG_SCHEMA)
NOT_CHARGED = "unknown: the account failed"  # `FrameRecord.energy_basis` of such a frame
Mode = Literal["shadow", "active"]


@dataclass(frozen=True, kw_only=True)
class Header:
    """Which run this is. Every file of a rotated log begins with it.

    Attributes:
        run: identifier of the process's run; a restart has another one.
        part: number of this file within the run, from 0.
        started_utc: ISO 8601 with time zone; ``started_monotonic_s`` is the same moment on the monotonic clock.
        scenario, scenario_sha256, table_sha256: the site's scenario and its observation table.
        bundle, card_sha256: the policy; a static one has its name and no card, so an empty hash.
        placements, features: names, in the order of actions and of observations.
        first_frame: number of the first frame of this run, above 0 where a restart goes on.
    """

    kind: ClassVar[str] = "header"
    schema: str = LOG_SCHEMA
    carbonpilot_version: str
    run: str
    part: int
    started_utc: str
    started_monotonic_s: float
    mode: Mode
    scenario: str
    scenario_sha256: str
    table_sha256: str
    bundle: str
    card_sha256: str
    slo_ms: float
    placements: list[str]
    features: list[str]
    providers: dict[str, str]
    first_frame: int


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call to an executor; a frame has one, or two where a fallback or hedge ran, or none.

    Attributes:
        placement: where.
        started_ms, ended_ms: since the run began.
        error: kind of failure (`interfaces.ErrorKind`), None if it answered.
        used: its answer is the frame's result.
        prepare_ms, execute_ms, finish_ms, sent_bytes, received_bytes: as in `interfaces.Answer`; None if it failed.
        queued_ms: time it waited for the executor (the device computes one frame at a time); of a split model only
            between head and tail, for one of the remote calls at a time.
        head_queued_ms, head_ms: of a split model: waiting for its turn on the device, and how long the device was its
            own, also if the call failed then or later; 0 for whole models. They come first: the terms add up to the
            call's time.
    """

    placement: str
    started_ms: float
    ended_ms: float
    error: str | None
    used: bool
    prepare_ms: float | None
    execute_ms: float | None
    finish_ms: float | None
    sent_bytes: int | None
    received_bytes: int | None
    queued_ms: float
    head_queued_ms: float = 0.0
    head_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """One frame: what was seen, decided and done, and what it cost.

    Attributes:
        frame, image: number and name.
        issued_ms, issued_utc: when the frame was there.
        payload_kb: what offloading it would send as a whole frame (of the placement wanted; of the site's largest if
            that is the device or splits the model). What a split model's call sent is in its attempt.
        observation: the encoded vector (F,) that the policy saw; None where the frame never came to a decision.
        mask: allowed placements, as 0 and 1 in the order of `Header.placements`.
        wanted: placement that the policy chose; None where it was not asked or failed.
        placement: placement decided on after the shield; None where the frame never came to a decision. In shadow mode
            frames are executed locally all the same.
        reason: "policy", or the guard that overruled it (`real.shield` lists them); without a decision why there is
            none: "bad-image", "overload", "shutdown" or "internal-error".
        executed: placement whose answer is the result; None where there is none.
        fallback: why another placement than ``placement`` was tried (an `ErrorKind`, "deadline", "shadow"); None where
            none was. ``executed`` may still be ``placement``: it was then the first to answer.
        attempts: the calls, in the order in which they were started.
        latency_ms: from issue to result; None without one.
        missed: above the SLO, or no result.
        decision_us: telemetry read to placement chosen.
        overhead_ms: latency less executors' time and waiting for them.
        compute_energy_j ... carbon_mg_attributional: as in `envs.outcome.Outcome`, over all attempts; believed from the
            site's calibration and the windows of the meters (``energy_basis``). A call that was given up is charged in
            full, because servers go on computing; one that found no server costs nothing. All are None where the
            account itself failed.
        energy_basis: "calibrated", or "calibrated and corrected by METER"; `NOT_CHARGED` where the account failed.
        carbon_g_per_kwh: intensity used, by node ("local" is the device) and, as "network of LINK", of what powers a
            link's network; None where unknown, and so is carbon then.
        accuracy_miou: of the placement executed.
        problem: what was wrong with the frame itself, or None.
    """

    kind: ClassVar[str] = "frame"
    frame: int
    image: str
    issued_ms: float
    issued_utc: str
    payload_kb: float
    observation: list[float] | None
    mask: list[int]
    wanted: str | None
    placement: str | None
    reason: str
    executed: str | None
    fallback: str | None
    attempts: list[Attempt]
    latency_ms: float | None
    missed: bool
    decision_us: float
    overhead_ms: float | None
    compute_energy_j: float | None
    radio_energy_j: float | None
    network_energy_j: float | None
    server_energy_j: float | None
    device_idle_energy_j: float | None
    server_idle_energy_j: float | None
    energy_j_marginal: float | None
    energy_j_attributional: float | None
    carbon_mg_marginal: float | None
    carbon_mg_attributional: float | None
    energy_basis: str
    carbon_g_per_kwh: dict[str, float | None]
    accuracy_miou: float | None
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class LinkRecord:
    """A link in one second: raw probe and smoothed values; None what is not known."""

    answered: bool
    rtt_last_ms: float | None
    rtt_ms: float | None
    rtt_deviation_ms: float | None
    loss_pct: float | None
    uplink_mbps: float | None
    probe_age_s: float | None


@dataclass(frozen=True, kw_only=True)
class LoadRecord:
    """A node's load in one second."""

    load: float | None
    load_age_s: float | None


@dataclass(frozen=True, kw_only=True)
class ZoneRecord:
    """A zone's grid in one second."""

    carbon_g_per_kwh: float | None
    age_s: float | None
    estimated: bool
    source: str


@dataclass(frozen=True, kw_only=True)
class WorldRecord:
    """The world as measured, once a second."""

    kind: ClassVar[str] = "world"
    time_ms: float
    utc: str
    links: dict[str, LinkRecord]
    loads: dict[str, LoadRecord]
    zones: dict[str, ZoneRecord]
    device_heat: float
    device_throttled: bool
    in_flight: int


@dataclass(frozen=True, kw_only=True)
class EnergyRecord:
    """A window of a meter: gross = idle + net."""

    kind: ClassVar[str] = "energy"
    meter: str
    scope: str
    start_ms: float
    end_ms: float
    gross_j: float
    idle_j: float | None
    net_j: float | None
    gaps_s: float
    correction: float | None


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """Something changed: a breaker opened, a feed went stale, the run was asked to stop."""

    kind: ClassVar[str] = "event"
    time_ms: float
    utc: str
    event: str
    subject: str
    detail: str


# Fields of a frame that hold what it was charged with.
CHARGED = tuple(
    f.name
    for f in fields(FrameRecord)
    if f.name.endswith("_energy_j") or f.name.startswith(("energy_j_", "carbon_mg_"))
)
Record = Header | FrameRecord | WorldRecord | EnergyRecord | EventRecord
_KINDS: dict[str, type] = {r.kind: r for r in (Header, FrameRecord, WorldRecord, EnergyRecord, EventRecord)}


def to_line(record: Record) -> str:
    """A record as one JSON line, with its newline.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    content = {"kind": record.kind, **asdict(record)}
    return json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"


def from_line(line: str, where: str = "log") -> Record:
    """Read one line.

    Raises:
        InputError: it is not a line of this schema; says where and what.
    """
    try:
        content = json.loads(line)
        kind = _KINDS[content.pop("kind")]
        missing = {f.name for f in fields(kind)} ^ set(content)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError(f"{where}: expected a line of {LOG_SCHEMA}, got {line[:80]!r}") from None
    if missing:
        raise InputError(
            f"{where}: a {kind.kind} line with unknown or missing keys: {', '.join(sorted(missing))}"
        )
    if kind is Header and content["schema"] not in READ_SCHEMAS:
        raise InputError(f"{where}: expected schema {' or '.join(READ_SCHEMAS)}, got {content['schema']!r}")
    return _nested(kind, content)


def _nested(kind: type, content: dict[str, Any]) -> Any:
    if kind is FrameRecord:
        content["attempts"] = [Attempt(**a) for a in content["attempts"]]
        if content["energy_basis"] == NOT_CHARGED:  # schema 1 wrote zeros, which are no measurement
            content.update(dict.fromkeys(CHARGED))
    if kind is WorldRecord:
        for key, part in (("links", LinkRecord), ("loads", LoadRecord), ("zones", ZoneRecord)):
            content[key] = {name: part(**values) for name, values in content[key].items()}
    return kind(**content)


def read_log(path: str | Path) -> Iterator[Record]:
    """The records of a log file, or of all files of a log folder in the order they were written.

    Raises:
        InputError: there is no log, or a line is broken; names file and line.
    """
    path = Path(path)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not all(f.is_file() for f in files):
        raise InputError(
            f"No log at {path}: expected a .jsonl file of `carbonpilot run`, or a folder of them."
        )
    for file in files:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield from_line(line, f"{file}:{number}")
