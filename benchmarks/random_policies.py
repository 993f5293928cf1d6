"""Frozen policies of random weights, for timing: what a decision costs does not depend on what was learned."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from carbonpilot.agents.frozen import FrozenPolicy, freeze
from carbonpilot.agents.risk_record import price_record, risk_part
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.schema import Scenario

KINDS = ("network", "learned-risk", "risk policy")
HIDDEN = [64, 64]

Floats = npt.NDArray[np.float32]


def layers(
    rng: np.random.Generator, sizes: list[int], prefix: str, more: tuple[int, int] = (0, 0)
) -> dict[str, Floats]:
    """Weights and biases; the first layer reads ``more[0]`` further inputs, the last ``more[1]``."""
    arrays, last = {}, len(sizes) - 2
    for i, (n, m) in enumerate(pairwise(sizes)):
        rows = n + (more[0] if i == 0 else 0) + (more[1] if i == last else 0)
        arrays[f"{prefix}weight_{i}"] = (rng.standard_normal((rows, m)) / np.sqrt(n)).astype(np.float32)
        arrays[f"{prefix}bias_{i}"] = rng.standard_normal(m).astype(np.float32)
    return arrays


def random_policy(
    scenario: Scenario, kind: str, activation: str = "tanh", hidden: list[int] | None = None
) -> FrozenPolicy:
    """A policy of the usual size for a scenario.

    Args:
        scenario: the site.
        kind: "network" alone, "learned-risk" (head and price alone), or "risk policy" (all three).
        activation: of the network.
        hidden: units of the hidden layers of network and head.
    """
    rng, table = np.random.default_rng(0), build_table(scenario)
    count, sizes = len(scenario.placements), [len(table), *(hidden or HIDDEN), len(scenario.placements)]
    normaliser = {
        "mean": rng.uniform(0, 1, sizes[0]).astype(np.float32),
        "std": (2.0 ** rng.integers(-3, 2, sizes[0])).astype(np.float32),
    }
    head = {**normaliser, **layers(rng, sizes, "")}
    risk = risk_part(head, price_record(scenario, None, head["mean"]))
    card = {
        "network": None if kind == "learned-risk" else {"layers": sizes, "activation": activation},
        "risk": None if kind == "network" else risk,
        "observation": {"features": table.records()},
    }
    arrays = dict(normaliser)
    if kind != "network":
        arrays |= {f"risk_{name}": values for name, values in head.items() if name not in normaliser}
    if kind != "learned-risk":
        arrays |= layers(rng, sizes, "", (0, 0) if kind == "network" else (2 * count, count))
    return freeze(kind, card, arrays)


def bare_products(scenario: Scenario, hidden: list[int] | None = None) -> list[Floats]:
    """The matrices of a network of that size, to multiply with nothing around it."""
    sizes = [len(build_table(scenario)), *(hidden or HIDDEN), len(scenario.placements)]
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(np.float32) for shape in pairwise(sizes)]
