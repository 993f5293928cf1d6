"""A link that is cut and comes back, with real TCP at both ends: the connection is given up, and found again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from carbonpilot.real.testbed.profiles import PROFILES

pytestmark = pytest.mark.slow

# Calls ten times a second with a deadline of 150 ms, and says each change of how calls end.
CLIENT = """
import asyncio, sys
from pathlib import Path
from carbonpilot.real.executors.triton import TritonExecutor
from carbonpilot.real.executors.triton_channel import TritonChannel
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.interfaces import ExecutorError
from carbonpilot.real.site_file import FrameSize, RemoteModel, Server

async def main():
    size = FrameSize(height=256, width=512)
    model = RemoteModel(model="segformer-b0-jpeg", encoding="jpeg", jpeg_quality=80)
    executor = TritonExecutor("edge", model, size, TritonChannel(Server(grpc=sys.argv[1]), Path(".")))
    await executor.start()
    last = None
    for frame in open_frames("synthetic:10", size, jpeg_quality=80, repeat=True, limit=400):
        try:
            await executor.execute(frame, 0.15)
            ended = "answer"
        except ExecutorError as err:
            ended = err.kind
        if ended != last:
            print(ended, flush=True)
            last = ended
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


def test_after_an_outage_calls_are_answered_again(testbed):
    command = [sys.executable, "-c", CLIENT, testbed.server.grpc]
    client = testbed.run_device(command, stdout=subprocess.PIPE, text=True)
    try:
        until(client, "answer")
        testbed.link.shape(PROFILES["outage"])
        until(client, "timeout")
        # The kernel has given the silent connection up: only so a new one is tried.
        until(client, "unreachable")
        testbed.link.shape(PROFILES["lan"])
        until(client, "answer")
    finally:
        testbed.link.shape(PROFILES["lan"])
        client.kill()
        client.wait()
        client.stdout.close()


def until(client: subprocess.Popen, wanted: str) -> None:
    """Read what the client says until it says that; the test's own time limit is the client's end."""
    for line in client.stdout:
        if line.strip() == wanted:
            return
    raise AssertionError(f"the client ended before it said {wanted!r}")
