"""Freezes a risk folder into a bundle without a learned part: `learned-risk` for a device."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from ..envs.errors import InputError
from ..envs.observation import build_table
from ..envs.scenario import load_scenario, scenario_sha256
from ..envs.schema import Scenario
from .bundle_arrays import RISK
from .export import Origin, freeze_network
from .risk.folder import Risk, read_risk, read_risk_for
from .risk_extractor import RiskExtractor
from .risk_record import made_of, price_record, risk_part
from .sb3_weights import Network
from .training_cost import risk_parts, total_cost

ALGORITHM, OUTPUT = "learned-risk", "preferences"


def export_risk(
    folder: str | os.PathLike[str], out_dir: str | os.PathLike[str], scenario: Scenario | None = None
) -> Path:
    """Freeze a risk head and its price (``carbonpilot export RISK_DIR --out BUNDLE_DIR``).

    Args:
        folder: made by `carbonpilot risk train`.
        out_dir: folder to create; it may exist if it is empty.
        scenario: the site that it shall decide for; None for the shipped one that it was made for.

    Returns:
        The bundle's folder.

    Raises:
        InputError: it is no risk folder, does not fit the scenario, or the output folder is taken.
        CarbonPilotError: the frozen policy does not decide as torch does, or the disk is full.
    """
    scenario = scenario or _own_scenario(read_risk(folder))
    risk, table = read_risk_for(folder, scenario), build_table(scenario)
    record = price_record(scenario, risk.card.price, risk.arrays["mean"])
    arrays = {k if k in ("mean", "std") else f"{RISK}{k}": values for k, values in risk.arrays.items()}
    part = risk_part(risk.arrays, record)
    training = risk.card.training
    origin = Origin(
        scenario=scenario,
        table=table,
        command=str(training.get("command", "unknown")),
        seeds=[int(training.get("seed", 0))],
        steps=0,
        commit=str(training.get("commit", "unknown")),
        versions=dict(training.get("versions", {})),
        risk=made_of(risk),
        cost=total_cost(risk_parts(training)),
    )
    space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
    torch_side = RiskExtractor(space, risk.arrays, record.as_json(), table.records())

    def preferences(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return -torch_side(torch.as_tensor(observations))[:, -torch_side.placements :].numpy()

    network = Network(arrays, None, OUTPUT, part["layers"], part)
    return freeze_network(ALGORITHM, network, origin, out_dir, preferences)


def _own_scenario(risk: Risk) -> Scenario:
    """The shipped scenario that a head was made for, unchanged since."""
    card = risk.card
    scenario = load_scenario(card.scenario)
    if scenario_sha256(scenario) != card.scenario_sha256:
        raise InputError(
            f"The risk head was made for scenario '{card.scenario}' as it was then ({card.scenario_sha256[:12]}); the "
            f"shipped one is another ({scenario_sha256(scenario)[:12]}). Give the site with --scenario FILE."
        )
    return scenario
