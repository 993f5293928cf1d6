"""Files are written whole or not at all: temporary name in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CarbonPilotError, InputError

# What a user can do about an error of the file system.
_FULL = {
    errno.ENOSPC: "the disk is full. Free some space (df -h shows where) and run the command again",
    errno.EDQUOT: "the disk quota is used up. Free some space (quota -s shows it) and run the command again",
}
_WRONG_PLACE = {
    errno.EACCES: "permission denied. Choose a folder that you may write to",
    errno.EPERM: "permission denied. Choose a folder that you may write to",
    errno.EROFS: "the file system is read-only. Choose a folder on another one",
    errno.EEXIST: "a part of this path is a file, not a folder. Choose another path",
    errno.ENOTDIR: "a part of this path is a file, not a folder. Choose another path",
    errno.EISDIR: "this is a folder. Give the path of a file",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
}


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the file system refuses while ``path`` is written into a message for the user.

    Raises:
        CarbonPilotError: the disk is full or failing (exit code 1).
        InputError: the path is one that cannot be written (exit code 2).
    """
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise CarbonPilotError(f"Cannot write {path}: {_FULL[err.errno]}.") from err
        if err.errno in _WRONG_PLACE:
            raise InputError(f"Cannot write {path}: {_WRONG_PLACE[err.errno]}.") from err
        raise CarbonPilotError(f"Cannot write {path}: {err.strerror or err}.") from err


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Lend a temporary path beside ``path``; what is written there becomes ``path`` when the block ends well.

    For writers that want a path of their own (a model's ``save``, ``savefig``). The suffix is kept, because
    some of them add their own where it is missing. If the block fails, ``path`` stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` whole, replacing what was there."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` whole as UTF-8, replacing what was there."""
    atomic_write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, keys in their given order.

    NumPy scalars and arrays are written as numbers and lists. NaN and infinities are not JSON and are
    refused (ValueError): write None where a number does not exist.
    """
    atomic_write_text(path, json.dumps(content, indent=2, allow_nan=False, default=_plain) + "\n")


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Lend a temporary folder beside ``path`` that becomes ``path`` when the block ends well, else vanishes.

    Raises:
        InputError: ``path`` holds files already or cannot be created.
    """
    path = Path(path)
    _refuse_used(path)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with writing(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_output_file(path: str | Path) -> Path:
    """Find out before long work whether its result can be written to ``path``.

    Raises:
        InputError: it is a folder, or its folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"Cannot write {path}: this is a folder. Give the path of a file.")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable", str(path.parent))
    return path


def _refuse_used(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"Output folder {path} exists and is a file or a link. Give a new folder.")
    with writing(path):
        used = path.is_dir() and any(path.iterdir())
    if used:
        raise InputError(f"Output folder {path} exists and is not empty. Give a new one, or remove it first.")


def _sync(path: Path) -> None:
    """Make sure that the content (of a folder: the names) is on the disk before anybody relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
