"""The Triton executor against a real Triton server: answers, checks before the first frame, and every failure."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.real.executors.triton import TritonExecutor
from carbonpilot.real.executors.triton_channel import TritonChannel, error_kind
from carbonpilot.real.executors.triton_checks import ASK_TIMEOUT_S, UnreachableServerError
from carbonpilot.real.frames.jpeg import encode_jpeg
from carbonpilot.real.interfaces import ExecutorError, Frame
from carbonpilot.real.site_file import FrameSize, RemoteModel, Server, Tls
from carbonpilot.real.testbed.repository.images import mask_of_jpeg, mask_of_pixels

SIZE = FrameSize(height=256, width=512)
QUALITY = 80


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=0).repeat(16, axis=1)


def frame(index: int = 0) -> Frame:
    rgb = picture(index)
    return Frame(index, f"f{index}", rgb, encode_jpeg(rgb, QUALITY), 0.0)


def remote(encoding: str = "jpeg", model: str | None = None, version: str = "") -> RemoteModel:
    return RemoteModel(
        model=model or f"segformer-b0-{encoding}",
        version=version,
        encoding=encoding,
        jpeg_quality=QUALITY if encoding == "jpeg" else None,
    )


def executor(address: str, model: RemoteModel | None = None, size: FrameSize = SIZE, tls: Tls | None = None):
    channel = TritonChannel(Server(grpc=address, tls=tls), Path("."))
    return TritonExecutor("edge-b0", model or remote(), size, channel)


def run(address: str, test, **settings):
    """Run ``test`` with a started executor."""

    async def go():
        under_test = executor(address, **settings)
        await under_test.start()
        try:
            return await test(under_test)
        finally:
            await under_test.close()

    return asyncio.run(go())


def refusal(address: str, **settings) -> str:
    """What `start` refuses with, and within a few seconds."""

    async def nothing(_):
        pass

    start_s = time.monotonic()
    with pytest.raises(InputError) as refused:
        run(address, nothing, **settings)
    assert time.monotonic() - start_s < 10  # bounded, not hanging
    return str(refused.value)


async def failure(under_test: TritonExecutor, timeout_s: float = 5.0) -> str:
    with pytest.raises(ExecutorError) as failed:
        await under_test.execute(frame(), timeout_s)
    return failed.value.kind


@pytest.mark.parametrize("encoding", ["jpeg", "uint8"])
def test_each_frame_gets_its_own_mask(triton_loopback, encoding):
    async def test(under_test):
        frames = [frame(i) for i in range(12)]
        return frames, await asyncio.gather(*(under_test.execute(f, 5.0) for f in frames)), under_test

    frames, answers, under_test = run(triton_loopback.grpc, test, model=remote(encoding))
    assert under_test.provider == "triton 2.51.0 python"
    for f, answer in zip(frames, answers, strict=True):
        expected = mask_of_pixels(f.rgb) if encoding == "uint8" else mask_of_jpeg(f.jpeg, 256, 512)
        np.testing.assert_array_equal(answer.mask, expected)
        assert answer.sent_bytes == under_test.payload_bytes(f)
        assert answer.sent_bytes == (f.rgb.nbytes if encoding == "uint8" else len(f.jpeg))
        assert answer.received_bytes == 64 * 128
        assert answer.execute_ms >= 4  # the stand-in's service time
        assert answer.server.endswith(f"segformer-b0-{encoding} version 1")


def test_placements_of_a_node_share_a_connection_that_the_last_closes(triton_loopback):
    async def go():
        channel = TritonChannel(Server(grpc=triton_loopback.grpc), Path("."))
        first = TritonExecutor("edge-b0", remote(), SIZE, channel)
        second = TritonExecutor("edge-b4", remote(model="segformer-b4-jpeg"), SIZE, channel)
        await first.start()
        await second.start()
        await first.close()
        await first.close()  # twice is harmless, also for the other one
        answer = await second.execute(frame(), 5.0)
        await second.close()
        with pytest.raises(ExecutorError, match="not open"):
            await second.execute(frame(), 5.0)
        return answer

    assert asyncio.run(go()).mask.shape == (64, 128)


def test_an_unknown_model_names_the_nearest(triton_loopback):
    message = refusal(triton_loopback.grpc, model=remote(model="segfomer-b0-jpeg"))
    assert (
        "has no model 'segfomer-b0-jpeg'. Did you mean 'segformer-b0-jpeg'? It has: segformer-b0-jpeg, "
        in message
    )


def test_an_unknown_version_is_said(triton_loopback):
    message = refusal(triton_loopback.grpc, model=remote(version="7"))
    assert "cannot serve version 7 of 'segformer-b0-jpeg': version 1 READY" in message


@pytest.mark.parametrize(("encoding", "other"), [("jpeg", "uint8"), ("uint8", "jpeg")])
def test_a_model_for_the_other_encoding_is_refused(triton_loopback, encoding, other):
    message = refusal(triton_loopback.grpc, model=remote(encoding, model=f"segformer-b0-{other}"))
    assert (
        f"The site file sends {encoding}: give the name of a model that takes it, or encoding {other}"
        in message
    )


@pytest.mark.parametrize("encoding", ["jpeg", "uint8"])
def test_a_model_for_other_frames_is_refused(triton_loopback, encoding):
    message = refusal(triton_loopback.grpc, model=remote(encoding), size=FrameSize(height=512, width=1024))
    assert "512" in message
    assert "256" in message
    assert "calibrate for the model's" in message


def test_a_model_that_gives_other_masks_is_refused_before_the_first_frame(triton_loopback):
    message = refusal(triton_loopback.grpc, model=remote(model="wrong-shape-jpeg"))
    assert "does not segment a grey frame" in message
    assert "MASK UINT8 [1, 32, 128] instead of MASK UINT8 [1, 64, 128]" in message


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("wrong-shape", "wrong-answer"),
        ("wrong-type", "wrong-answer"),
        ("wrong-class", "wrong-answer"),
        ("model-error", "model-error"),
    ],
)
def test_a_server_that_goes_wrong_later_is_noticed(triton_loopback, fault, kind):
    async def test(under_test):
        triton_loopback.repository.fault(fault)
        try:
            failed = await failure(under_test)
        finally:
            triton_loopback.repository.fault()
        return failed, (await under_test.execute(frame(), 5.0)).mask.shape

    assert run(triton_loopback.grpc, test) == (kind, (64, 128))


def test_a_deadline_ends_the_call_and_not_the_connection(triton_loopback):
    async def test(under_test):
        triton_loopback.repository.fault(slower=100.0)  # 400 ms
        try:
            start_s = time.monotonic()
            failed = await failure(under_test, 0.1)
            took_s = time.monotonic() - start_s
        finally:
            triton_loopback.repository.fault()
        past = await failure(under_test, -0.01)
        return failed, past, took_s, await under_test.execute(frame(), 5.0)

    failed, past, took_s, after = run(triton_loopback.grpc, test)
    assert (failed, past) == ("timeout", "timeout")
    assert took_s > 0.09
    assert after.mask.shape == (64, 128)


def test_a_call_can_be_given_up(triton_loopback):
    async def test(under_test):
        call = asyncio.create_task(under_test.execute(frame(), 5.0))
        await asyncio.sleep(0.002)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return await under_test.execute(frame(3), 5.0)

    np.testing.assert_array_equal(run(triton_loopback.grpc, test).mask, mask_of_jpeg(frame(3).jpeg, 256, 512))


def test_closing_ends_calls_under_way_as_cancelled(triton_loopback):
    async def test(under_test):
        triton_loopback.repository.fault(slower=100.0)  # 400 ms
        try:
            call = asyncio.create_task(failure(under_test))
            await asyncio.sleep(0.05)
            await under_test.close()
            return await call
        finally:
            triton_loopback.repository.fault()

    assert run(triton_loopback.grpc, test) == "cancelled"


def test_a_frame_that_does_not_fit_is_the_models_error(triton_loopback):
    async def test(under_test):
        small = np.zeros((32, 64, 3), np.uint8)
        kinds = []
        for jpeg in (encode_jpeg(small, QUALITY), b"not an image", None):
            with pytest.raises(ExecutorError) as failed:
                await under_test.execute(Frame(0, "x", small, jpeg, 0.0), 5.0)
            kinds.append(failed.value.kind)
        return kinds

    assert run(triton_loopback.grpc, test) == ["model-error"] * 3


def test_a_frozen_server_times_out_and_a_killed_one_is_unreachable_until_it_is_back(triton_loopback):
    async def test(under_test):
        triton_loopback.freeze()
        try:
            frozen = await failure(under_test, 0.2)
        finally:
            triton_loopback.thaw()
        await under_test.execute(frame(), 5.0)
        await asyncio.to_thread(triton_loopback.kill)
        killed = [await failure(under_test, 1.0) for _ in range(3)]
        await asyncio.to_thread(triton_loopback.restart)
        # At most a second of back-off, then the same executor goes on.
        for _ in range(50):
            with contextlib.suppress(ExecutorError):
                return frozen, killed, (await under_test.execute(frame(), 1.0)).mask.shape
            await asyncio.sleep(0.1)
        return frozen, killed, None

    frozen, killed, shape = run(triton_loopback.grpc, test)
    assert frozen == "timeout"
    assert set(killed) <= {"unreachable", "timeout"}
    assert killed[-1] == "unreachable"
    assert shape == (64, 128)


def test_nobody_at_the_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    message = refusal(f"127.0.0.1:{port}")
    assert f"No Triton server answers at 127.0.0.1:{port}" in message
    assert "It is not running" in message or "it is not running" in message


def test_a_port_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        async def go():
            under_test = executor(address)
            with pytest.raises(UnreachableServerError, match=f"no answer within {ASK_TIMEOUT_S:.0f} s"):
                await under_test.start()

        asyncio.run(go())


def test_tls_to_a_plain_port_is_said(triton_loopback):
    message = refusal(triton_loopback.grpc, tls=Tls())
    assert "it speaks without TLS" in message


def test_a_certificate_that_is_not_there():
    with pytest.raises(
        InputError, match=r"No certificate at .*none.pem: the site file \(tls.root_certificates\)"
    ):
        asyncio.run(executor("127.0.0.1:1", tls=Tls(root_certificates="none.pem")).start())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A folder with a self-signed certificate of localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


async def tls_front(certificate: Path, plain: str):
    """A server that speaks TLS and hands everything on to a plain port, as a proxy before Triton does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    context.set_alpn_protocols(["h2"])
    host, port = plain.split(":")

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


