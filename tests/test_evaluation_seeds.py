"""Several training seeds of one agent: found from their folders, judged as one entry with both kinds of noise."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from risk_builder import make_risk

from carbonpilot.agents.benchmark import benchmark, play
from carbonpilot.agents.bundle_writer import write_bundle
from carbonpilot.agents.policy_registry import contestants
from carbonpilot.agents.report import as_json, write_report
from carbonpilot.agents.run_dir import RunDir, risk_hashes
from carbonpilot.agents.scoreboard import COLUMNS, rows
from carbonpilot.agents.seed_levels import Training, read_training, siblings
from carbonpilot.agents.verdict import verdict
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_sha256
from carbonpilot.envs.schema import Episode

METRO = load_scenario("metro").model_copy(update={"episode": Episode(requests=40)})


def bundle(folder, seed: int, placement: int, **training) -> str:
    """A bundle of one layer that always prefers one placement, with a card as `export` writes it."""
    table, actions = build_table(METRO), [p.name for p in METRO.placements]
    arrays = {
        "mean": np.zeros(len(table), dtype=np.float32),
        "std": np.ones(len(table), dtype=np.float32),
        "weight_0": np.zeros((len(table), len(actions)), dtype=np.float32),
        "bias_0": np.eye(len(actions), dtype=np.float32)[placement],
    }
    command = f"carbonpilot train metro --algo dqn --steps 5000 --seed {seed} --out runs/{seed}"
    card = {
        "algorithm": "dqn",
        "output": "q",
        "network": {"layers": [len(table), len(actions)], "activation": "tanh"},
        "observation": {"features": table.records(), "sha256": table.sha256},
        "actions": actions,
        "scenario": METRO.name,
        "scenario_family": METRO.family,
        "scenario_sha256": scenario_sha256(METRO),
        "seed": seed,
        "training": {"command": command, "steps": 5000, **training},
        "scores": {},
    }
    return str(write_bundle(folder, card, arrays, b"graph"))


@pytest.mark.parametrize("episodes", [400, 800])
def test_risk_heads_are_siblings_by_how_they_were_made_and_so_are_the_runs_over_them(tmp_path, episodes):
    """The whole pipeline has the seed: each run may be laid over a head of its own."""

    def head(name: str, seed: int, count: int):
        folder = make_risk(tmp_path / name, METRO, seed=seed)
        card = json.loads((folder / "price.json").read_text())
        card["training"] = {"seed": seed, "settings": {"episodes": count}}
        (folder / "price.json").write_text(json.dumps(card))
        return folder

    def run(name: str, seed: int, risk):
        zeros, config = np.zeros(3, np.float32), {"algorithm": "ppo", "risk": risk_hashes(risk)}
        made = RunDir.create(tmp_path / name, config, METRO, seed, "abc", zeros, zeros, risk)
        made.save_checkpoint(100, lambda folder: (folder / "model.zip").write_bytes(name.encode()))
        return read_training(tmp_path / name)

    heads = head("head-0", 0, 400), head("head-1", 1, episodes)
    trainings = {f"head-{i}": read_training(folder) for i, folder in enumerate(heads)}
    trainings |= {f"run-{i}": run(f"run-{i}", i, folder) for i, folder in enumerate(heads)}
    groups = {g.name: g.members for g in siblings(trainings)}
    alike = {"learned-risk x2 seeds": ("head-0", "head-1"), "ppo x2 seeds": ("run-0", "run-1")}
    assert groups == (alike if episodes == 400 else {})


def test_a_risk_folder_is_played_with_its_seed(tmp_path):
    folder = str(make_risk(tmp_path / "head", METRO))
    result = play(contestants([folder], METRO), METRO, 2, 0)
    assert as_json(result)["policies"]["head"]["training"]["seed"] == 3
    assert as_json(result)["policies"]["head"]["training"]["algorithm"] == "learned-risk"


SHIPPED = {"learned-risk", "pretrained"}  # play in every benchmark of this site


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Three seeds of one agent that ended up differently, and another agent."""
    folder = tmp_path_factory.mktemp("agents")
    seeds = [bundle(folder / f"dqn-{s}", s, placement=s % 2) for s in range(3)]
    other = bundle(folder / "longer", 0, 0, steps=9000)
    return benchmark(METRO, [*seeds, other], episodes=12, seed=3)


def training(seed: int, settings: str = "same", algorithm: str = "dqn") -> Training:
    return Training(f"runs/{seed}", algorithm, seed, settings, "ab" * 32)


def test_siblings_differ_in_their_seed_only():
    found = siblings(
        {
            "a": training(0),
            "b": training(1),
            "copy of b": training(1),  # the same training twice is one draw
            "c": training(2),
            "p": training(0, "ppo", "ppo"),
            "x": training(0, "other"),
            "y": training(5, "other"),
        }
    )
    assert [(g.name, g.members, g.seeds) for g in found] == [
        ("dqn x3 seeds", ("a", "b", "c"), (0, 1, 2)),
        ("dqn x2 seeds", ("x", "y"), (0, 5)),
    ]
    names = [
        g.name for g in siblings({n: training(s, n[0]) for n, s in zip("abAB", (0, 0, 1, 1), strict=True)})
    ]
    assert names == []
    twice = {f"{k}{s}": training(s, k) for k in "ab" for s in (0, 1)}
    assert [g.name for g in siblings(twice)] == ["dqn x2 seeds", "dqn x2 seeds (group 2)"]


