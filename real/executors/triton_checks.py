"""Before the first frame: is it the server and the model that the site file means?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...envs.errors import InputError, nearest
from ...envs.model_card import INPUT, MASK_SCALE, OUTPUT
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
    _check_tensors(where, config, model, frame)
    _check_size(where, given, frame)
    return ServedModel(f"triton {server.version} {config.backend}", _whole_number(where, given, "classes"))


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


def _check_tensors(where: str, config: Any, model: RemoteModel, frame: FrameSize) -> None:
    from tritonclient.grpc import model_config_pb2

    types: Any = model_config_pb2

    def kind(tensor: Any) -> str:
        return types.DataType.Name(tensor.data_type)

    mask = [frame.height // MASK_SCALE, frame.width // MASK_SCALE]
    image = [1] if model.encoding == "jpeg" else [frame.height, frame.width, 3]
    wanted = (
        ("input", config.input, INPUT, TYPES[model.encoding], image),
        ("output", config.output, OUTPUT, "TYPE_UINT8", mask),
    )
    for what, tensors, name, type_name, shape in wanted:
        got = "; ".join(f"{t.name} {kind(t)} {list(t.dims)}" for t in tensors)
        dims = (
            shape if config.max_batch_size else [1, *shape]
        )  # without batching the first dimension is written out
        if len(tensors) != 1 or tensors[0].name != name or kind(tensors[0]) != type_name:
            raise InputError(
                f"{where}: expected the {what} {name} {type_name} {dims}, got {got}. {_encodings(tensors, model)}"
            )
        if len(tensors[0].dims) != len(dims) or any(
            g not in (-1, w) for g, w in zip(tensors[0].dims, dims, strict=True)
        ):
            raise InputError(
                f"{where}: expected the {what} {name} with dims {dims}, got {got}. Likely cause: the model was made "
                f"for other frames than the site's {frame.height} x {frame.width}; serve one for these, or "
                "calibrate for the model's."
            )


def _encodings(tensors: Any, model: RemoteModel) -> str:
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
