"""A site's executors: one for each placement, one connection for each server, nothing heavy before it is needed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from site_builder import site_of

from carbonpilot.envs.errors import InputError
from carbonpilot.real.executors.local import LocalExecutor
from carbonpilot.real.executors.make import frames_jpeg_quality, make_executors
from carbonpilot.real.executors.triton import TritonExecutor


@pytest.fixture
def site(tiny, tiny_scenario):
    """The tiny site with a second model on its server; called with parts of the deployment."""
    local, b0 = tiny["placements"]
    b4 = {**b0, "name": "edge-b4", "model": "segformer-b4"}
    return lambda placements=(local, b0, b4), **deployment: site_of(
        tiny_scenario(placements=list(placements)), **deployment
    )


def test_placements_get_their_executor_and_share_their_nodes_connection(site):
    executors = make_executors(site(), Path("."))
    assert list(executors) == ["local", "edge-b0", "edge-b4"]
    assert [type(e) for e in executors.values()] == [LocalExecutor, TritonExecutor, TritonExecutor]
    assert [e.placement for e in executors.values()] == list(executors)
    assert executors["edge-b0"]._channel is executors["edge-b4"]._channel
    assert {e.provider for e in executors.values()} == {"not started"}
    asyncio.run(executors["edge-b0"].close())  # harmless before the start, too


def test_two_local_placements_are_refused(site, tiny):
    local, b0 = tiny["placements"]
    with pytest.raises(InputError, match="Placement local-b4: the site has a local placement already"):
        make_executors(site((local, {**local, "name": "local-b4"}, b0)), Path("."))


def test_paths_are_relative_to_the_site_file(site, tmp_path):
    executors = make_executors(site(), tmp_path)
    with pytest.raises(InputError, match=f"No model at {tmp_path}/model.onnx"):
        asyncio.run(executors["local"].start())


def jpeg(model: str, quality: int) -> dict:
    return {"model": model, "encoding": "jpeg", "jpeg_quality": quality}


RAW = {"model": "b4", "encoding": "uint8"}


@pytest.mark.parametrize(
    ("b0", "b4", "expected"),
    [(jpeg("b0", 80), RAW, 80), (jpeg("b0", 70), jpeg("b4", 70), 70), (RAW, RAW, None)],
)
def test_frames_are_encoded_once_at_the_sites_quality(site, b0, b4, expected):
    assert frames_jpeg_quality(site(remote={"edge-b0": b0, "edge-b4": b4})) == expected


def test_two_qualities_are_refused(site):
    different = site(remote={"edge-b0": jpeg("b0", 80), "edge-b4": jpeg("b4", 90)})
    with pytest.raises(InputError, match="the same quality, got edge-b0 80, edge-b4 90"):
        frames_jpeg_quality(different)


HEAVY = ("onnxruntime", "grpc", "tritonclient", "PIL", "cv2", "torch", "onnx")


def test_importing_loads_no_library_that_a_site_may_not_need():
    code = "import sys, carbonpilot.real.executors.make, carbonpilot.real.frames.source\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
