"""What split placements ask of the device, as an observation shows it."""

from __future__ import annotations

from collections.abc import Sequence

from ...envs.beliefs import device_shares
from ...envs.observation import ObservationTable
from ...envs.schema import Scenario


class Heads:
    """Times of the heads; made once for a scenario.

    The device's speed of now is read off its first own placement: its believed latency is backlog and service, with
    throttling and all that the device has learnt about itself.
    """

    def __init__(self, scenario: Scenario, table: ObservationTable) -> None:
        """Note what is calibrated, and where the features are."""
        self._split = [p.split is not None for p in scenario.placements]
        self._share = device_shares(scenario).tolist()
        scale = table.scale.tolist()

        def where(name: str) -> tuple[int, float]:
            return table.index[name], scale[table.index[name]]

        self._latency = [where(f"{p.name}_latency_ms") for p in scenario.placements]
        self._backlog = where("device_backlog_ms")

    def whole_first(self, placements: list[int]) -> list[int]:
        """Those of whole models, if there are any among them; else all."""
        return [a for a in placements if not self._split[a]] or placements

    def head_ms(self, values: Sequence[float], placement: int) -> float:
        """What the device would compute for a placement (of an encoded vector (F,)), ms; 0 where the model is whole."""
        if not self._split[placement]:
            return 0.0
        return self._share[placement] * (self._at(values, self._latency[0]) - self._at(values, self._backlog))

    def rest_ms(self, values: Sequence[float], placement: int) -> float:
        """Believed latency of a split placement less what the device has to do before."""
        before_ms = self._at(values, self._backlog) + self.head_ms(values, placement)
        return max(self._at(values, self._latency[placement]) - before_ms, 0.0)

    @staticmethod
    def _at(values: Sequence[float], where: tuple[int, float]) -> float:
        return values[where[0]] * where[1]
