"""A tail's configuration for Triton: protobuf's text format on disk, JSON in a load request."""

from __future__ import annotations

import json
from typing import Any


def as_text(config: dict[str, Any]) -> str:
    """The configuration as config.pbtxt has it.

    Args:
        config: as `repository.configuration` makes it.
    """
    lines = [f"{key}: {_value(key, config[key])}" for key in ("name", "backend", "max_batch_size")]
    for key in ("input", "output", "instance_group"):
        lines += [f"{key} [{{ {_fields(entry)} }}]" for entry in config[key]]
    lines.append(f"dynamic_batching {{ {_fields(config['dynamic_batching'])} }}")
    lines += [
        f"parameters {{ key: {json.dumps(key)} value: {{ {_fields(value)} }} }}"
        for key, value in config["parameters"].items()
    ]
    return "\n".join(lines) + "\n"


def from_text(text: str) -> dict[str, Any]:
    """The configuration for a load request, from the text of a config.pbtxt, also one that was changed by hand.

    Raises:
        google.protobuf.text_format.ParseError: it is none.
    """
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    messages: Any = model_config_pb2
    config = messages.ModelConfig()
    text_format.Parse(text, config)
    return json_format.MessageToDict(config, preserving_proto_field_name=True)


def _fields(entry: dict[str, Any]) -> str:
    return " ".join(f"{key}: {_value(key, value)}" for key, value in entry.items())


def _value(key: str, value: Any) -> str:
    bare = key in ("data_type", "kind")  # names of an enumeration
    return str(value) if bare else json.dumps(value)
