"""Ends parts in the reverse order of their beginning; one that fails keeps no other from ending."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Ends:
    """What is to be done at the end."""

    def __init__(self) -> None:
        """Nothing so far."""
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, what: str, step: Callable[[], object]) -> None:
        """Do this before all that was added earlier."""
        self._steps.append((what, step))

    def close(self) -> None:
        """Do all of it, once; failures are told and never raised."""
        while self._steps:
            what, step = self._steps.pop()
            try:
                step()
            except Exception as err:
                log.error("The %s did not end well: %s", what, err)
