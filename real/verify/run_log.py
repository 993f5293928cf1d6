"""A run's log, read whole and held against the site file that it was written with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...envs.errors import InputError
from ...envs.observation import build_table
from ...envs.scenario import scenario_sha256
from ..log_records import EnergyRecord, EventRecord, FrameRecord, Header, Record, WorldRecord, read_log
from ..site_file import SiteFile


@dataclass(frozen=True)
class RunLog:
    """One run.

    Attributes:
        header: of its first file.
        frames: in the order of their issue.
        worlds: in the order of their time.
        energies, events: as written.
    """

    header: Header
    frames: list[FrameRecord]
    worlds: list[WorldRecord]
    energies: list[EnergyRecord]
    events: list[EventRecord]


def read_runs(path: str | Path, site: SiteFile) -> list[RunLog]:
    """The runs of a log: one, or several where the runtime was restarted into the same folder.

    Times in a log count from the start of its run, so runs are kept apart.

    Raises:
        InputError: there is no log, a line is broken, or it was written with another site or table.
    """
    runs: dict[str, list[Record]] = {}
    current: str | None = None
    for record in read_log(path):
        if isinstance(record, Header):
            check_header(record, site, str(path))
            current = record.run
        elif current is None:
            raise InputError(f"{path}: the log does not begin with a header, so nobody knows its site.")
        runs.setdefault(current, []).append(record)
    found = [_run(records) for records in runs.values()]
    if not any(run.frames for run in found):
        raise InputError(f"{path}: no frame in this log; there is nothing to verify yet.")
    return [run for run in found if run.frames]


def check_header(header: Header, site: SiteFile, where: str) -> None:
    """Refuse the log of another site.

    Raises:
        InputError: it was written with another scenario or observation table; says which.
    """
    scenario = site.scenario
    names = [p.name for p in scenario.placements]
    sha256 = scenario_sha256(scenario)
    if header.scenario_sha256 != sha256:
        raise InputError(
            f"{where}: this log was written with scenario '{header.scenario}' ({header.scenario_sha256[:12]}), the "
            f"site file holds '{scenario.name}' ({sha256[:12]}). Give the site file of that run with --site; "
            "after a new calibration, run again."
        )
    table = build_table(scenario).sha256
    if header.table_sha256 != table:
        raise InputError(
            f"{where}: this log's observation table ({header.table_sha256[:12]}) is not this version's "
            f"({table[:12]}). Verify with the version that wrote it ({header.carbonpilot_version}), or run again."
        )
    if header.placements != names:
        raise InputError(f"{where}: placements of the log {header.placements}, of the site {names}.")


def _run(records: list[Record]) -> RunLog:
    header = next(r for r in records if isinstance(r, Header))
    return RunLog(
        header,
        sorted((r for r in records if isinstance(r, FrameRecord)), key=lambda r: r.issued_ms),
        sorted((r for r in records if isinstance(r, WorldRecord)), key=lambda r: r.time_ms),
        [r for r in records if isinstance(r, EnergyRecord)],
        [r for r in records if isinstance(r, EventRecord)],
    )
