"""Fig. 5a of Ng et al. beside ours: what it claims is predicted; what it draws has no numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .ng_split import LOCAL, Bar, local_beats_every_cut, offloading_ms, rising_choices, sizes_grow
from .paper_cells import Cell, cell

TABLE = "Fig. 5a"
CLOSE = 0.05  # what "closely align" is taken to mean: section 4.3's narrower band
DRAWN = (
    "Drawn, not printed, and neither are split points, sizes, rate or service times. Ours: the simulator's mean with "
    "cuts after blocks.5, blocks.3 and blocks.2, float32 activations, 2 RPS, and 13.2 and 13 ms for the whole model "
    "on Orin Nano and A2 (sections 4.5 and 4.7), in proportion to the multiply-accumulates."
)
GROW = (
    'Section 4.6: "the intermediate results of later layers grow in size". In MobileNetV2 they shrink, from 1606 kB '
    "after the first layer to 31 kB after blocks.5; what grows is what crosses at earlier cuts, which offload more."
)


def fig_5a(bars: Sequence[Bar]) -> list[Cell]:
    """Every cell of the figure."""
    local, *splits = bars
    return [
        *(Cell(TABLE, _label(b), "mean latency", "ms", None, b.simulated.mean_ms, None, "not_reproducible", DRAWN)
          for b in bars),
        _said("each split point", "slower than the device alone", _slower(local, splits), _SLOWER),
        _said("SP1 to SP3", "latency grows with what is offloaded", _grows(splits), _growing()),
        _said("all", "model within 5 % of the observed", _close(bars), _CLOSE.format(
            most=max(abs(b.deviation) for b in bars))),
        _said("SP1 to SP3", "results of later layers are larger", sizes_grow(), GROW),
    ]  # fmt: skip


def split_records(bars: Sequence[Bar]) -> list[dict[str, Any]]:
    """The figure as plain data, a record for each bar."""
    return [
        {
            "configuration": b.configuration.name,
            "cut_after": b.configuration.cut,
            "offloaded_share_of_macs": b.configuration.offloaded,
            "activation_kb": b.configuration.activation_kb,
            "head_ms": b.configuration.head_ms,
            "link_ms": b.configuration.link_ms,
            "tail_ms": b.configuration.tail_ms,
            "tandem_ms": b.configuration.tandem_ms,
            "constant_times_ms": b.configuration.exact_ms,
            "simulated_ms": b.simulated.mean_ms,
            "standard_error_ms": b.simulated.mean_error_ms,
            "relative_error": b.deviation,
        }
        for b in bars
    ]


_SLOWER = (
    "Tandem and simulation both. The A2 is inferred hardly faster than the Orin Nano for a model as small as this, so "
    "no part of it can win back what its activation takes: the device is faster than a cut after any of the stages, "
    "with float32, float16 and uint8 alike."
)
_CLOSE = (
    'Printed as "closely align"; 5 % is section 4.3\'s narrower band. The tandem against our simulator is off by '
    "{most:.1%} at most: at 2 RPS hardly anything waits. Under load it is not, see below."
)


def _growing() -> str:
    rising, choices = rising_choices()
    return (
        f"Tandem and simulation both. It depends on the choice: of all {choices} threes of cuts between stages "
        f"{rising} have it so. And it does not go on to the end: offloading the whole, with the inferred payload, "
        f"would take {offloading_ms():.1f} ms, less than each split."
    )


def _label(bar: Bar) -> str:
    return bar.configuration.name if bar.configuration.name == LOCAL else (
        f"{bar.configuration.name}, {bar.configuration.offloaded:.0%} offloaded"
    )  # fmt: skip


def _slower(local: Bar, splits: Sequence[Bar]) -> bool:
    by_model = local_beats_every_cut() and all(
        local.configuration.tandem_ms < b.configuration.tandem_ms for b in splits
    )
    return by_model and all(local.simulated.mean_ms < b.simulated.mean_ms for b in splits)


def _grows(splits: Sequence[Bar]) -> bool:
    return all(
        less.configuration.tandem_ms < more.configuration.tandem_ms
        and less.simulated.mean_ms < more.simulated.mean_ms
        for less, more in pairwise(splits)
    )


def _close(bars: Sequence[Bar]) -> bool:
    return all(abs(b.deviation) <= CLOSE for b in bars)


def _said(row: str, column: str, holds: bool, note: str) -> Cell:
    """A sentence without a number: 1 if it holds."""
    return cell((TABLE, row, column, "1"), 1.0, float(holds), note)
