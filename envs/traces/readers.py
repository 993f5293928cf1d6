"""Read a trace file of any known form into its typed record, or raise with file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..errors import TraceError
from . import electricity_maps
from .defects import DefectLog
from .formats import detect
from .parsed import Parsed, Trace
from .records import ArrivalTrace, GridTrace, NetworkTrace
from .source import read_text


def parse_file(path: str | Path, log: DefectLog) -> Parsed | None:
    """Parse a file of any known form, noting what is wrong instead of raising; None where no rows came out.

    Raises:
        InputError: the file does not exist or cannot be read.
    """
    path = Path(path)
    text = read_text(path, log)
    form = None if text is None else detect(text, log)
    return None if text is None or form is None else form.parse(text, path, log)


def read_trace(path: str | Path) -> Trace:
    """Read a trace of any kind; its form is told from its content.

    Raises:
        TraceError: the file is broken; names file, line and column of the first errors.
        InputError: the file does not exist or cannot be read.
    """
    log = DefectLog(str(path))
    parsed = parse_file(path, log)
    log.raise_errors()
    assert parsed is not None, "a reader that returns nothing must say why"
    return parsed.trace


def read_grid(path: str | Path, factors: Literal["lifecycle", "direct"] = "lifecycle") -> GridTrace:
    """Read a grid file: our CSV, Electricity Maps' export or the GB API's JSON.

    Args:
        path: the file.
        factors: which intensity to take from an Electricity Maps export; other forms hold one only.
    """
    if factors == "direct":
        return _direct(Path(path))
    trace = read_trace(path)
    if not isinstance(trace, GridTrace):
        raise _other_kind(path, "grid", trace)
    return trace


def read_network(path: str | Path) -> NetworkTrace:
    """Read a network file."""
    trace = read_trace(path)
    if not isinstance(trace, NetworkTrace):
        raise _other_kind(path, "network", trace)
    return trace


def read_arrivals(path: str | Path) -> ArrivalTrace:
    """Read an arrivals file, per request or rates; ``ArrivalTrace.kind`` says which."""
    trace = read_trace(path)
    if not isinstance(trace, ArrivalTrace):
        raise _other_kind(path, "arrivals", trace)
    return trace


def kind_of(trace: Trace) -> str:
    """The kind of a trace: "grid", "network" or "arrivals"."""
    return {GridTrace: "grid", NetworkTrace: "network", ArrivalTrace: "arrivals"}[type(trace)]


def _direct(path: Path) -> GridTrace:
    log = DefectLog(str(path))
    text = read_text(path, log)
    form = None if text is None else detect(text, log)
    if form is not None and form.name != "electricity-maps":
        raise TraceError(
            f"{path}:1: direct factors exist in Electricity Maps exports only, this is a {form.name} file"
        )
    parsed = None if text is None or form is None else electricity_maps.parse(text, path, log, "direct")
    log.raise_errors()
    assert parsed is not None
    assert isinstance(parsed.trace, GridTrace)
    return parsed.trace


def _other_kind(path: str | Path, wanted: str, got: Trace) -> TraceError:
    kind = kind_of(got)
    return TraceError(
        f"{path}:1: expected a {wanted} trace, but its header is that of a trace of kind '{kind}'."
    )
