"""Where frames come from: a folder of images, a video, a camera, or a made-up pattern."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ...envs.errors import InputError, nearest
from ..clock import Clock, SystemClock
from ..interfaces import Frame
from ..site_file import FrameSize
from .folder import FolderPictures
from .jpeg import encode_jpeg
from .picture import Picture, is_image
from .synthetic import SyntheticPictures
from .video import CameraPictures, VideoPictures

FORMS = "a folder of images, an image, a video file, camera:NUMBER, or synthetic:COUNT"


class Pictures(Protocol):
    """A kind of source.

    Attributes:
        live: its pictures have a time of their own, as a camera's.
    """

    live: bool

    def pictures(self, start: int, repeat: bool) -> Iterator[Picture]:
        """Its pictures from number ``start`` on; again from the first after the last, if ``repeat``."""
        ...

    def close(self) -> None:
        """Let go of files and cameras."""
        ...


class FrameSource(Iterator[Frame]):
    """The frames of a source, ready for every placement: resized, and encoded where one sends JPEG.

    Each ``next`` does all of the work for a frame, some milliseconds to tens of them, so it belongs into a thread of
    its own. What cannot be read becomes a frame with a `Frame.problem`; only the source as a whole can fail.

    Attributes:
        live: the frames have a time of their own, as a camera's.
    """

    def __init__(
        self,
        source: Pictures,
        *,
        jpeg_quality: int | None,
        start_index: int,
        limit: int | None,
        repeat: bool,
        clock: Clock,
    ) -> None:
        """See `open_frames`."""
        self.live = source.live
        self._source, self._quality, self._clock = source, jpeg_quality, clock
        self._pictures = source.pictures(start_index, repeat)
        self._numbers = (
            itertools.count(start_index) if limit is None else range(start_index, start_index + limit)
        )
        self._frames = map(self._frame, self._numbers, self._pictures)

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Let go of files and cameras; call it when nobody waits for a frame."""
        self._source.close()

    def _frame(self, index: int, picture: Picture) -> Frame:
        captured_s = self._clock.monotonic_s()
        jpeg = None
        if self._quality is not None and picture.rgb is not None:
            jpeg = picture.jpeg or encode_jpeg(picture.rgb, self._quality)
        return Frame(index, picture.name, picture.rgb, jpeg, captured_s, picture.problem)


def open_frames(
    source: str,
    size: FrameSize,
    *,
    jpeg_quality: int | None,
    start_index: int = 0,
    limit: int | None = None,
    repeat: bool = False,
    clock: Clock | None = None,
) -> FrameSource:
    """Open a source of frames.

    Args:
        source: a folder of images (in the order of their names), an image, a video file, ``camera:NUMBER``, or
            ``synthetic:COUNT``.
        size: to which every frame is brought.
        jpeg_quality: of the JPEG file in each frame; None: none is made (`executors.make.frames_jpeg_quality`).
        start_index: number of the first frame, above 0 where a restart goes on.
        limit: frames at most; None: all.
        repeat: begin again after the last one.
        clock: for the time at which a frame was there.

    Raises:
        InputError: there is nothing there, or nothing that frames could be made of.
        MissingExtraError: it needs OpenCV or Pillow.
    """
    clock = clock or SystemClock()
    return FrameSource(
        _open(source, size, clock),
        jpeg_quality=jpeg_quality,
        start_index=start_index,
        limit=limit,
        repeat=repeat,
        clock=clock,
    )


def _open(source: str, size: FrameSize, clock: Clock) -> Pictures:
    kind, colon, number = source.partition(":")
    if colon and kind in ("camera", "synthetic"):
        if not number.isdecimal() or (kind == "synthetic" and int(number) == 0):
            raise InputError(f"Frames from '{source}': expected {FORMS}.")
        return (
            CameraPictures(int(number), size, clock)
            if kind == "camera"
            else SyntheticPictures(int(number), size)
        )
    path = Path(source).expanduser()
    if not path.exists():
        known = nearest(kind, ("camera", "synthetic")) if colon else ""
        raise InputError(f"Frames from '{source}': there is no such file or folder.{known} Expected {FORMS}.")
    if path.is_dir() or is_image(path):
        return FolderPictures(path, size)
    return VideoPictures(path, size)
