"""Freezes a trained model into a bundle (``carbonpilot export``) that was checked before it is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from ..envs.errors import CarbonPilotError, InputError
from ..envs.observation import ObservationTable, build_table
from ..envs.scenario import scenario_sha256
from ..envs.schema import Scenario
from .bundle_writer import write_bundle
from .card_limits import must_not_be_used_for
from .dial_knowledge import wishes_record
from .frozen import freeze
from .onnx_graph import onnx_graph
from .parity import Parity, compare_outputs, random_observations
from .risk_record import made_of
from .run_dir import RunDir
from .sb3_weights import Network, extract_network, sb3_outputs
from .teach.stage_book import stages_record
from .training_cost import risk_parts, run_part, total_cost

PARITY_OBSERVATIONS = 10_000
PARITY_SEED = 0

Outputs = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, for the card of its bundle.

    Attributes:
        scenario: the scenario it was trained on.
        table: that scenario's observation table.
        command: the training command, as typed.
        seeds: seeds of the training, the run's own first.
        steps: environment steps trained.
        commit: version control commit of the code, or "unknown".
        versions: library -> version.
        finished: whether the training reached the steps it was asked for.
        risk: where the risk head and the price below it come from: scenario, calibration, training, ...; None without.
        cost: seconds, energy and CO2 of the training (`training_cost`); None: unknown.
        stages: what each stage of teaching came to and which one is handed out; None where there was no teacher.
    """

    scenario: Scenario
    table: ObservationTable
    command: str
    seeds: list[int]
    steps: int
    commit: str
    versions: dict[str, str]
    finished: bool = True
    risk: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    stages: dict[str, Any] | None = None


def export_run(run_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str]) -> Path:
    """Freeze a training run (``carbonpilot export RUN_DIR --out BUNDLE_DIR``).

    Args:
        run_dir: folder of the run. Its model is read with pickle, so it must be one that you trust. Of a run
            that has not finished the newest checkpoint is taken, and the card says so.
        out_dir: folder to create; it may exist if it is empty.

    Returns:
        The bundle's folder.

    Raises:
        InputError: if it is no run folder, has no model yet or the output folder is taken.
        CarbonPilotError: as `export_model`.
    """
    from .algorithms import load_model

    run = RunDir(Path(run_dir))
    file, steps = run.model_file()
    model = load_model(run.config["algorithm"], file)
    sessions = (run.read_json("versions.json") or {"sessions": []})["sessions"]
    risk = run.risk
    origin = Origin(
        scenario=run.scenario,
        table=_trained_table(run),
        command=" && ".join(dict.fromkeys(session["command"] for session in sessions)) or "unknown",
        seeds=[run.seed],
        steps=steps,
        commit=(run.path / "commit").read_text().strip(),
        versions=sessions[-1]["versions"] if sessions else {},
        finished=run.finished,
        risk=None if risk is None else made_of(risk),
        cost=total_cost([run_part(run), *([] if risk is None else risk_parts(risk.card.training))]),
        stages=stages_record(run),
    )
    return export_model(model, out_dir, origin)


def _trained_table(run: RunDir) -> ObservationTable:
    """The run's observation table, provided that this version still builds the same one."""
    table = build_table(run.scenario)
    if table.sha256 != run.config["table_sha256"]:
        raise InputError(
            f"Run {run.path} was trained with another version of the observation table "
            f"({run.config['table_sha256'][:12]}, now {table.sha256[:12]}). Train again, or export with the "
            f"version of carbonpilot that trained it ({run.path}/versions.json names it)."
        )
    return table


def _algorithm(model: Any) -> str:
    """Name of the library's algorithm that the model is, or is built upon."""
    libraries = ("stable_baselines3", "sb3_contrib")
    return next(
        kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith(libraries)
    ).lower()


