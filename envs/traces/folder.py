"""A trace folder: which files of it are traces."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError

KINDS = ("grid", "network", "arrivals")
SUFFIXES = (".csv", ".json")
NOT_TRACES = {"INDEX.csv"}  # lists the files of a folder for programs


def trace_folder(folder: str | Path) -> dict[str, list[Path]]:
    """Find the trace files below ``grid/``, ``network/`` and ``arrivals/`` of a folder, sorted by name.

    Raises:
        InputError: the folder does not exist, is a file, or holds no trace.
    """
    folder = existing_folder(folder)
    found = {kind: [p for p in sorted((folder / kind).glob("*")) if is_trace_name(p)] for kind in KINDS}
    if not any(found.values()):
        raise InputError(
            f"{folder}: holds no trace. Expected CSV or JSON files in grid/, network/ or arrivals/ below it; "
            f"found: {_content(folder)}."
        )
    return found


def existing_folder(folder: str | Path) -> Path:
    """The folder as a path.

    Raises:
        InputError: it does not exist or is a file.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(
            f"{folder}: no such trace folder. Give the folder that holds grid/, network/, arrivals/."
        )
    if not folder.is_dir():
        raise InputError(f"{folder}: this is a file. Give the folder that holds grid/, network/, arrivals/.")
    return folder


def is_trace_name(path: Path) -> bool:
    """Whether a file may be a trace, judged by its name."""
    return path.suffix.lower() in SUFFIXES and path.name not in NOT_TRACES and path.is_file()


def _content(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing, it is empty"
