"""Builders that several test files share."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from testbed_fixture import testbed, triton_environment, triton_loopback  # noqa: F401 - fixtures
from tune_space import space_file  # noqa: F401 - a fixture

from carbonpilot.envs.scenario import load_scenario, merge, scenario_yaml
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.validation import validated

# The smallest site with something to decide: a device, one batching server behind one link, two zones.
TINY: dict[str, Any] = {
    "schema": "carbonpilot/scenario/1",
    "name": "tiny",
    "family": "tiny",
    "description": "A made-up site for tests.",
    "world_clock": "time",
    "split": "seeds",
    "slo": {"latency_ms": 150, "quantile": 0.95},
    "episode": {"requests": 50},
    "account": "marginal",
    "reward": {"carbon_per_mg": 1, "slo_miss": 1, "latency_excess_per_s": 0, "accuracy_per_miou": 0},
    "wishes": {"carbon": 0.5, "latency": 0.5, "accuracy": 0},
    "arrivals": {"kind": "periodic", "low_per_s": 9, "high_per_s": 11, "jitter_fraction": 0.1},
    "payload": {"low_kb": 25, "high_kb": 80},
    "device": {"zone": "home", "idle_power_w": 4},
    "links": {
        "uplink": {
            "source": {
                "kind": "phases",
                "phases": [{"rtt_ms": 20, "jitter_ms": 2, "loss_pct": 0.1, "rate_mbps": 50}],
            },
            "transfer": {"model": "tcp", "congestion_control": "bbr", "jitter": "normal"},
            "network_energy_nj_per_bit": 10,
            "network_zone": "home",
        }
    },
    "nodes": {
        "edge": {
            "link": "uplink",
            "extra_rtt_ms": 0,
            "zone": "away",
            "pue": 1.2,
            "parallelism": 1,
            "idle_power_w": 60,
            "batching": {"max_batch": 8, "queue_delay_ms": 2, "marginal_service_share": 0.3},
            "background": {
                "service_ms": 18,
                "service_distribution": "deterministic",
                "mean_low_load": 0.15,
                "mean_high_load": 0.75,
                "ar1_per_s": 0.9,
                "sigma_load": 0.1,
            },
        }
    },
    "zones": {
        "home": {"kind": "constant", "carbon_g_per_kwh": 400},
        "away": {"kind": "constant", "carbon_g_per_kwh": 50},
    },
    "placements": [
        {
            "name": "local",
            "node": "local",
            "model": "segformer-b0",
            "service": {"distribution": "lognormal", "p50_ms": 90, "p95_ms": 110},
            "active_energy_j": 1.0,
            "accuracy_miou": 37.4,
        },
        {
            "name": "edge-b0",
            "node": "edge",
            "model": "segformer-b0",
            "service": {"distribution": "deterministic", "mean_ms": 18},
            "active_energy_j": 2.0,
            "batched_energy_j": 0.5,
            "accuracy_miou": 37.4,
        },
    ],
    "telemetry": {
        "probe_interval_s": 1,
        "rtt_noise_fraction": 0.1,
        "uplink_noise_fraction": 0.2,
        "load_delay_low_s": 1,
        "load_delay_high_s": 3,
        "load_noise": 0.05,
        "feed_delay_h": 1,
    },
}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The tiny site as plain data, a fresh copy for each test to change."""
    return copy.deepcopy(TINY)


@pytest.fixture
def tiny_scenario():
    """A function that builds the tiny site with some keys changed (merged as ``extends`` merges)."""

    def build(**changes: Any) -> Scenario:
        return validated(Scenario, merge(copy.deepcopy(TINY), changes), "tiny")

    return build


class TrainingLab:
    """Small training runs: short episodes of the flagship, few environments, small batches."""

    small_ppo = {  # noqa: RUF012
        "num_envs": 8,
        "n_steps": 32,
        "batch_size": 128,
        "n_epochs": 2,
        "normalizer_steps": 20,
        "evaluations": 2,
        "evaluation_episodes": 8,
    }
    small_dqn = {  # noqa: RUF012
        "num_envs": 8,
        "batch_size": 64,
        "updates_per_vector_step": 1,
        "buffer_size": 1024,
        "learning_starts": 128,
        "target_update_steps": 128,
        "normalizer_steps": 20,
        "evaluations": 2,
        "evaluation_episodes": 8,
    }
    small = {  # noqa: RUF012
        "ppo": small_ppo,
        "maskable-ppo": small_ppo,
        "recurrent-ppo": {**small_ppo, "lstm_hidden": 8},
        "dqn": small_dqn,
        "qrdqn": {**small_dqn, "quantiles": 8},
    }
    rollout = 8 * 32  # environment steps between two updates of the small PPO

    @staticmethod
    def site(folder: Path, **changes: str) -> Path:
        """Write a scenario like the flagship with episodes of 40 requests; returns its path.

        Without the radio's tail: in so short an episode it makes every first offload too dear for the
        per-request oracle, which then saves nothing.
        """
        lines = ["extends: metro", "name: short-site", "description: Short episodes for tests."]
        lines += ["device: {radio: null}", "episode: {requests: 40}"]
        lines += [f"{key}: {value}" for key, value in changes.items()]
        file = folder / "short-site.yaml"
        file.write_text("\n".join(lines) + "\n")
        return file

    def train(self, site: Path, out: Path, steps: int, algo: str = "ppo", **options: Any) -> tuple[Any, str]:
        """Train with small settings; returns the result and what was printed."""
        from carbonpilot.agents.train import train

        console = Console(file=io.StringIO(), width=200)
        settings = {**self.small[algo], **options.pop("settings", {})}
        result = train(
            site, algo, steps, options.pop("seed", 5), out, settings=settings, console=console, **options
        )
        return result, console.file.getvalue()


@pytest.fixture(scope="session")
def lab() -> TrainingLab:
    """Small training runs."""
    return TrainingLab()


@pytest.fixture
def shortened(tmp_path):
    """Write a shipped scenario with few requests to a file; call it for (path, scenario)."""

    def write(name: str = "metro", requests: int = 60) -> tuple[Path, Scenario]:
        scenario = load_scenario(name)
        short = scenario.model_copy(
            update={"episode": scenario.episode.model_copy(update={"requests": requests})}
        )
        path = tmp_path / f"{name}.yaml"
        path.write_text(scenario_yaml(short))
        return path, load_scenario(path)

    return write
