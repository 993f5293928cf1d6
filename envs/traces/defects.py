"""What is wrong with a trace file, each with file, line and column, all collected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, SupportsInt

from ..errors import TraceError

Severity = Literal["error", "warning"]

MAX_LISTED = 50  # of each severity; a broken column would otherwise list every row
MAX_RAISED = 5  # an exception shows the first few, `traces check` shows all


@dataclass(frozen=True)
class Defect:
    """One defect of a trace file.

    Attributes:
        severity: an "error" makes the file unusable; a "warning" is something its user should know.
        file: path as it was given.
        line: line of the file, from 1.
        column: name of the column (CSV) or of the field (JSON); None where the whole line is meant.
        message: what was expected, what came, and what to do.
    """

    severity: Severity
    file: str
    line: int
    column: str | None
    message: str

    def __str__(self) -> str:
        """One line in the form that editors and compilers use."""
        where = f"{self.file}:{self.line}: " + (f"column '{self.column}': " if self.column else "")
        return f"{where}{self.severity}: {self.message}"


class DefectLog:
    """Collects the defects of one file; the first ``MAX_LISTED`` of each severity are kept, all counted."""

    def __init__(self, file: str) -> None:
        """Start with nothing wrong."""
        self.file = file
        self._kept: dict[Severity, list[Defect]] = {"error": [], "warning": []}
        self._count: dict[Severity, int] = {"error": 0, "warning": 0}

    def error(self, line: SupportsInt, column: str | None, message: str) -> None:
        """Note something that makes the file unusable."""
        self._add("error", line, column, message)

    def warning(self, line: SupportsInt, column: str | None, message: str) -> None:
        """Note something that the file's user should know."""
        self._add("warning", line, column, message)

    def _add(self, severity: Severity, line: SupportsInt, column: str | None, message: str) -> None:
        self._count[severity] += 1
        if len(self._kept[severity]) < MAX_LISTED:
            self._kept[severity].append(Defect(severity, self.file, int(line), column, message))

    @property
    def errors(self) -> int:
        """How many errors were found, those beyond the bound included."""
        return self._count["error"]

    def listed(self) -> list[Defect]:
        """Errors first, each severity in order of lines; a last entry says how many more there are."""
        out: list[Defect] = []
        for severity in ("error", "warning"):
            kept = sorted(self._kept[severity], key=lambda d: d.line)
            out += kept
            if more := self._count[severity] - len(kept):
                message = f"and {more} more of this severity that are not listed"
                out.append(Defect(severity, self.file, kept[-1].line, None, message))
        return out

    def raise_errors(self) -> None:
        """Raise a TraceError with the first errors, if there are any."""
        if not self.errors:
            return
        shown = [str(d) for d in self.listed() if d.severity == "error"][:MAX_RAISED]
        more = self.errors - len(shown)
        tail = [f"... and {more} more: carbonpilot traces check {self.file}"] if more > 0 else []
        raise TraceError("\n".join(shown + tail))
