"""The price on risk of a scenario as a record without it; see `risk_terms.PriceRecord`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.observation import build_table
from ..envs.schema import Scenario
from .bundle_arrays import Arrays
from .risk.folder import Risk
from .risk.price import Price
from .risk_terms import LEARNING, PriceRecord


def price_record(
    scenario: Scenario, parameters: Mapping[str, Any] | None, mean: npt.NDArray[np.float32]
) -> PriceRecord:
    """Take a price out of its scenario.

    Args:
        scenario: the site.
        parameters: of the price, each a number; what is left out keeps its default.
        mean: of the observations that the head was trained on (F,). An ordinary request's carbon is the mean of what
            was believed of local.

    Raises:
        InputError: unknown parameter, or a value outside of its range.
    """
    constants, table = Price(scenario, parameters).constants()._asdict(), build_table(scenario)
    carbon = [f"{p.name}_carbon_mg" for p in scenario.placements]
    local = table.index[carbon[0]]
    unit_mg = float(mean[local]) * table.features[local].scale
    placements = [
        {
            "carbon": name,
            "load": f"{p.node}_load" if f"{p.node}_load" in table.index else None,
            "remote": remote,
            "factor": factor,
            "load_factor": load_factor,
            "worth_mg": worth_mg,
        }
        for name, p, (_, _, factor, load_factor, remote, worth_mg) in zip(
            carbon, scenario.placements, constants.pop("placements"), strict=True
        )
    ]
    return PriceRecord({**constants, "unit_mg": unit_mg, **LEARNING}, tuple(placements))


def risk_part(head: Arrays, record: PriceRecord) -> dict[str, Any]:
    """What the card of a bundle says of a risk head (arrays as in ``risk.npz``) and its price."""
    count = sum(name.startswith("weight_") for name in head)
    layers = [len(head["mean"]), *(len(head[f"bias_{i}"]) for i in range(count))]
    return {"layers": layers, "activation": "relu", "price": record.as_json()}


def made_of(risk: Risk) -> dict[str, Any]:
    """Where a risk head and its price come from, for the card of a bundle: their own card."""
    return risk.card.model_dump(mode="json", by_alias=True, exclude={"actions"})
