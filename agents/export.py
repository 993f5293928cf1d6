"""Freezes a trained model into a bundle (``carbonpilot export``) that was checked before it is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envs.errors import CarbonPilotError, InputError
from ..envs.observation import ObservationTable, build_table
from ..envs.scenario import scenario_sha256
from ..envs.schema import Scenario
from .bundle_writer import write_bundle
from .frozen import FrozenPolicy
from .onnx_graph import onnx_graph
from .parity import Parity, compare, random_observations
from .run_dir import RunDir
from .sb3_weights import Network, extract_network

PARITY_OBSERVATIONS = 10_000
PARITY_SEED = 0


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
    """

    scenario: Scenario
    table: ObservationTable
    command: str
    seeds: list[int]
    steps: int
    commit: str
    versions: dict[str, str]
    finished: bool = True


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
    origin = Origin(
        scenario=run.scenario,
        table=_trained_table(run),
        command=" && ".join(dict.fromkeys(session["command"] for session in sessions)) or "unknown",
        seeds=[run.seed],
        steps=steps,
        commit=(run.path / "commit").read_text().strip(),
        versions=sessions[-1]["versions"] if sessions else {},
        finished=run.finished,
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
        model: a trained DQN, QR-DQN or PPO model with MLP layers.
        out_dir: folder to create; it may exist if it is empty.
        origin: what the card shall say about its training.

    Returns:
        The bundle's folder.

    Raises:
        InputError: if the model cannot be frozen or does not fit the scenario, or the folder is taken.
        CarbonPilotError: if the frozen policy does not decide as the model, or the disk is full.
    """
    network = extract_network(model)
    card = make_card(_algorithm(model), network, origin)
    graph = onnx_graph(network.arrays, network.activation, network.output)
    parity = _check_parity(model, network, card, graph)
    card["parity"] = {"on": f"random observations, seed {PARITY_SEED}", **parity.records()}
    return write_bundle(out_dir, card, network.arrays, graph)


def make_card(algorithm: str, network: Network, origin: Origin) -> dict[str, Any]:
    """The card of a model, without what the writer adds.

    Raises:
        InputError: if the network does not fit the scenario's observations and placements.
    """
    scenario, table = origin.scenario, origin.table
    actions = [placement.name for placement in scenario.placements]
    expected, got = [len(table), len(actions)], [network.layers[0], network.layers[-1]]
    if expected != got:
        raise InputError(
            f"The model maps {got[0]} features to {got[1]} actions, scenario '{scenario.name}' has "
            f"{expected[0]} features and {expected[1]} placements. Likely cause: it was trained elsewhere."
        )
    return {
        "algorithm": algorithm,
        "output": network.output,
        "network": {"layers": network.layers, "activation": network.activation},
        "observation": {"sha256": table.sha256, "features": table.records()},
        "actions": actions,
        "scenario": scenario.name,
        "scenario_family": scenario.family,
        "scenario_sha256": scenario_sha256(scenario),
        "seed": origin.seeds[0],
        "training": {
            "command": origin.command,
            "seeds": origin.seeds,
            "steps": origin.steps,
            "commit": origin.commit,
            "versions": origin.versions,
            "finished": origin.finished,
        },
        "scores": {},
    }


def _check_parity(model: Any, network: Network, card: dict[str, Any], graph: bytes) -> Parity:
    arrays = network.arrays
    observations = random_observations(
        model.observation_space, arrays["mean"], arrays["std"], PARITY_OBSERVATIONS, PARITY_SEED
    )
    parity = compare(model, FrozenPolicy("export", card, arrays), graph, observations)
    if not parity.holds:
        raise CarbonPilotError(
            f"The frozen policy does not decide as the model does: {parity}. No bundle was written. "
            "Likely cause: weights that grew without bound; look at the training's loss curve."
        )
    return parity
