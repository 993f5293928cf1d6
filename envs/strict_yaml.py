"""YAML read strictly: duplicate keys are refused, and words are never taken for numbers, dates or booleans.

PyYAML follows YAML 1.1, where the zone ``NO`` is false, ``12:30`` is 750, ``1e-3`` is text and a date is an
object. Here the plain rules of YAML 1.2's core schema hold (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError, ScenarioError, nearest

_RULES = (
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", "tf"),
    ("tag:yaml.org,2002:int", r"^[-+]?[0-9]+$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:null", r"^(?:null|~|)$", "n~"),
    ("tag:yaml.org,2002:merge", r"^<<$", "<"),  # of YAML 1.1: `<<: *anchor` takes over an anchor's keys
)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's plain values and without duplicate keys."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 (yaml's own way of configuring a loader)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise yaml.MarkedYAMLError(None, None, "a key must be text (quote it)", key.start_mark)
            if key.value in first:
                line = first[key.value].start_mark.line + 1
                problem = f"duplicate key '{key.value}' (first given in line {line})"
                raise yaml.MarkedYAMLError(None, None, problem, key.start_mark)
            first[key.value] = key
        return super().construct_mapping(node, deep=True)


def _construct_int(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _construct_float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in _RULES:
    # The empty string is the first character of an empty value, which is null.
    _StrictLoader.add_implicit_resolver(
        _tag, re.compile(_pattern), list(_first) + ([""] if "null" in _tag else [])
    )
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Parse a YAML document that is a mapping.

    Args:
        text: the document.
        where: its file name, for messages.

    Raises:
        ScenarioError: broken syntax (with line and column), duplicate keys, or not a mapping.
    """
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ScenarioError(f"{where}{place}: not valid YAML: {err.problem or err.context}.") from err
    except yaml.YAMLError as err:
        raise ScenarioError(f"{where}: not valid YAML: {' '.join(str(err).split())}.") from err
    if not isinstance(content, dict):
        got = "nothing" if content is None else f"a {type(content).__name__}"
        raise ScenarioError(f"{where}: expected keys and values (key: value), got {got}.")
    return content


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that is a mapping.

    Raises:
        InputError: there is no such file (the nearest name in its folder is offered) or it cannot be read.
        ScenarioError: see `parse_yaml`.
    """
    path = Path(path)
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise InputError(f"There is no file {path}.{nearest(path.name, beside)}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder. Give the path of a YAML file.") from None
    except UnicodeDecodeError as err:
        raise ScenarioError(f"{path}: not a text file in UTF-8 (byte {err.start}).") from None
    except OSError as err:
        raise InputError(f"Cannot read {path}: {err.strerror}.") from err
