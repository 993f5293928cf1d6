"""How much of each placement's carbon can be told beforehand from all that a device observes.

An image's energy on a batching node depends on the batch that it will ride in. This plays the tuned rule on training
tapes, asks the simulator what each placement of some requests would emit, and fits that two ways: by a line through
the believed carbon, its product with the load, and the radio's tail (what the rule and the price correct), and by a
network of everything in the observation. Errors are of tapes that neither has seen. What both leave is luck, and
hindsight knows it (`known_outcomes.py`).

    .venv/bin/python benchmarks/predictable_carbon.py metro
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
import torch

from carbonpilot.agents.predictive_view import PlacementView
from carbonpilot.agents.rule_parameters import make_rule, tuned_parameters
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import LOCAL, Scenario
from carbonpilot.envs.simulator import Simulator

RULE = "slo-predictive-budget"
SHARE, HELD_OUT = 0.15, 0.1  # of requests that are asked about; of tapes that judge
HIDDEN, EPOCHS, BATCH, RATE = 64, 14, 1024, 0.01  # as a risk head (configs/train/risk.yaml)
F32 = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenario")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    site = load_scenario(options.scenario)
    observed, true_mg, tape = samples(site, options.episodes, options.seed)
    judge = tape >= (1 - HELD_OUT) * options.episodes
    networked = by_network(observed, true_mg, ~judge)
    print(f"{len(tape)} requests of {options.episodes} tapes, {judge.sum()} of them judge; mg of CO2")
    print(f"{'placement':14} {'mean':>7} {'deviation':>10} {'left by a line':>15} {'by a network':>13}")
    for i, place in enumerate(site.placements):
        line = by_line(site, observed, true_mg[:, i], i, ~judge)
        errors = [np.sqrt(np.mean((found - true_mg[:, i])[judge] ** 2)) for found in (line, networked[:, i])]
        true = true_mg[judge, i]
        print(f"{place.name:14} {true.mean():7.3f} {true.std():10.3f} {errors[0]:15.3f} {errors[1]:13.3f}")


def samples(site: Scenario, episodes: int, seed: int) -> tuple[F32, F32, npt.NDArray[np.intp]]:
    """Observations (n, F), carbon of every placement (n, P) in mg, and the tape of each (n,)."""
    rng = np.random.default_rng(seed)
    rule = make_rule(RULE, site, tuned_parameters(site)[RULE])
    simulator = Simulator(site, episodes, part="training")
    observation = simulator.reset(rng.integers(0, 2**62, episodes))
    rule.reset(episodes)
    parts, running = [], np.ones(episodes, bool)
    while running.any():
        asked = rng.random(episodes) < SHARE
        carbon = np.stack([np.asarray(o.carbon_mg) for o in simulator.preview()], axis=1)
        parts.append((observation[asked].copy(), carbon[asked], np.flatnonzero(asked)))
        result = simulator.step(rule.decide(observation, simulator.masks()))
        observation, running = result.observation, running & ~result.truncated
    simulator.close()
    observed, true_mg, tape = (np.concatenate(column) for column in zip(*parts, strict=True))
    return observed, true_mg.astype(np.float32), tape


def by_line(
    site: Scenario, observed: F32, true_mg: F32, place: int, fitted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Least squares through belief, belief times load, and the carbon of the radio's tail (n,)."""
    radio, view = site.device.radio, PlacementView(site).of(observed)
    believed = view.carbon_mg[place]
    terms = [believed]
    if site.placements[place].node != LOCAL:
        left_s = (radio.tail_s if radio else 0.0) - view.radio_tail_s
        terms += [believed * view.load[place], left_s * view.device_carbon_g_per_kwh]
    matrix = np.stack(terms, axis=1).astype(np.float64)
    weights, *_ = np.linalg.lstsq(matrix[fitted], true_mg[fitted], rcond=None)
    return matrix @ weights


def by_network(observed: F32, true_mg: F32, fitted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """A network's expectation of every placement's carbon from the whole observation (n, P)."""
    mean, std = observed[fitted].mean(axis=0), observed[fitted].std(axis=0) + 1e-6
    center, unit = true_mg[fitted].mean(axis=0), true_mg[fitted].std(axis=0) + 1e-6
    inputs = torch.from_numpy((observed - mean) / std)
    targets = torch.from_numpy((true_mg - center) / unit)
    net = torch.nn.Sequential(
        torch.nn.Linear(observed.shape[1], HIDDEN), torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, true_mg.shape[1]),
    )  # fmt: skip
    rows = torch.from_numpy(np.flatnonzero(fitted))
    steps = EPOCHS * -(-len(rows) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in rows[torch.randperm(len(rows))].split(BATCH):
            loss = ((net(inputs[batch]) - targets[batch]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        return net(inputs).numpy().astype(np.float64) * unit + center


if __name__ == "__main__":
    main()
