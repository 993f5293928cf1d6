"""Errors that a user can cause, each saying what was expected, what came and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CarbonPilotError(Exception):
    """Base of every error with a message meant for the user; the command line exits with ``exit_code``."""

    exit_code = 1


class InputError(CarbonPilotError):
    """The call or an input file is wrong; nothing was started."""

    exit_code = 2


class ScenarioError(InputError):
    """A scenario is misspelt, incomplete or describes something that cannot be."""


class TraceError(InputError):
    """A trace file is broken; the message names file, line and column."""


class TraceEndedError(CarbonPilotError):
    """A trace was asked for a time that it does not cover."""


class BundleError(InputError):
    """A policy bundle is damaged or was made for something else."""


class MissingExtraError(InputError):
    """A package of an extra is not installed; the message holds the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        """Name what needs the extra and the command that installs it."""
        command = f"pip install 'carbonpilot[{extra}]'"
        super().__init__(f"{what} needs packages that are not installed. Run: {command}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a phrase ' Did you mean X?' for the closest known name, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{match[0]}'?" if match else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that does not exist, with the nearest known one."""
    known = sorted(known)
    return InputError(f"Unknown {kind} '{name}'.{nearest(name, known)} Known: {', '.join(known)}.")