def export_model(model: Any, out_dir: str | os.PathLike[str], origin: Origin) -> Path:
    """Freeze a stable-baselines3 model into a bundle.

    Args:
        model: a trained DQN, QR-DQN or PPO model with MLP layers, over a risk head or not.
        out_dir: folder to create; it may exist if it is empty.
        origin: what the card shall say about its training.

    Returns:
        The bundle's folder.

    Raises:
        InputError: if the model cannot be frozen or does not fit the scenario, or the folder is taken.
        CarbonPilotError: if the frozen policy does not decide as the model, or the disk is full.
    """
    network = extract_network(model)
    return freeze_network(_algorithm(model), network, origin, out_dir, lambda rows: sb3_outputs(model, rows))


def freeze_network(
    algorithm: str, network: Network, origin: Origin, out_dir: str | os.PathLike[str], expected: Outputs
) -> Path:
    """Write a bundle of a network, or of a risk head alone, once it decides as torch does.

    Args:
        algorithm: for the card.
        network: what to freeze.
        origin: what the card shall say about its training.
        out_dir: folder to create; it may exist if it is empty.
        expected: torch's outputs (N, P) of observations (N, F).

    Raises:
        InputError: if it does not fit the scenario, or the folder is taken.
        CarbonPilotError: if the frozen policy does not decide as torch does, or the disk is full.
    """
    card = make_card(algorithm, network, origin)
    features = card["observation"]["features"]
    graph = onnx_graph(network.arrays, network.activation, network.output, network.risk, features)
    parity = _check_parity(expected, network, card, graph, origin.table)
    card["parity"] = {"on": f"random observations, seed {PARITY_SEED}", **parity.records()}
    return write_bundle(out_dir, card, network.arrays, graph)


def make_card(algorithm: str, network: Network, origin: Origin) -> dict[str, Any]:
    """The card of a policy, without what the writer adds.

    Raises:
        InputError: if the network does not fit the scenario's observations and placements.
    """
    scenario, table = origin.scenario, origin.table
    actions = [placement.name for placement in scenario.placements]
    expected, got = [len(table), len(actions)], [network.layers[0], network.layers[-1]]
    if got[0] > expected[0] and got[0] % expected[0] == 0:
        raise InputError(
            f"The model sees the last {got[0] // expected[0]} observations (stack in its settings), a bundle decides "
            "from one alone. Train with stack: 1 for the device."
        )
    if expected != got:
        raise InputError(
            f"The model maps {got[0]} features to {got[1]} actions, scenario '{scenario.name}' has "
            f"{expected[0]} features and {expected[1]} placements. Likely cause: it was trained elsewhere."
        )
    learned = {"layers": network.layers, "activation": network.activation}
    # A price alone knows every position of the dial, whatever it was tuned at.
    wishes = wishes_record(scenario.wishes, knows_all=network.activation is None)
    return {
        "algorithm": algorithm,
        "output": network.output,
        "network": None if network.activation is None else learned,
        "risk": None if network.risk is None else {**network.risk, "made": origin.risk},
        "observation": {"sha256": table.sha256, "features": table.records()},
        "actions": actions,
        "nodes": [placement.node for placement in scenario.placements],
        "scenario": scenario.name,
        "scenario_family": scenario.family,
        "scenario_sha256": scenario_sha256(scenario),
        "wishes": wishes,
        "seed": origin.seeds[0],
        "training": {
            "command": origin.command,
            "seeds": origin.seeds,
            "steps": origin.steps,
            "commit": origin.commit,
            "versions": origin.versions,
            "finished": origin.finished,
            "cost": origin.cost,
            "stages": origin.stages,
        },
        "must_not_be_used_for": must_not_be_used_for(scenario, wishes["sampled"], origin.finished),
        "scores": {},
    }


def _check_parity(
    expected: Outputs, network: Network, card: dict[str, Any], graph: bytes, table: ObservationTable
) -> Parity:
    arrays = network.arrays
    space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
    observations = random_observations(space, arrays["mean"], arrays["std"], PARITY_OBSERVATIONS, PARITY_SEED)
    parity = compare_outputs(expected(observations), freeze("export", card, arrays), graph, observations)
    if not parity.holds:
        raise CarbonPilotError(
            f"The frozen policy does not decide as the model does: {parity}. No bundle was written. "
            "Likely cause: weights that grew without bound; look at the training's loss curve."
        )
    return parity
