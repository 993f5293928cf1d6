"""Secrets: read from the environment only, shown by nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from ...envs.errors import InputError

HIDDEN = "[hidden]"


class Secret:
    """A secret text; printing, formatting or logging the object shows only that there is one."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep ``value``."""
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the header that needs it and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")


def secret_from_environment(variable: str, what: str) -> Secret:
    """Read a secret.

    Raises:
        InputError: the variable is not set, or holds what cannot be one; the value is not shown.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise InputError(
            f"{what} needs {variable} in the environment, and it is not set. Set it and start again."
        )
    if not value.isprintable() or not value.isascii():
        raise InputError(
            f"{variable} holds characters that no {what} secret has (line break, non-ASCII). Set it anew."
        )
    return Secret(value)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text without any of the secrets, plain or as a URL or JSON would write them."""
    forms = {form for secret in secrets if secret for form in (secret, *_written(secret))}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def _written(secret: str) -> tuple[str, ...]:
    return (
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
    )
