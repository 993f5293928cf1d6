"""Before the first frame: is it the server and the model that the site file means?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...envs.errors import InputError, nearest
from ...envs.model_card import INPUT, MASK_SCALE, OUTPUT
from ..segments.manifest import Segment
from ..segments.wire import ACTIVATION, SCALE, TRITON_TYPES
from ..site_file import FrameSize, RemoteModel
from .triton_channel import TritonChannel, error_kind

if TYPE_CHECKING:
    from tritonclient.utils import InferenceServerException

ASK_TIMEOUT_S = 2.0  # a question; a server that is loading a model may not answer at all
TYPES = {"jpeg": "TYPE_STRING", "uint8": "TYPE_UINT8"}


class UnreachableServerError(InputError):
    """No server answers at the address of the site file; it may be back later, unlike a wrong model."""


@dataclass(frozen=True)
class ServedModel:
    """What a server says about itself and its model.

    Attributes:
        provider: server's version and the model's backend.
        classes: how many classes its masks have.
    """

    provider: str
    classes: int


async def check_served_model(channel: TritonChannel, model: RemoteModel, frame: FrameSize) -> ServedModel:
    """Ask the server for everything that the site file assumes, in a few seconds at most.

    Raises:
        UnreachableServerError: it does not answer.
        InputError: it has no such model, or one for other frames; says what to do.
    """
    told = await _ask(channel, model)
    _check_image_model(told, model, frame)
    _check_size(told.where, told.given, frame)
    return ServedModel(told.provider, _whole_number(told.where, told.given, "classes"))


async def check_served_tail(
    channel: TritonChannel, model: RemoteModel, segment: Segment, frame: FrameSize
) -> ServedModel:
    """The same for the tail of a split model.

    Raises:
        UnreachableServerError: it does not answer.
        InputError: it has no such model, or the tail of another cut; says what to do.
    """
    told = await _ask(channel, model)
    mend = (
        f"Load the tail of this manifest: carbonpilot segments load {model.segments} --server ... (cut {segment.cut}, "
        f"wire {segment.wire})."
    )
    wanted = [Tensor("input", ACTIVATION, f"TYPE_{TRITON_TYPES[segment.wire]}", segment.shape)]
    if segment.wire == "uint8":
        wanted.append(Tensor("input", SCALE, "TYPE_FP32", [2]))
    for tensor in (*wanted, _mask(frame)):
        _check_tensor(told, tensor, len(wanted), mend, mend)
    if (there := told.given.get("tail_sha256", "")) != segment.tail.sha256:
        raise InputError(
            f"{told.where} is another tail than the manifest's: its SHA-256 is "
            f"{there[:12] or 'not told'}, the manifest says {segment.tail.sha256[:12]}. {mend}"
        )
    return ServedModel(told.provider, _whole_number(told.where, told.given, "classes"))


@dataclass(frozen=True)
class _Told:
    """A model's configuration as the server tells it."""

    where: str
    provider: str
    config: Any
    given: dict[str, str]


@dataclass(frozen=True)
class Tensor:
    """One that is wanted: "input" or "output", name, Triton's type, dims without the batch."""

    what: str
    name: str
    type_name: str
    dims: Sequence[int]


async def _ask(channel: TritonChannel, model: RemoteModel) -> _Told:
    from tritonclient.utils import InferenceServerException

    client = channel.client
    try:
        server: Any = await client.get_server_metadata(client_timeout=ASK_TIMEOUT_S)
    except InferenceServerException as err:
        raise UnreachableServerError(_no_server(channel, err)) from err
    try:
        if not await client.is_model_ready(model.model, model.version, client_timeout=ASK_TIMEOUT_S):
            raise InputError(await _no_model(channel, model))
        told: Any = await client.get_model_config(model.model, model.version, client_timeout=ASK_TIMEOUT_S)
    except InferenceServerException as err:
        raise InputError(
            f"The Triton server at {channel.address} did not answer about its model '{model.model}' within "
            f"{ASK_TIMEOUT_S:.0f} s ({err.message()}). Likely cause: it is still loading; try again."
        ) from err
    config: Any = told.config
    where = f"Model '{model.model}' at {channel.address}"
    given = {key: value.string_value for key, value in config.parameters.items()}
    return _Told(where, f"triton {server.version} {config.backend}", config, given)


