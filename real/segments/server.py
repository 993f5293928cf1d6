"""Puts tails on a running Triton server, and takes them away again.

The files travel with the request (Triton's override of a model directory), so that server and this machine need no
common disk. A server that does not take files must have the folder `triton/` among its model repositories.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...envs.errors import CarbonPilotError, InputError, MissingExtraError
from ..executors.triton_checks import UnreachableServerError
from .configuration import from_text
from .manifest import Segment, SegmentManifest, check_files, manifest_path, read_manifest
from .repository import REPOSITORY

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient

ASK_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 120.0  # B4's tail has 250 MB
# What a server without model control says; seen with Triton 2.51.
_NO_CONTROL = "explicit model load / unload is not allowed"
_EXPLICIT = "--model-control-mode=explicit"


def load_tails(folder: str | Path, address: str, cuts: Sequence[str] | None = None) -> Iterator[str]:
    """Load the tails of a folder, one after the other.

    Args:
        folder: of segments.
        address: host:port of the server's gRPC.
        cuts: only these; None: all.

    Yields:
        A line for each that is loaded and ready.

    Raises:
        InputError: the folder is damaged, no server answers, or it does not let its models be controlled.
        CarbonPilotError: the server cannot load a tail; says what it said.
    """
    manifest, root = read_manifest(folder), manifest_path(folder).parent
    chosen = _chosen(manifest, cuts)
    check_files(manifest, root)
    with _connected(address) as client:
        for segment in chosen:
            with _answering(address, segment, root):
                how = _load(client, segment, root / REPOSITORY / segment.triton_model)
            _check_loaded(client, address, segment)
            yield f"{segment.triton_model}: loaded at {address} ({how})"


def unload_tails(folder: str | Path, address: str, cuts: Sequence[str] | None = None) -> Iterator[str]:
    """Unload the tails of a folder; harmless for those that are not loaded.

    Args, Yields, Raises: see `load_tails`.
    """
    manifest, root = read_manifest(folder), manifest_path(folder).parent
    chosen = _chosen(manifest, cuts)
    with _connected(address) as client:
        for segment in chosen:
            with _answering(address, segment, root):
                there = client.is_model_ready(segment.triton_model, client_timeout=ASK_TIMEOUT_S)
                client.unload_model(segment.triton_model, client_timeout=LOAD_TIMEOUT_S)
            yield f"{segment.triton_model}: {'unloaded from' if there else 'was not loaded at'} {address}"


def _chosen(manifest: SegmentManifest, cuts: Sequence[str] | None) -> list[Segment]:
    return list(manifest.segments) if not cuts else [manifest.segment(cut) for cut in dict.fromkeys(cuts)]


@contextlib.contextmanager
def _connected(address: str) -> Iterator[InferenceServerClient]:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in address:
        raise InputError(f"--server {address}: expected HOST:PORT of the server's gRPC, without http://.")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException
    except (ImportError, RuntimeError) as err:  # RuntimeError: tritonclient without its extra grpc
        raise MissingExtraError("Loading segments on a Triton server", "device") from err
    client = InferenceServerClient(address)
    try:
        try:
            client.is_server_live(client_timeout=ASK_TIMEOUT_S)
        except InferenceServerException as err:
            raise UnreachableServerError(
                f"No Triton server answers at {address} ({_said(err)}). Likely cause: it is not running, a firewall is "
                "between, or this is not its gRPC port."
            ) from err
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def _answering(address: str, segment: Segment, root: Path) -> Iterator[None]:
    """Tell what a server's refusal means."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as err:
        if _NO_CONTROL in str(err.message()):
            raise InputError(
                f"The Triton server at {address} does not let its models be loaded and unloaded. Start it with "
                f"{_EXPLICIT}, or put {root / REPOSITORY} among its model repositories (--model-repository may be "
                "given more than once) and start it again. Placements of whole models go on working."
            ) from err
        raise CarbonPilotError(
            f"The Triton server at {address} cannot load or unload {segment.triton_model}: {_said(err)}. Likely "
            "cause: its Python backend has no onnxruntime, or an older one; its own log says more."
        ) from err


def _load(client: InferenceServerClient, segment: Segment, model: Path) -> str:
    """Load a tail with its files; returns how it was done."""
    config = from_text((model / "config.pbtxt").read_text())
    files = {
        f"file:{file.relative_to(model).as_posix()}": file.read_bytes()
        for file in sorted(model.rglob("*"))
        if file.is_file() and file.name != "config.pbtxt" and "__pycache__" not in file.parts
    }
    sent = sum(map(len, files.values())) / 1e6
    client.load_model(
        segment.triton_model, config=json.dumps(config), files=files, client_timeout=LOAD_TIMEOUT_S
    )
    return f"{sent:.1f} MB sent with the request"


def _check_loaded(client: InferenceServerClient, address: str, segment: Segment) -> None:
    """Is what is served now the tail of this manifest?"""
    told: Any = client.get_model_config(segment.triton_model, client_timeout=ASK_TIMEOUT_S)
    given = told.config.parameters["tail_sha256"].string_value
    if given != segment.tail.sha256:
        raise CarbonPilotError(
            f"The Triton server at {address} serves another tail as {segment.triton_model} than the one that was sent. "
            "Unload it there, and load it again."
        )


def _said(err: Any) -> str:
    return (err.message() or err.status() or "no reason given").strip().splitlines()[0][:300]
