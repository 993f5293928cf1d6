"""What was measured, assumed or derived so far, by dotted key, and what is still missing."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from ...envs.errors import InputError, nearest
from ...envs.strict_yaml import parse_yaml
from ..site_file import Measured
from .statistics import Estimate

# Numbers that say what is wanted or how the simulation is run, and are no property of the world.
GIVEN = "given with --assume"
_WISHES = ("slo.", "episode.", "reward.", "wishes.", "arrivals.", "telemetry.")


class Ledger:
    """Collects the numbers of a site.

    Args:
        base: the base scenario as plain data; it is not altered.
        assumptions: dotted key -> value of ``--assume``.
        kept: numbers of an earlier calibration; those that the user gave then are assumed again.

    Raises:
        InputError: a key of an assumption is not in the scenario.
    """

    def __init__(
        self, base: dict[str, Any], assumptions: dict[str, Any], kept: Mapping[str, Measured] | None = None
    ) -> None:
        """Take the assumptions in."""
        self.numbers: dict[str, Measured] = dict(kept or {})
        self.missing: dict[str, str] = {}
        self.notes: list[str] = []
        self._content = copy.deepcopy(base)
        self._assumed = {key: n.value for key, n in self.numbers.items() if n.method == GIVEN} | assumptions
        for key, value in assumptions.items():
            _put(self._content, key, value)
            for leaf, number in _leaves(value, key):
                self.numbers[leaf] = Measured(value=number, kind="assumed", method=GIVEN)

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario as it stands, plain data."""
        return self._content

    def assumed(self, key: str) -> bool:
        """Whether the user gave this number, or a part above it."""
        parts = key.split(".")
        return any(".".join(parts[:n]) in self._assumed for n in range(1, len(parts) + 1))

    def touched(self, key: str) -> bool:
        """Whether the user gave this part, something above it, or something in it."""
        return self.assumed(key) or any(given.startswith(f"{key}.") for given in self._assumed)

    def measured(self, key: str, estimate: Estimate, method: str) -> None:
        """Replace a number by a measured one, unless the user gave it."""
        if self.assumed(key):
            self.notes.append(
                f"{key} was measured as {estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}] and is assumed "
                "to be another all the same (--assume)."
            )
            return
        _put(self._content, key, estimate.value)
        self.numbers[key] = Measured(
            value=estimate.value,
            kind="measured",
            method=method,
            low=estimate.low,
            high=estimate.high,
            count=estimate.count,
        )

    def derived(self, key: str, value: float, method: str) -> None:
        """Replace a number by one that follows from something read, such as a server's configuration."""
        if not self.assumed(key):
            _put(self._content, key, value)
            self.numbers[key] = Measured(value=float(value), kind="derived", method=method)

    def replace(self, key: str, part: Any) -> None:
        """Replace a part that is no number, unless the user gave some of it."""
        if not self.touched(key):
            _put(self._content, key, part)

    def could_not(self, keys: Iterable[str], reason: str) -> None:
        """Note that numbers could not be measured; they are missing unless the user gave them."""
        for key in keys:
            if not self.assumed(key):
                self.missing[key] = reason

    def check_complete(self) -> None:
        """Refuse to go on with numbers missing.

        Raises:
            InputError: names each missing number, why, and the option that gives it.
        """
        if not self.missing:
            return
        lines = [f"{key}: {reason}" for key, reason in self.missing.items()]
        options = " ".join(f"--assume {key}=VALUE" for key in self.missing)
        raise InputError(
            f"{len(lines)} numbers could not be measured, and nothing is guessed:\n  "
            + "\n  ".join(lines)
            + f"\nMend the cause, or give what you know: {options}"
        )

    def assume_rest(self, source: str) -> None:
        """Record every other number that describes the world as assumed."""
        for key, value in _leaves(self._content):
            if key not in self.numbers and not key.startswith(_WISHES) and key != "slo":
                self.numbers[key] = Measured(value=value, kind="assumed", method=source)


def parse_assumptions(given: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as plain data; a value is read as YAML, so ``null`` removes a part.

    Raises:
        InputError: one has no key or no value.
    """
    found: dict[str, Any] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key.strip() or not value.strip():
            raise InputError(
                f"--assume needs KEY=VALUE, got '{text}'. Example: "
                "--assume links.uplink.source.phases.0.rate_mbps=50"
            )
        found[key.strip()] = parse_yaml(f"value: {value}", f"--assume {key}")["value"]
    return found


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of plain data; ``None`` removes it.

    Raises:
        InputError: the key's parent does not exist.
    """
    *path, last = key.split(".")
    node: Any = content
    walked = []
    for part in path:
        walked.append(part)
        node = _child(node, part, ".".join(walked))
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    elif not isinstance(node, dict):
        raise InputError(f"{key}: '{'.'.join(path)}' is no part of the scenario that holds keys.")
    elif value is None:
        node.pop(last, None)
    else:
        node[last] = value


def _child(node: Any, part: str, walked: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, walked)]
    if not isinstance(node, dict) or part not in node:
        known = list(node) if isinstance(node, dict) else []
        raise InputError(
            f"--assume {walked}: unknown key.{nearest(part, known)} Known here: {', '.join(known)}"
        )
    return node[part]


def _index(node: list[Any], part: str, walked: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(f"--assume {walked}: expected a number from 0 to {len(node) - 1}, got '{part}'")
    return int(part)


def _leaves(node: Any, path: str = "") -> list[tuple[str, float]]:
    """Every number of plain data with its dotted key."""
    if isinstance(node, bool):
        return []
    if isinstance(node, (int, float)):
        return [(path, float(node))]
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [leaf for key, child in items for leaf in _leaves(child, f"{path}.{key}" if path else str(key))]