def _no_server(channel: TritonChannel, err: InferenceServerException) -> str:
    silent = error_kind(err) == "timeout"
    said = f"no answer within {ASK_TIMEOUT_S:.0f} s" if silent else (err.message() or "no reason given")
    said = said.strip().splitlines()[0][:200]
    tls = (
        "it speaks without TLS, or with a certificate of another authority"
        if channel.encrypted
        else "it wants TLS (servers.NODE.tls in the site file)"
    )
    return (
        f"No Triton server answers at {channel.address} ({said}). Likely cause: it is not running, a firewall is "
        f"between, this is not its gRPC port, or {tls}."
    )


async def _no_model(channel: TritonChannel, model: RemoteModel) -> str:
    from tritonclient.utils import InferenceServerException

    try:
        index: Any = await channel.client.get_model_repository_index(client_timeout=ASK_TIMEOUT_S)
    except InferenceServerException:
        return f"The Triton server at {channel.address} has no model '{model.model}' that is ready."
    entries = [entry for entry in index.models if entry.name == model.model]
    names = sorted({entry.name for entry in index.models})
    if not entries:
        return (
            f"The Triton server at {channel.address} has no model '{model.model}'.{nearest(model.model, names)} "
            f"It has: {', '.join(names) or 'none'}."
        )
    states = ", ".join(f"version {e.version or '?'} {e.state} {e.reason}".strip() for e in entries)
    wanted = f"version {model.version} of " if model.version else ""
    return (
        f"The Triton server at {channel.address} cannot serve {wanted}'{model.model}': {states or 'not ready'}. "
        "Its own log says more."
    )


def _mask(frame: FrameSize) -> Tensor:
    return Tensor("output", OUTPUT, "TYPE_UINT8", [frame.height // MASK_SCALE, frame.width // MASK_SCALE])


def _check_image_model(told: _Told, model: RemoteModel, frame: FrameSize) -> None:
    image = [1] if model.encoding == "jpeg" else [frame.height, frame.width, 3]
    other = _encodings(model)
    size = (
        f"Likely cause: the model was made for other frames than the site's {frame.height} x {frame.width}; serve "
        "one for these, or calibrate for the model's."
    )
    for tensor in (Tensor("input", INPUT, TYPES[model.encoding], image), _mask(frame)):
        _check_tensor(told, tensor, 1, other, size)


def _check_tensor(told: _Told, wanted: Tensor, count: int, mend: str, mend_size: str) -> None:
    """Refuse a model without this tensor among ``count`` inputs, or as its only output."""
    from tritonclient.grpc import model_config_pb2

    types: Any = model_config_pb2

    def kind(tensor: Any) -> str:
        return types.DataType.Name(tensor.data_type)

    config = told.config
    tensors = config.input if wanted.what == "input" else config.output
    got = "; ".join(f"{t.name} {kind(t)} {list(t.dims)}" for t in tensors)
    # Without batching the first dimension is written out.
    dims = list(wanted.dims) if config.max_batch_size else [1, *wanted.dims]
    found = next((t for t in tensors if t.name == wanted.name and kind(t) == wanted.type_name), None)
    if found is None or len(tensors) != (count if wanted.what == "input" else 1):
        raise InputError(
            f"{told.where}: expected the {wanted.what} {wanted.name} {wanted.type_name} {dims}, got {got}. {mend}"
        )
    if len(found.dims) != len(dims) or any(g not in (-1, w) for g, w in zip(found.dims, dims, strict=True)):
        raise InputError(
            f"{told.where}: expected the {wanted.what} {wanted.name} with dims {dims}, got {got}. {mend_size}"
        )


def _encodings(model: RemoteModel) -> str:
    other = "uint8" if model.encoding == "jpeg" else "jpeg"
    return (
        f"The site file sends {model.encoding}: give the name of a model that takes it, or encoding {other} "
        "(deployment.remote)."
    )


def _check_size(where: str, given: dict[str, str], frame: FrameSize) -> None:
    """A JPEG's size is in no tensor; the model's parameters tell it."""
    size = (_whole_number(where, given, "frame_height"), _whole_number(where, given, "frame_width"))
    if size != (frame.height, frame.width):
        raise InputError(
            f"{where} takes frames of {size[0]} x {size[1]}, the site has {frame.height} x {frame.width}. Serve a "
            "model for these, or calibrate for the model's."
        )


def _whole_number(where: str, given: dict[str, str], key: str) -> int:
    text = given.get(key, "")
    if not text.isdecimal():
        raise InputError(
            f"{where}: its config.pbtxt must tell {key}, got {text!r}. Add: "
            f'parameters {{ key: "{key}" value {{ string_value: "NUMBER" }} }}'
        )
    return int(text)
