"""What executors and frames cost beside the model: milliseconds a call, and JPEG by quality and size.

    python benchmarks/bench_executors.py [--onnx FILE] [--no-triton]

Without --onnx a graph of one operation stands for the model, so that what is left is the executor's own time. The
Triton part needs the test bed's server (docs/testbed.md).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from carbonpilot.real.executors.local import LocalExecutor
from carbonpilot.real.executors.triton import TritonExecutor
from carbonpilot.real.executors.triton_channel import TritonChannel
from carbonpilot.real.frames.jpeg import encode_jpeg
from carbonpilot.real.frames.source import open_frames
from carbonpilot.real.interfaces import Frame
from carbonpilot.real.site_file import FrameSize, LocalModel, RemoteModel, Server

SIZE = FrameSize(height=256, width=512)
CALLS = 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", type=Path, help="a model of 256 x 512")
    parser.add_argument("--no-triton", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(local(options.onnx or one_operation(Path(folder))))
        if not options.no_triton:
            triton(Path(folder))
    jpeg()


def tell(what: str, values_ms: list[float]) -> None:
    """Print median and 95 % quantile."""
    p95 = float(np.quantile(values_ms, 0.95))
    print(f"{what:56s} median {statistics.median(values_ms):7.3f} ms  p95 {p95:7.3f} ms")


def pictures(size: FrameSize, count: int, quality: int | None) -> list[Frame]:
    source = open_frames(f"synthetic:{count}", size, jpeg_quality=quality)
    return list(source)


def one_operation(folder: Path) -> Path:
    """A graph that takes red of every fourth pixel."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    values = {
        "starts": [0, 0, 0],
        "ends": [SIZE.height, SIZE.width, 1],
        "axes": [1, 2, 3],
        "steps": [4, 4, 1],
    }
    constants = [numpy_helper.from_array(np.array(v), k) for k, v in values.items()]
    constants.append(numpy_helper.from_array(np.array([3]), "last"))
    nodes = [
        helper.make_node("Slice", ["IMAGE", *values], ["red"]),
        helper.make_node("Squeeze", ["red", "last"], ["MASK"]),
    ]
    image = helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, [1, SIZE.height, SIZE.width, 3])
    mask = helper.make_tensor_value_info("MASK", TensorProto.UINT8, [1, SIZE.height // 4, SIZE.width // 4])
    graph = helper.make_graph(nodes, "one", [image], [mask], constants)
    file = folder / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file


async def local(file: Path) -> None:
    """The local executor, beyond the session's own run."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    model = LocalModel(file=file.name, sha256=sha256, providers=["cpu"], intra_op_threads=1)
    executor = LocalExecutor("local", model, SIZE, file.parent)
    await executor.start()
    frames = pictures(SIZE, 10, None)
    runs, rest = [], []
    for i in range(CALLS):
        start_s = time.perf_counter()
        answer = await executor.execute(frames[i % 10], None)
        runs.append(answer.execute_ms)
        rest.append((time.perf_counter() - start_s) * 1000 - answer.execute_ms)
    await executor.close()
    tell(f"local, session.run of {file.name}", runs)
    tell("local, executor beyond session.run", rest)


def triton(folder: Path) -> None:
    """The Triton executor beside a bare gRPC call of the same content, turn by turn."""
    import socket

    from carbonpilot.real.testbed.repository.settings import MODEL_SETS
    from carbonpilot.real.testbed.repository.write import write_repository
    from carbonpilot.real.testbed.server import Ports, TritonServer
    from carbonpilot.real.testbed.server_environment import find_environment

    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = Ports(*(s.getsockname()[1] for s in taken))
    for s in taken:
        s.close()
    repository = write_repository(folder, MODEL_SETS["fast"])
    with TritonServer(find_environment(), repository, folder / "server.log", ports=ports) as server:
        for encoding in ("jpeg", "uint8"):
            asyncio.run(compare(server.grpc, encoding))


async def compare(address: str, encoding: str) -> None:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    quality = 80 if encoding == "jpeg" else None
    model = RemoteModel(model=f"segformer-b0-{encoding}", encoding=encoding, jpeg_quality=quality)  # type: ignore[arg-type]
    executor = TritonExecutor("edge", model, SIZE, TritonChannel(Server(grpc=address), folder=Path(".")))
    await executor.start()
    frames = pictures(SIZE, 10, quality)
    ours, bare, rest = [], [], []
    async with grpc.aio.insecure_channel(address) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        for i in range(CALLS):
            frame = frames[i % 10]
            start_s = time.perf_counter()
            answer = await executor.execute(frame, 5.0)
            ours.append((time.perf_counter() - start_s) * 1000)
            rest.append(ours[-1] - answer.execute_ms)
            request = bare_request(service_pb2, model.model, frame)
            start_s = time.perf_counter()
            await call(request, timeout=5.0)
            bare.append((time.perf_counter() - start_s) * 1000)
    await executor.close()
    tell(f"triton {encoding}, executor", ours)
    tell(f"triton {encoding}, bare gRPC call of a ready request", bare)
    tell(f"triton {encoding}, executor beyond the client's call", rest)


def bare_request(messages, model: str, frame: Frame):
    if frame.jpeg is not None:
        shape, kind, data = [1, 1], "BYTES", len(frame.jpeg).to_bytes(4, "little") + frame.jpeg
    else:
        assert frame.rgb is not None
        shape, kind, data = [1, *frame.rgb.shape], "UINT8", frame.rgb.tobytes()
    tensor = {"name": "IMAGE", "datatype": kind, "shape": shape}
    return messages.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[data])


def jpeg() -> None:
    """Size and cost of encoding, on pictures with about the detail of photographs."""
    for size in (SIZE, FrameSize(height=512, width=1024)):
        frames = pictures(size, 20, None)
        for quality in (50, 70, 80, 90, 95):
            spent, sizes = [], []
            for frame in frames:
                assert frame.rgb is not None
                start_s = time.perf_counter()
                sizes.append(len(encode_jpeg(frame.rgb, quality)))
                spent.append((time.perf_counter() - start_s) * 1000)
            tell(
                f"JPEG {size.height} x {size.width} quality {quality}: {np.mean(sizes) / 1000:.0f} kB", spent
            )


if __name__ == "__main__":
    main()
