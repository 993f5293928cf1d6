"""From a run folder to a bundle."""

import gymnasium
import numpy as np
import pytest

from carbonpilot.agents.algorithms import MODELS
from carbonpilot.agents.benchmark import benchmark
from carbonpilot.agents.card_scores import bundles, write_scores
from carbonpilot.agents.export import export_run
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.agents.normalizer import FixedNormalizer
from carbonpilot.agents.run_dir import MODEL_FILE, RunDir
from carbonpilot.agents.sb3_weights import sb3_outputs
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table


class Spaces(gymnasium.Env):
    def __init__(self, table, actions):
        self.observation_space = gymnasium.spaces.Box(table.low, table.high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(actions)


@pytest.fixture(params=["ppo", "dqn"])
def run(request, tmp_path, tiny_scenario):
    """A run folder with one checkpoint of an untrained model, as a killed training leaves it."""
    scenario = tiny_scenario()
    table = build_table(scenario)
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(0, 1, len(table)), rng.uniform(0.1, 1, len(table))
    config = {"algorithm": request.param, "table_sha256": table.sha256}
    run = RunDir.create(tmp_path / "run", config, scenario, 17, "c0ffee", np.float32(mean), np.float32(std))
    arguments = {
        "features_extractor_class": FixedNormalizer,
        "features_extractor_kwargs": {"mean": mean, "std": std},
    }
    model = MODELS[request.param](
        "MlpPolicy", Spaces(table, len(scenario.placements)), policy_kwargs=arguments, device="cpu", seed=3
    )
    for command in ("carbonpilot train tiny", "carbonpilot train tiny --resume", "carbonpilot train tiny"):
        run.append_session({"command": command, "versions": {"numpy": np.__version__}})
    run.save_checkpoint(640, lambda folder: model.save(folder / MODEL_FILE))
    run.write_progress("running", 640, 1000)
    return run, model


def test_a_run_becomes_a_bundle(run, tmp_path):
    run, model = run
    card = FrozenPolicy.load(export_run(run.path, tmp_path / "early")).card
    assert (card["training"]["finished"], card["training"]["steps"]) == (False, 640)
    run.publish(run.checkpoints()[-1].model)
    run.write_progress("finished", 640, 640)
    policy = FrozenPolicy.load(export_run(str(run.path), str(tmp_path / "done")))
    assert policy.card["algorithm"] == run.config["algorithm"]
    assert policy.card["seed"] == 17
    cost = policy.card["training"].pop("cost")
    assert (cost["emissions_g"], cost["at_least"]) == (None, {}), (
        "the run has no emissions.json: unknown, never zero"
    )
    assert policy.card["training"] == {
        "command": "carbonpilot train tiny && carbonpilot train tiny --resume",
        "seeds": [17],
        "steps": 640,
        "commit": "c0ffee",
        "versions": {"numpy": np.__version__},
        "finished": True,
        "stages": None,
    }
    observation = np.full((1, len(build_table(run.scenario))), 0.3, np.float32)
    assert np.abs(policy.logits(observation) - sb3_outputs(model, observation)).max() < 1e-5


def test_what_cannot_be_exported_is_refused(run, tmp_path, tiny_scenario):
    run, _ = run
    with pytest.raises(InputError, match="not a run folder"):
        export_run(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="exists"):
        export_run(run.path, run.path)
    config = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(config.replace(run.config["table_sha256"], "feed" * 16))
    with pytest.raises(InputError, match=r"another version of the observation table \(feedfeedfeed"):
        export_run(run.path, tmp_path / "out")
    empty = RunDir.create(tmp_path / "empty", run.config, tiny_scenario(), 1, "c0ffee", *run.normalizer)
    with pytest.raises(InputError, match="no model yet"):
        export_run(empty.path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "run"]


def test_a_benchmark_writes_its_scores_into_the_bundles_that_played(run, tmp_path):
    run, _ = run
    folder = export_run(run.path, tmp_path / "frozen")
    assert bundles(["always-local", str(folder)]) == [folder]
    result = benchmark(run.scenario, [str(folder)], episodes=3, seed=5)
    assert write_scores(result, [folder]) == [folder / "card.json"]
    scores = FrozenPolicy.load(folder).card["scores"][run.scenario.name]
    mean = result["frozen"].metrics["carbon_mg_per_request"].mean()
    assert scores["carbon_mg_per_request"]["mean"] == pytest.approx(mean)
    assert (scores["seed"], scores["episodes"], scores["part"]) == (5, 3, "evaluation")
    assert scores["scenario_sha256"] == FrozenPolicy.load(folder).card["scenario_sha256"]
    with pytest.raises(InputError, match="none of the policies is one"):
        bundles(["always-local"])
