"""From bytes on a disk to rows of text cells, with every way in which that can fail named."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, nearest
from .defects import DefectLog


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file.

    Attributes:
        header: column names, surrounding blanks removed.
        columns: name -> cells of that column as text.
        lines: line of the file on which each row ends (n,), from 1.
    """

    header: list[str]
    columns: dict[str, Sequence[str]]
    lines: np.ndarray

    def require(self, names: Sequence[str], log: DefectLog) -> bool:
        """Whether all these columns are there; each missing one is an error that offers the nearest name."""
        missing = [n for n in names if n not in self.columns]
        for name in missing:
            others = [h for h in self.header if h not in names]
            hint = nearest(name, others).replace("Did you mean", "Is it meant by")
            log.error(1, name, f"this column is missing.{hint} The header holds: {', '.join(self.header)}")
        return not missing


def read_text(path: Path, log: DefectLog) -> str | None:
    """The file's text, or None where it is none (with the reason in the log).

    Raises:
        InputError: the file does not exist or cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.{_neighbour(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder. Give the files in it.") from None
    except OSError as err:
        raise InputError(f"{path}: cannot be read: {err.strerror or err}.") from err
    if not data.strip():
        log.error(1, None, "the file is empty; expected a header line and rows")
        return None
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        log.error(line, None, "binary data (a NUL byte); expected a text file in UTF-8. Unpack or export it")
        return None
    try:
        return data.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        log.error(line, None, f"not UTF-8 (byte 0x{data[err.start]:02x}). Save the file as UTF-8")
        return None


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist either."
    return nearest(path.name, [p.name for p in path.parent.iterdir()])


def first_line(text: str) -> str:
    """The header line, without its end."""
    return text.lstrip("\r\n").split("\n", 1)[0].strip("\r")


def split_header(line: str) -> list[str]:
    """Column names of a header line."""
    return [name.strip() for name in next(csv.reader([line]), [])]


def read_table(text: str, log: DefectLog) -> Table | None:
    """Cells of a CSV text; rows with a wrong number of fields are errors and left out."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = list(reader)
    except csv.Error as err:
        log.error(reader.line_num, None, f"not CSV: {err}")
        return None
    lines = _row_lines(text, len(rows), reader.line_num)
    while rows and not any(rows[-1]):
        rows.pop()
    header = [name.strip() for name in rows[0]]
    if not _header_holds(header, log):
        return None
    if len(rows) == 1:
        log.error(1, None, "the file ends after the header; expected at least one row")
        return None
    width = len(header)
    good = [i for i in range(1, len(rows)) if len(rows[i]) == width]
    if len(good) < len(rows) - 1:
        for i in sorted(set(range(1, len(rows))) - set(good)):
            got = "an empty line" if not rows[i] else f"{len(rows[i])} fields"
            log.error(lines[i], None, f"{got}; the header has {width}. A comma too many, or a cut line?")
        if not good:
            return None
        rows = [rows[0], *(rows[i] for i in good)]
    cells = zip(*rows[1:], strict=True)
    return Table(header, dict(zip(header, cells, strict=True)), lines[good])


def _header_holds(header: list[str], log: DefectLog) -> bool:
    doubled = sorted({name for name in header if header.count(name) > 1})
    for name in doubled:
        log.error(1, name, "two columns have this name; rename or remove one")
    return not doubled


def _row_lines(text: str, count: int, last: int) -> np.ndarray:
    """Line on which each record ends; they differ from the record's number only after a quoted line break."""
    if count == last:
        return np.arange(1, count + 1)
    reader = csv.reader(io.StringIO(text, newline=""))
    return np.array([reader.line_num for _ in reader])
