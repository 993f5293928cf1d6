"""Which form a file has, told from its content and never from its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import arrivals_csv, electricity_maps, gb_intensity, grid_csv, network_csv
from .defects import DefectLog
from .parsed import Parsed
from .source import first_line, split_header

Parser = Callable[[str, Path, DefectLog], Parsed | None]


@dataclass(frozen=True)
class Form:
    """A file form: its kind of trace, its reader, and the columns that it may have."""

    name: str
    kind: str
    parse: Parser
    columns: tuple[str, ...] = ()


CSV_FORMS = (
    Form("grid-csv", "grid", grid_csv.parse, grid_csv.COLUMNS),
    Form("electricity-maps", "grid", electricity_maps.parse, electricity_maps.COLUMNS),
    Form("network-csv", "network", network_csv.parse, network_csv.COLUMNS),
    Form("arrivals-csv", "arrivals", arrivals_csv.parse, arrivals_csv.COLUMNS),
)
JSON_FORM = Form("gb-carbon-intensity", "grid", gb_intensity.parse)

_SHARED = {"time_s"}  # says nothing about the form, unless it stands alone


def detect(text: str, log: DefectLog) -> Form | None:
    """The form that fits the content best; None, with the reason in the log, where none does."""
    if text.lstrip()[:1] in ("{", "["):
        return JSON_FORM
    header = split_header(first_line(text))
    if header == ["time_s"]:
        return CSV_FORMS[-1]
    if len(header) == 1 and (found := next((c for c in ";\t|" if c in header[0]), None)):
        log.error(1, None, f"fields are separated by {found!r}; expected commas (and decimal points)")
        return None
    scores = [_score(header, form) for form in CSV_FORMS]
    best = max(scores)
    if best == 0:
        log.error(1, None, f"the header fits no form: {', '.join(header)[:200]}. Known: {_known_headers()}")
        return None
    form = CSV_FORMS[scores.index(best)]
    _note_misspelt(header, form, log)
    return form


def _score(header: list[str], form: Form) -> float:
    """One point for each column of the form, half a point for each that nearly is one."""
    own = set(form.columns) - _SHARED
    plain = [electricity_maps.plain(name) if form.name == "electricity-maps" else name for name in header]
    exact = sum(name in own for name in plain)
    nearly = sum(bool(difflib.get_close_matches(n, own, 1, 0.75)) for n in plain if n not in form.columns)
    return exact + 0.5 * nearly


def _note_misspelt(header: list[str], form: Form, log: DefectLog) -> None:
    """An unknown column is allowed, but one that is nearly a known and absent one is probably meant."""
    if form.name == "electricity-maps":
        return
    absent = [c for c in form.columns if c not in header]
    for name in header:
        if name not in form.columns and (match := difflib.get_close_matches(name, absent, 1, 0.8)):
            log.warning(1, name, f"unknown column, not read. Is '{match[0]}' meant?")


def _known_headers() -> str:
    return (
        f"grid ({','.join(grid_csv.REQUIRED)}), network ({','.join(network_csv.REQUIRED)}), "
        "arrivals (time_s or time_s,rate_req_per_s), Electricity Maps' export, GB Carbon Intensity JSON"
    )
