"""Pictures from a video file or a camera, by OpenCV (extra `[video]`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.errors import InputError, MissingExtraError
from ..clock import Clock
from ..interfaces import Image
from ..site_file import FrameSize
from .picture import Picture, resized

REOPEN_S = 1.0  # between attempts to get a camera back

log = logging.getLogger(__name__)


class VideoPictures:
    """The frames of a video file."""

    live = False

    def __init__(self, path: Path, size: FrameSize) -> None:
        """Open the file and find out that it has a first frame.

        Raises:
            InputError: it is no video that OpenCV can read.
        """
        self._path, self._size = path, size
        self._capture = _open(str(path))
        if not self._capture.grab():
            self._capture.release()
            raise InputError(
                f"{path} is neither an image nor a video that OpenCV can read. Give a folder of images, or convert "
                "it: ffmpeg -i FILE -c:v libx264 video.mp4"
            )

    def pictures(self, start: int, repeat: bool) -> Iterator[Picture]:
        """See `source.Pictures`; what comes before ``start`` is decoded and thrown away."""
        number = 0
        while True:
            self._capture.release()
            self._capture, first = _open(str(self._path)), number
            while self._capture.grab():
                if number >= start:
                    yield self._picture(number - first)
                number += 1
            length = number - first
            self._warn_if_short(length)
            if not repeat or length == 0:
                return
            number += max(start - number, 0) // length * length  # whole rounds before the start

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _picture(self, number: int) -> Picture:
        name = f"{self._path.name}#{number:06d}"
        good, bgr = self._capture.retrieve()
        if not good:
            return Picture(name, None, problem="this frame of the video cannot be decoded")
        return Picture(name, resized(_rgb(bgr), self._size))

    def _warn_if_short(self, number: int) -> None:
        said = int(self._capture.get(_opencv().CAP_PROP_FRAME_COUNT))
        if said > number:
            log.warning("%s ended after %d of %d frames; is the file whole?", self._path, number, said)


class CameraPictures:
    """A camera's frames, the newest each time; one that falls silent is opened again until it is back."""

    live = True

    def __init__(self, number: int, size: FrameSize, clock: Clock) -> None:
        """Open the camera.

        Raises:
            InputError: there is no such camera, or it may not be used.
        """
        self._number, self._size, self._clock = number, size, clock
        self._capture = _open(number)
        if not self._capture.isOpened():
            raise InputError(
                f"Camera {number} cannot be opened. Look for /dev/video{number}; it must be readable (group video) "
                "and used by nobody else."
            )

    def pictures(self, start: int, repeat: bool) -> Iterator[Picture]:
        """Without end, whatever number is the first."""
        while True:
            good, bgr = self._capture.read()
            name = self._clock.utc().isoformat(timespec="milliseconds")
            if good:
                yield Picture(name, resized(_rgb(bgr), self._size))
                continue
            yield Picture(name, None, problem=f"camera {self._number} gave no picture")
            time.sleep(REOPEN_S)
            self._capture.release()
            self._capture = _open(self._number)

    def close(self) -> None:
        """Let the camera go."""
        self._capture.release()


def _open(source: str | int) -> Any:
    cv2 = _opencv()
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # warnings are told by us, in one line
    capture = cv2.VideoCapture(source)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # of a camera: the newest frame, not the oldest kept
    return capture


def _opencv() -> Any:
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError as err:
        raise MissingExtraError("Reading a video or a camera", "video") from err
    return cv2


def _rgb(bgr: np.ndarray) -> Image:
    return np.ascontiguousarray(bgr[..., ::-1])
