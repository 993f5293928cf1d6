"""From pydantic's errors to messages in the user's own words: dotted path, rule broken, nearest known key."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .errors import ScenarioError, nearest

Model = TypeVar("Model", bound=BaseModel)
MAX_PROBLEMS = 8

_TYPES = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def validated(model: type[Model], content: Mapping[str, Any], where: str) -> Model:
    """Build ``model`` from plain data, strictly: no unknown key, no text where a number belongs.

    Args:
        model: the record to build.
        content: what the file says.
        where: the file's name, for messages.

    Raises:
        ScenarioError: names file, dotted path and rule of everything that is wrong.
    """
    try:
        return model.model_validate(content, strict=True)
    except ValidationError as err:
        problems = _describe(model, err.errors(include_url=False))
    shown = problems[:MAX_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown)} more")
    if len(problems) == 1:
        raise ScenarioError(f"{where}: {problems[0]}")
    raise ScenarioError(f"{where}: {len(problems)} problems\n  " + "\n  ".join(shown))


def _describe(model: type[BaseModel], errors: list[ErrorDetails]) -> list[str]:
    """One line per mistake; a misspelt key is one mistake, not an unknown and a missing key."""
    missing: dict[tuple[str, ...], list[str]] = {}
    for error in errors:
        if error["type"] == "missing":
            path, _ = locate(model, error["loc"])
            missing.setdefault(path[:-1], []).append(path[-1])
    lines = []
    for error in errors:
        if error["type"] == "extra_forbidden":
            path, known = locate(model, error["loc"])
            wanted = missing.get(path[:-1], [])
            hint = nearest(path[-1], wanted)
            if hint:
                wanted.remove(next(name for name in wanted if f"'{name}'" in hint))
            lines.append(_unknown_key(path, hint or nearest(path[-1], known), known))
    for error in errors:
        path, known = locate(model, error["loc"])
        if error["type"] == "missing" and path[-1] in missing[path[:-1]]:
            lines.append(f"{'.'.join(path)}: missing. The keys here are: {', '.join(known)}")
        elif error["type"] not in ("missing", "extra_forbidden"):
            lines.append(_rule(path, error))
    return lines


def _unknown_key(path: tuple[str, ...], hint: str, known: list[str]) -> str:
    return f"{'.'.join(path)}: unknown key.{hint or ' The keys here are: ' + ', '.join(known)}"


def _rule(path: tuple[str, ...], error: ErrorDetails) -> str:
    """Say which rule a value breaks."""
    kind, got, context = error["type"], error.get("input"), error.get("ctx", {})
    dotted = ".".join(path)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = context["discriminator"].strip("'")
        if kind == "union_tag_not_found":
            return f"{dotted}.{tag}: missing. It says which form this is"
        known = [name.strip("'") for name in context["expected_tags"].split(", ")]
        hint = nearest(context["tag"], known)
        return f"{dotted}.{tag}: unknown '{context['tag']}'.{hint} Known: {', '.join(known)}"
    if kind == "literal_error":
        known = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
        return f"{dotted}: must be {context['expected']}, got {_short(got)}.{nearest(str(got), known)}"
    if kind in _BOUNDS:
        sign, key = _BOUNDS[kind]
        return f"{dotted}: must be {sign} {context[key]:g}, got {_short(got)}"
    if kind in ("too_short", "too_long"):
        bound = (
            f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        )
        return f"{dotted}: must have {bound} entries, got {context['actual_length']}"
    if kind == "string_pattern_mismatch":
        return f"{dotted}: must match {context['pattern']}, got {_short(got)}"
    if kind == "value_error":
        return f"{dotted}: {context['error']}" if dotted else str(context["error"])
    if kind in _TYPES:
        return f"{dotted}: must be {_TYPES[kind]}, got {_short(got)}{_why_text(kind, got)}"
    return f"{dotted}: {error['msg']}, got {_short(got)}"


def _why_text(kind: str, got: Any) -> str:
    """A hint where a number was written as text."""
    if kind not in ("float_type", "int_type") or not isinstance(got, str):
        return ""
    try:
        float(got)
    except ValueError:
        return " (text; write the bare number, its unit stands in the key)"
    return " (text; remove the quotes)"


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@functools.cache
def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True)


def locate(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """Turn pydantic's location into the path in the user's file, and list the keys known in its parent.

    Pydantic's locations name the chosen form of a union (``source.phases.phases``); the file does not.
    """
    root = _json_schema(model)
    node, parent, path = root, {}, []
    for part in loc:
        node = _resolved(node, root)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"].get(part, "")}
            continue
        path.append(str(part))
        parent = node
        node = _child(node, part)
    return tuple(path), list(_resolved(parent, root).get("properties", {}))


def _resolved(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow references, and an optional value to its form that is not null."""
    while True:
        if "$ref" in node:
            node = root["$defs"].get(node["$ref"].rpartition("/")[2], {})
        elif "anyOf" in node:
            node = next((form for form in node["anyOf"] if form.get("type") != "null"), {})
        else:
            return node


def _child(node: dict[str, Any], part: int | str) -> dict[str, Any]:
    if isinstance(part, int):
        return node.get("items", {})
    rest = node.get("additionalProperties")
    return node.get("properties", {}).get(part) or (rest if isinstance(rest, dict) else {})
