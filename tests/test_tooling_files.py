"""Files come into being whole or not at all, and a refusal of the file system becomes advice."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from carbonpilot.envs import files
from carbonpilot.envs.errors import CarbonPilotError, InputError


def failing(number: int):
    def fail(*_args: object, **_keywords: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_write_replaces_whole_and_leaves_nothing_beside(tmp_path):
    target = tmp_path / "deep" / "result.txt"
    files.atomic_write_text(target, "first")
    files.atomic_write_text(target, "second, é")
    assert target.read_text(encoding="utf-8") == "second, é"
    assert list(target.parent.iterdir()) == [target]


def test_permissions_are_the_users_own(tmp_path):
    old = os.umask(0o027)
    try:
        files.atomic_write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_temporary_path_keeps_the_suffix(tmp_path):
    with files.atomic_path(tmp_path / "model.npz") as temporary:
        assert temporary.parent == tmp_path
        np.savez(temporary, a=np.arange(3))  # adds .npz where it is missing
    assert list(np.load(tmp_path / "model.npz")["a"]) == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_writer_keeps_the_old_file(tmp_path, error):
    target = tmp_path / "result.json"
    target.write_text("old")

    def break_off() -> None:
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        break_off()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, CarbonPilotError, "disk is full. Free some space"),
        (errno.EDQUOT, CarbonPilotError, "quota"),
        (errno.EIO, CarbonPilotError, "Input/output error"),
        (errno.EACCES, InputError, "permission denied. Choose a folder"),
        (errno.EROFS, InputError, "read-only"),
    ],
)
def test_refusals_become_advice(tmp_path, monkeypatch, number, kind, advice):
    target = tmp_path / "result.json"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(kind, match=advice) as caught:
        files.write_json(target, {"a": 1})
    assert str(target) in str(caught.value)
    assert type(caught.value) is kind
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_that_fills_up_while_writing_loses_nothing(tmp_path):
    """A real limit of the kernel instead of a fake: the process may write 4 kB to a file."""
    target = tmp_path / "big.bin"
    target.write_bytes(b"old")
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from carbonpilot.envs.errors import CarbonPilotError
from carbonpilot.envs.files import atomic_write_bytes
try:
    atomic_write_bytes({str(target)!r}, bytes(100_000))
except CarbonPilotError as err:
    print("told:", err)
"""
    assert hasattr(signal, "SIGXFSZ")
    assert hasattr(resource, "RLIMIT_FSIZE")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"told: Cannot write {target}: File too large")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a part of this path is a file"):
        files.write_json(tmp_path / "file" / "x.json", {})


def test_json_keeps_the_order_and_writes_numpy_as_numbers(tmp_path):
    content = {
        "b": np.float32(0.5),
        "a": np.arange(2),
        "ok": np.bool_(True),
        "path": Path("x/y"),
        "none": None,
    }
    files.write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"b": 0.5, "a": [0, 1], "ok": True, "path": "x/y", "none": None}
    assert text.index('"b"') < text.index('"a"')
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf")])
def test_json_refuses_what_is_not_json(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"x": value})
    assert list(tmp_path.iterdir()) == []


def test_atomic_directory_appears_whole_or_not_at_all(tmp_path):
    with files.atomic_directory(tmp_path / "bundle") as temporary:
        (temporary / "card.json").write_text("{}")
        assert not (tmp_path / "bundle").exists()
    assert (tmp_path / "bundle" / "card.json").read_text() == "{}"

    def broken() -> None:
        with files.atomic_directory(tmp_path / "other") as half:
            (half / "card.json").write_text("{}")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(CarbonPilotError, match="disk is full"):
        broken()
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    with pytest.raises(InputError, match="not empty"), files.atomic_directory(tmp_path / "bundle"):
        pass


def test_output_file_is_checked_before_the_work(tmp_path, monkeypatch):
    assert files.check_output_file(tmp_path / "new" / "a.json") == tmp_path / "new" / "a.json"
    with pytest.raises(InputError, match="this is a folder"):
        files.check_output_file(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="permission denied"):
        files.check_output_file(tmp_path / "a.json")
