"""Frames from every kind of source: the right size, numbered without gaps, and none lost whatever a file holds."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from carbonpilot.envs.errors import InputError, MissingExtraError
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.site_file import FrameSize

SIZE = FrameSize(height=64, width=128)


def picture(seed: int = 0, height: int = 64, width: int = 128) -> PIL.Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)


def frames(source: Path | str, *, jpeg_quality: int | None = None, **options):
    opened = open_frames(str(source), SIZE, jpeg_quality=jpeg_quality, **options)
    try:
        return list(opened)
    finally:
        opened.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five images, named so that their order is not that of writing."""
    for seed, name in enumerate(("b.png", "a.png", "d.jpg", "c.png", "e.bmp")):
        picture(seed).save(tmp_path / name)
    return tmp_path


def test_a_folder_comes_in_the_order_of_names(folder):
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "sub").mkdir()
    got = frames(folder)
    assert [f.name for f in got] == ["a.png", "b.png", "c.png", "d.jpg", "e.bmp"]
    assert [f.index for f in got] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(got[0].rgb, np.asarray(picture(1)))
    assert all(f.jpeg is None and f.problem is None for f in got)
    assert all(f.captured_s <= g.captured_s for f, g in itertools.pairwise(got))


@pytest.mark.parametrize("size", [(32, 64), (256, 512), (100, 300)])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_every_frame_has_the_sites_size(tmp_path, size, kind):
    picture(3, *size).save(tmp_path / f"x.{kind}", quality=95)
    (frame,) = frames(tmp_path)
    assert frame.rgb.shape == (64, 128, 3)
    assert frame.rgb.dtype == np.uint8
    # The same picture as when it is made at that size.
    assert np.abs(frame.rgb.astype(int) - np.asarray(picture(3)).astype(int)).mean() < 6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_all_modes_of_eight_bits_become_rgb(tmp_path, mode):
    picture(2).convert(mode).save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    (frame,) = frames(tmp_path)
    assert frame.problem is None
    assert frame.rgb.shape == (64, 128, 3)


def test_a_picture_that_lies_on_its_side_is_turned(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying = picture(4).transpose(PIL.Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "x.jpg", exif=exif, quality=95)
    (frame,) = frames(tmp_path, jpeg_quality=80)
    assert np.abs(frame.rgb.astype(int) - np.asarray(picture(4)).astype(int)).mean() < 6
    decoded = np.asarray(PIL.Image.open(io.BytesIO(frame.jpeg)))
    assert np.abs(decoded.astype(int) - frame.rgb.astype(int)).mean() < 6


def truncated_png() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()[:4000]


def sixteen_bits() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((64, 128), 40_000, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = {
    "empty": (b"", "not an image"),
    "text": (b"once upon a time", "not an image"),
    "cut": (truncated_png(), "damaged"),
    "deep": (sixteen_bits(), "8 bits a channel"),
    "flipped": (truncated_png()[:60] + os.urandom(500), "not an image"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_image_is_a_frame_with_a_problem(folder, kind):
    data, said = BROKEN[kind]
    (folder / "bb.png").write_bytes(data)
    got = frames(folder, jpeg_quality=80)
    assert [f.index for f in got] == list(range(6))
    bad = got[2]
    assert (bad.name, bad.rgb, bad.jpeg) == ("bb.png", None, None)
    assert said in bad.problem
    assert all(f.rgb is not None for f in got if f is not bad)


def test_a_file_that_vanishes_is_a_frame_with_a_problem(folder):
    opened = open_frames(str(folder), SIZE, jpeg_quality=None)
    (folder / "a.png").unlink()
    frame = next(opened)
    assert (frame.name, frame.problem) == ("a.png", "No such file or directory")
    assert next(opened).problem is None


def test_jpeg_is_made_only_where_it_is_sent(folder):
    by_quality = {q: frames(folder, jpeg_quality=q) for q in (50, 95)}
    for got in by_quality.values():
        for frame in got:
            decoded = np.asarray(PIL.Image.open(io.BytesIO(frame.jpeg)))
            assert decoded.shape == frame.rgb.shape
            assert np.abs(decoded.astype(int) - frame.rgb.astype(int)).mean() < 8
    assert len(by_quality[50][0].jpeg) < len(by_quality[95][0].jpeg)


def test_a_file_that_is_such_a_jpeg_already_is_sent_as_it_is(folder):
    frame = frames(folder, jpeg_quality=10)[3]
    assert frame.jpeg == (folder / "d.jpg").read_bytes()
    larger = picture(2, 128, 256)
    larger.save(folder / "d.jpg")
    assert frames(folder, jpeg_quality=10)[3].jpeg != (folder / "d.jpg").read_bytes()


@pytest.mark.parametrize("source", ["folder", "synthetic:5"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"limit": 2}, [0, 1]),
        ({"limit": 0}, []),
        ({"start_index": 3}, [3, 4]),
        ({"start_index": 5}, []),
        ({"start_index": 12}, []),
        ({"start_index": 3, "limit": 9}, [3, 4]),
        ({"repeat": True, "limit": 12}, list(range(12))),
        ({"repeat": True, "limit": 4, "start_index": 13}, [13, 14, 15, 16]),
    ],
)
def test_numbers_have_no_gaps_and_a_restart_goes_on(folder, source, options, expected):
    got = frames(folder if source == "folder" else source, **options)
    assert [f.index for f in got] == expected
    names = [f.name for f in frames(folder if source == "folder" else source)]
    assert [f.name for f in got] == [names[i % 5] for i in expected]


def test_the_pattern_is_the_same_in_every_run_and_moves():
    first, again = frames("synthetic:3", jpeg_quality=80), frames("synthetic:3", jpeg_quality=80)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        assert a.jpeg == b.jpeg
    assert not np.array_equal(first[0].rgb, first[1].rgb)
    first[0].rgb[:] = 0  # frames are their owner's
    assert frames("synthetic:3")[0].rgb.any()


def test_one_image_is_a_source_too(folder):
    assert [f.name for f in frames(folder / "c.png", repeat=True, limit=2)] == ["c.png", "c.png"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere/at/all", "no such file or folder"),
        ("camra:0", "Did you mean 'camera'"),
        ("camera:", "expected a folder of images"),
        ("camera:front", "expected a folder of images"),
        ("synthetic:0", "synthetic:COUNT"),
        ("synthetic:many", "synthetic:COUNT"),
    ],
)
def test_what_is_no_source_is_refused(source, said):
    with pytest.raises(InputError, match=said):
        frames(source)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="No files in"):
        frames(tmp_path)


def test_without_opencv_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    (tmp_path / "x.mp4").write_bytes(b"no video")
    for source in (tmp_path / "x.mp4", "camera:0"):
        with pytest.raises(MissingExtraError, match=r"carbonpilot\[video\]"):
            frames(source)
