"""A risk folder for tests: a head of random weights and a price."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from carbonpilot import __version__
from carbonpilot.agents.normalizer import measure
from carbonpilot.agents.risk.folder import write_risk
from carbonpilot.agents.risk.parameters import complete_price
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import scenario_sha256
from carbonpilot.envs.simulator import Simulator


def simulated_observations(scenario, count, batch=50, seed=5, part="evaluation"):
    """Observations of episodes under random placements (count, F)."""
    return simulated(scenario, count, batch, seed, part)[0]


def simulated(scenario, count, batch=50, seed=5, part="evaluation"):
    """Observations of episodes under random allowed placements (count, F), and the masks (count, P)."""
    rng = np.random.default_rng(seed)
    simulator = Simulator(scenario, batch, part=part)
    rows, masks = [simulator.reset(np.arange(batch)).copy()], [simulator.masks().copy()]
    while len(rows) * batch < count:
        chosen = rng.integers(0, len(scenario.placements), batch)
        allowed = masks[-1][np.arange(batch), chosen]
        rows.append(simulator.step(np.where(allowed, chosen, 0)).observation.copy())
        masks.append(simulator.masks().copy())
    return np.concatenate(rows)[:count], np.concatenate(masks)[:count]


def random_head(scenario, hidden=(16, 16), seed=0, powers=True):
    """Arrays of a head whose logits spread over some units around -1."""
    rng = np.random.default_rng(seed)
    mean, std = measure(simulated_observations(scenario, 1000, part="training"))
    arrays = {"mean": mean, "std": std if powers else std * np.float32(1.1)}
    for i, (n, m) in enumerate(pairwise([len(mean), *hidden, len(scenario.placements)])):
        arrays[f"weight_{i}"] = (rng.standard_normal((n, m)) * np.sqrt(2 / n)).astype(np.float32)
        arrays[f"bias_{i}"] = rng.standard_normal(m).astype(np.float32)
    arrays[f"bias_{len(hidden)}"] -= 1
    return arrays


def make_risk(folder: Path, scenario, price=None, **head) -> Path:
    """Write a risk folder for a scenario."""
    card = {
        "carbonpilot_version": __version__,
        "table_sha256": build_table(scenario).sha256,
        "scenario": scenario.name,
        "scenario_sha256": scenario_sha256(scenario),
        "family": scenario.family,
        "actions": [p.name for p in scenario.placements],
        "price": complete_price(price),
        "calibration": {"local": {"brier": 0.1}},
        "training": {"seed": 3, "seconds": 1.5},
    }
    return write_risk(folder, random_head(scenario, **head), card)
