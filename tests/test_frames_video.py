"""Frames from a video file, where OpenCV is installed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.site_file import FrameSize

cv2 = pytest.importorskip("cv2", reason="needs the extra [video]")
SIZE = FrameSize(height=64, width=128)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Seven frames of 120 x 240, grey by number, the upper half blue."""
    file = tmp_path_factory.mktemp("video") / "v.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10, (240, 120))
    for number in range(7):
        bgr = np.full((120, 240, 3), 30 * number, np.uint8)
        bgr[:60] = (250, 0, 0)
        writer.write(bgr)
    writer.release()
    return file


def frames(source, **options):
    opened = open_frames(str(source), SIZE, jpeg_quality=80, **options)
    try:
        return list(opened)
    finally:
        opened.close()


def test_a_video_gives_its_frames_in_rgb(video):
    got = frames(video)
    assert [f.name for f in got] == [f"v.avi#{i:06d}" for i in range(7)]
    for number, frame in enumerate(got):
        assert frame.rgb.shape == (64, 128, 3)
        assert frame.rgb[-1].mean() == pytest.approx(30 * number, abs=6)
        assert frame.rgb[0, 0, 2] > 200  # blue is the last channel
        assert frame.rgb[0, 0, 0] < 60
        assert frame.jpeg is not None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start_index": 5}, [5, 6]),
        ({"start_index": 7}, []),
        ({"limit": 3}, [0, 1, 2]),
        ({"repeat": True, "limit": 16}, list(range(16))),
        ({"repeat": True, "limit": 3, "start_index": 20}, [20, 21, 22]),
        ({"repeat": True, "limit": 3, "start_index": 21}, [21, 22, 23]),
    ],
)
def test_a_restart_goes_on_in_the_video(video, options, expected):
    got = frames(video, **options)
    assert [f.index for f in got] == expected
    assert [f.name for f in got] == [f"v.avi#{i % 7:06d}" for i in expected]


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match="neither an image nor a video that OpenCV can read"):
        frames(tmp_path / "x.mp4")


def test_a_video_that_ends_early_is_said(video, tmp_path, caplog):
    data = video.read_bytes()
    chunks = [at.start() for at in re.finditer(b"00dc", data)]  # one begins each frame of an AVI file
    (tmp_path / "cut.avi").write_bytes(data[: chunks[4]])
    count = len(frames(tmp_path / "cut.avi"))
    assert 3 <= count <= 4  # the reader may leave out the frame before the end
    assert f"cut.avi ended after {count} of 7 frames; is the file whole?" in caplog.text


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"Camera 97 cannot be opened. Look for /dev/video97"):
        frames("camera:97")