def test_frames_travel_by_tls(triton_loopback, certificate):
    async def go():
        front = await tls_front(certificate, triton_loopback.grpc)
        address = f"127.0.0.1:{front.sockets[0].getsockname()[1]}"
        trusting = executor(address, tls=Tls(root_certificates=str(certificate / "cert.pem")))
        await trusting.start()
        answer = await trusting.execute(frame(), 5.0)
        await trusting.close()
        messages = []
        for tls in (None, Tls()):  # plain to an encrypted port; a certificate that no known authority signed
            with pytest.raises(UnreachableServerError) as refused:
                await executor(address, tls=tls).start()
            messages.append(str(refused.value))
        front.close()
        await asyncio.sleep(0.1)  # the last connection's tasks see the end
        return answer, messages

    answer, (plain, unknown) = asyncio.run(go())
    assert answer.mask.shape == (64, 128)
    assert "it wants TLS (servers.NODE.tls in the site file)" in plain
    assert "with a certificate of another authority" in unknown


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "timeout"),
        # The three that share one status, as Triton 2.51 words them.
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size", "rejected"),
        ("UNAVAILABLE", "Request timeout expired", "rejected"),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: connection refused", "unreachable"),
        ("UNAVAILABLE", "Socket closed", "unreachable"),
        ("INTERNAL", "Received RST_STREAM with error code 2", "unreachable"),
        ("RESOURCE_EXHAUSTED", "too many", "rejected"),
        ("CANCELLED", "Locally cancelled by application!", "cancelled"),
        ("INVALID_ARGUMENT", "IMAGE: not a JPEG file", "model-error"),
        ("INTERNAL", "Failed to process the request(s)", "model-error"),
    ],
)
def test_failures_are_told_apart_by_status_and_message(status, message, kind):
    from tritonclient.utils import InferenceServerException

    assert error_kind(InferenceServerException(message, status=f"StatusCode.{status}")) == kind