def test_bundles_are_siblings_whatever_their_folders(tmp_path):
    first, second, longer, resumed = (
        read_training(tmp_path / name)
        for name, seed, about in (
            ("a", 0, {}),
            ("b", 1, {}),
            ("c", 2, {"steps": 9000}),
            ("d", 3, {"command": "carbonpilot train metro --algo dqn --steps=5000 --lr 1 --seed=3 --out=x"}),
        )
        if bundle(tmp_path / name, seed, 0, **about)
    )
    assert first.settings == second.settings
    assert (first.seed, second.seed, first.algorithm) == (0, 1, "dqn")
    assert longer.settings != first.settings
    assert resumed.settings != first.settings


@pytest.mark.parametrize(
    "command",
    [
        "carbonpilot train metro --algo dqn --steps 5000 --out elsewhere --seed 7",
        "carbonpilot train metro --algo dqn --steps 5000 --seed=7 --out='a folder' && "
        "carbonpilot train metro --algo dqn --steps 5000 --seed=7 --out='a folder' --resume",
    ],
)
def test_options_that_do_not_change_the_training_do_not_count(tmp_path, command):
    bundle(tmp_path / "a", 0, 0)
    bundle(tmp_path / "b", 7, 0, command=command)
    assert read_training(tmp_path / "a").settings == read_training(tmp_path / "b").settings


def test_runs_are_siblings_by_their_config(tmp_path):
    def run(name: str, seed: int, **config):
        zeros = np.zeros(3, dtype=np.float32)
        made = RunDir.create(
            tmp_path / name,
            {"algorithm": "ppo", "settings": {"lr": 1}, **config},
            METRO,
            seed,
            "abc",
            zeros,
            zeros,
        )
        made.save_checkpoint(100, lambda folder: (folder / "model.zip").write_bytes(name.encode()))
        return read_training(tmp_path / name)

    first, second, other = run("a", 0), run("b", 1), run("c", 2, settings={"lr": 2})
    assert first.settings == second.settings
    assert first.settings != other.settings
    assert first.sha256 != second.sha256
    assert [g.seeds for g in siblings({"a": first, "b": second, "c": other})] == [(0, 1)]


def test_the_group_is_the_mean_of_its_seeds(played):
    (group,) = played.groups
    assert (group.name, group.members, group.seeds) == (
        "dqn x3 seeds",
        ("dqn-0", "dqn-1", "dqn-2"),
        (0, 1, 2),
    )
    members = [played[name] for name in group.members]
    assert group.carbon_mg == pytest.approx(np.mean([m.carbon_mg for m in members]))
    assert group.compliance == pytest.approx(np.mean([m.compliance for m in members]))
    assert group.shares.sum(axis=0) == pytest.approx(1.0)
    pooled = np.median([m.latency_cdf_ms for m in members])
    assert np.median(group.latency_cdf_ms) == pytest.approx(pooled, rel=0.02)
    made_here = [r.name for r in played.contenders if r.name not in SHIPPED]
    assert made_here == ["dqn x3 seeds", "longer"]


def test_the_group_has_a_row_comparisons_and_a_sentence(played, tmp_path):
    document = as_json(played)
    entry = document["groups"]["dqn x3 seeds"]
    assert entry["training_seeds"] == [0, 1, 2]
    assert entry["members"] == ["dqn-0", "dqn-1", "dqn-2"]
    assert set(entry) >= set(document["policies"]["dqn-0"])
    assert {c["policy"] for c in document["comparisons"]} - SHIPPED == {
        "dqn-0",
        "dqn-1",
        "dqn-2",
        "longer",
        "dqn x3 seeds",
    }
    text = " ".join(verdict(played))
    assert "dqn x3 seeds (training seeds 0, 1 and 2): its intervals hold the noise of training." in text
    assert re.search(r"longer[^:.]*: one training seed each, so the noise of training is not covered", text)
    assert any(row[0].startswith("dqn x3 seeds") for row in rows(played, COLUMNS))
    write_report(played, tmp_path / "a.json", tmp_path / "a.html")
    assert json.loads((tmp_path / "a.json").read_text())["groups"] == document["groups"]
    assert "dqn x3 seeds" in (tmp_path / "a.html").read_text()


def test_the_interval_of_the_group_holds_that_its_seeds_differ(played):
    """Two seeds stay local, one offloads: on the tapes alone the mean of the three would look well known."""
    (group,) = played.groups
    carbon = "carbon_mg_per_request"
    both, tapes_only = played.mean(group, carbon), played.bootstrap.mean(group.metrics[carbon])
    assert both.mean == pytest.approx(tapes_only.mean)
    assert both.high - both.low > 1.5 * (tapes_only.high - tapes_only.low)


def test_without_folders_there_are_no_groups():
    assert play(contestants(["always-local", "random"], METRO), METRO, 2, 0).groups == ()
