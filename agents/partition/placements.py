"""Split placements for a scenario, from the costs of heads and tails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from ...envs.errors import InputError
from ...envs.schema import LOCAL, Placement, Service
from ...envs.units import BYTES_PER_KB, S_PER_MS
from .costs import Costs
from .cuts import Cut
from .nodes import Chain
from .problem import Problem


def head_share(costs: Costs, cut: Cut) -> float:
    """Share of the whole model's cost that the head has."""
    return float(costs.values[: cut.after + 1].sum()) / costs.total


def split_of_placement(local: Placement, whole: Placement, cut: Cut, share: float, wire: str) -> Placement:
    """A node's placement of the whole model with its first part on the device.

    Args:
        local: the whole model on the device; its head takes this share of time and energy.
        whole: the whole model on the node; its tail takes the rest.
        cut: between them.
        share: `head_share`.
        wire: how the activation crosses.

    Raises:
        InputError: one of the two parts costs nothing.
    """
    if not 0.0 < share < 1.0:
        raise InputError(
            f"The {'head' if share <= 0 else 'tail'} of {cut.name} costs nothing by these costs, and a placement needs "
            "a service time. Take --costs measured, or another --cut."
        )
    tail: dict[str, Any] = {
        "name": f"{whole.name}-{cut.name}",
        "node": whole.node,
        "model": whole.model,
        "service": _scaled(whole.service, 1.0 - share),
        "active_energy_j": _short(whole.active_energy_j * (1.0 - share)),
        "accuracy_miou": whole.accuracy_miou,
        "split": {
            "cut": cut.name,
            "service": _scaled(local.service, share),
            "active_energy_j": _short(local.active_energy_j * share),
            "activation_kb": cut.wire_bytes(wire) / BYTES_PER_KB,
        },
    }
    if whole.batched_energy_j is not None:
        tail["batched_energy_j"] = _short(whole.batched_energy_j * (1.0 - share))
    return Placement.model_validate(tail)


def placements_of_chain(problem: Problem, chain: Chain, model: str, accuracy: float) -> dict[str, Placement]:
    """The whole model on each node of a nodes file, by node; deterministic times, for nothing else is known."""
    found = {}
    for k, node in enumerate(chain.nodes):
        service_ms = float(problem.block["latency_ms"][:, k].sum())
        if service_ms == float("inf"):
            raise InputError(
                f"{node.name} cannot run all of the model ({problem.refused[k]}): it has no placement."
            )
        found[LOCAL if k == 0 else node.name] = Placement.model_validate(
            {
                "name": "local" if k == 0 else node.name,
                "node": LOCAL if k == 0 else node.name,
                "model": model,
                "service": {"distribution": "deterministic", "mean_ms": _short(service_ms)},
                "active_energy_j": _short(service_ms * S_PER_MS * node.active_power_w),
                "accuracy_miou": accuracy,
            }
        )
    return found


def placements_yaml(placements: Sequence[Placement], note: str) -> str:
    """The placements as the part of a scenario's file."""
    rows = [placement.model_dump(exclude_none=True) for placement in placements]
    text = yaml.safe_dump({"placements": rows}, sort_keys=False, allow_unicode=True, width=120)
    return f"# {note}\n{text}"


def _scaled(service: Service, share: float) -> dict[str, Any]:
    """The same distribution, so many times as long."""
    return {
        name: _short(value * share) if isinstance(value, float) else value
        for name, value in service.model_dump(exclude_none=True).items()
    }


def _short(value: float) -> float:
    """Four digits, which is more than is known."""
    return float(f"{value:.4g}")
