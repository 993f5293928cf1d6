"""Pictures from a folder, in the order of their names."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from ...envs.errors import InputError
from ..site_file import FrameSize
from .picture import Picture, picture_of_file


class FolderPictures:
    """All files of a folder as they are now, hidden ones left out, or one file."""

    live = False

    def __init__(self, path: Path, size: FrameSize) -> None:
        """List the files.

        Raises:
            InputError: there is none.
        """
        self._files = (
            [path]
            if path.is_file()
            else sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        )
        if not self._files:
            raise InputError(f"No files in {path}. Give a folder with images (PNG, JPEG and the like).")
        self._size = size

    def pictures(self, start: int, repeat: bool) -> Iterator[Picture]:
        """See `source.Pictures`."""
        for number in turns(start, len(self._files), repeat):
            yield picture_of_file(self._files[number], self._size)

    def close(self) -> None:
        """Nothing is open."""


def turns(start: int, count: int, repeat: bool) -> Iterator[int]:
    """Numbers below ``count``: from ``start`` to the last once, or round and round."""
    return (n % count for n in itertools.count(start)) if repeat else iter(range(start, count))
