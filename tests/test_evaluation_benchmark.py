"""Playing policies on tapes: same tapes for all, names, folders, and the whole way on a small site."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents.baselines import make_policy
from carbonpilot.agents.benchmark import benchmark, play
from carbonpilot.agents.bundle_writer import write_bundle
from carbonpilot.agents.degeneracy import ScenarioCheck, check_scenario, checks_page
from carbonpilot.agents.policy import Policy
from carbonpilot.agents.policy_registry import contestants, default_policies, resolve
from carbonpilot.agents.report import as_json
from carbonpilot.agents.rollout import run_policy
from carbonpilot.envs.errors import BundleError, InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_sha256
from carbonpilot.envs.schema import Episode
from carbonpilot.envs.tape import evaluation_seeds


def short(name: str, requests: int):
    return load_scenario(name).model_copy(update={"episode": Episode(requests=requests)})


METRO = short("metro", 60)


@pytest.fixture(scope="module")
def played():
    return benchmark(METRO, episodes=12, seed=4)


def test_seeds_differ_between_benchmarks_and_grow_in_place():
    assert len(set(evaluation_seeds(0, 300)) | set(evaluation_seeds(1, 300))) == 600
    assert (evaluation_seeds(3, 10) == evaluation_seeds(3, 300)[:10]).all()


def test_every_default_policy_is_there(played):
    assert [r.name for r in played.results] == default_policies(METRO)
    assert {r.name for r in played.results if r.kind == "oracle"} == {
        "oracle-per-request",
        "oracle-warm-radio",
        "oracle-budget",
    }
    assert played.oracle.kind == "oracle"
    assert played.part == "evaluation"
    assert all(r.requests == 12 * 60 for r in played.results)


def test_json_of_a_real_run(played):
    document = as_json(played)
    shares = document["policies"]["always-local"]["placement_share"]
    assert shares[METRO.placements[0].name] == 1.0
    turns = document["policies"]["round-robin"]["placement_share"]
    assert list(turns.values()) == pytest.approx([1 / len(METRO.placements)] * len(METRO.placements))
    regret = document["policies"][document["oracle"]]["regret_mg_per_request"]
    assert regret["mean"] == 0.0
    # Both accounts are there, the attributional one holds everything that the marginal one does.
    for policy in document["policies"].values():
        marginal = policy["carbon_mg_marginal_per_request"]["mean"]
        assert policy["carbon_mg_attributional_per_request"]["mean"] >= marginal
        assert policy["carbon_mg_per_request"]["mean"] == pytest.approx(marginal)


def test_an_oracle_that_buys_no_misses_misses_no_more_than_any_static_placement(played):
    misses = {r.name: r.metrics["slo_miss_rate"].mean() for r in played.results}
    fewest = min(misses[r.name] for r in played.results if r.kind == "static")
    assert misses["oracle-warm-radio"] <= fewest
    # The budget oracle may miss on purpose, within the objective: here 3 of 60 requests.
    assert played["oracle-budget"].metrics["slo_miss_rate"].max() <= 0.05
    assert played["oracle-budget"].carbon_mg <= played["oracle-warm-radio"].carbon_mg


def test_same_benchmark_twice_is_the_same(played):
    """Whoever else plays: a policy's numbers do not depend on the field, nor on the run."""
    again = play(
        contestants(["rtt-threshold", "random", "always-local", "oracle-warm-radio"], METRO, 4), METRO, 12, 4
    )
    first, second = as_json(played)["policies"], as_json(again)["policies"]
    assert len(second) == 4
    of_the_field = {"probability_of_improvement", "oracle_gap_closed", "regret_mg_per_request"}
    for name, scores in second.items():
        for key in scores.keys() - of_the_field:
            assert scores[key] == first[name][key], (name, key)


def test_chunks_give_the_same_episodes_as_one_batch():
    seeds = evaluation_seeds(0, 7)
    for name in ("random", "rtt-threshold", "round-robin"):
        whole = run_policy(make_policy(name, METRO), METRO, seeds)
        parts = run_policy(make_policy(name, METRO), METRO, seeds, batch=3)
        np.testing.assert_array_equal(whole.placement, parts.placement)
        np.testing.assert_array_equal(whole.latency_ms, parts.latency_ms)


def test_all_policies_play_the_same_tapes_and_parts_differ():
    seeds = evaluation_seeds(0, 5)
    first = run_policy(make_policy("always-local", METRO), METRO, seeds)
    again = run_policy(make_policy("always-local", METRO), METRO, seeds)
    training = run_policy(make_policy("always-local", METRO), METRO, seeds, part="training")
    np.testing.assert_array_equal(first.latency_ms, again.latency_ms)
    assert (first.latency_ms != training.latency_ms).mean() > 0.5


def test_progress_adds_up():
    seen = []
    benchmark(METRO, episodes=3, progress=lambda name, done, total: seen.append((name, done, total)))
    assert {name for name, _, _ in seen} == set(default_policies(METRO))
    done = [d for _, d, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][2] == len(default_policies(METRO)) * 3 * 60


def test_a_single_episode_has_no_intervals():
    document = as_json(benchmark(METRO, episodes=1))
    assert document["policies"]["always-local"]["carbon_mg_per_request"]["ci95"] == [None, None]


def test_names_resolve():
    for name in [*default_policies(METRO), "oracle", "oracle-budget", "carbonedge-green-kwh"]:
        assert isinstance(resolve(name, METRO), Policy)
    assert resolve("oracle", METRO).name == "oracle-coupled"
    # A paper's scheduler plays with the paper's parameters, unless its name says that it was tuned.
    assert not resolve("carbonedge-green", METRO).tuned
    assert resolve("slo-predictive", load_scenario("metro")).tuned
    assert resolve("carbonedge-green-tuned", load_scenario("metro")).tuned
    with pytest.raises(InputError, match="no 'amp4ec-tuned' for 'ng-network'"):
        resolve("amp4ec-tuned", load_scenario("ng-network"))
    kinds = {c.name: c.kind for c in contestants(["always-local", "random", "oracle", "oracle"], METRO)}
    assert kinds == {"always-local": "static", "random": "rule", "oracle-coupled": "oracle"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("always-locl", "Did you mean 'always-local'"),
        ("rtt_threshold", "Did you mean 'rtt-threshold'"),
        ("runs/nowhere", "does not exist"),
    ],
)
def test_unknown_policies(name, message):
    with pytest.raises(InputError, match=message):
        benchmark(METRO, [name], episodes=2)


def write_linear_bundle(path, scenario, placement: int):
    """A bundle whose network has one layer and always prefers one placement."""
    table, actions = build_table(scenario), [p.name for p in scenario.placements]
    features, outputs = len(table), len(actions)
    arrays = {
        "mean": np.zeros(features, dtype=np.float32),
        "std": np.ones(features, dtype=np.float32),
        "weight_0": np.zeros((features, outputs), dtype=np.float32),
        "bias_0": np.eye(outputs, dtype=np.float32)[placement],
    }
    card = {
        "algorithm": "none",
        "output": "logits",
        "network": {"layers": [features, outputs], "activation": "tanh"},
        "observation": {"features": table.records(), "sha256": table.sha256},
        "actions": actions,
        "scenario": scenario.name,
        "scenario_family": scenario.family,
        "scenario_sha256": scenario_sha256(scenario),
        "seed": 0,
        "training": {},
        "scores": {},
    }
    return str(write_bundle(path, card, arrays, b"graph"))


def test_bundle_is_a_learned_policy_and_same_names_are_told_apart(tmp_path):
    bundles = [write_linear_bundle(tmp_path / folder / "agent", METRO, 1) for folder in ("a", "b")]
    found = contestants(["always-local", "always-edge-b0", "oracle-warm-radio", *bundles], METRO)
    assert [c.name for c in found] == [
        "always-local", "always-edge-b0", "oracle-warm-radio", "agent", bundles[1],
    ]  # fmt: skip
    result = play(found, METRO, 4, 0)
    assert [r.kind for r in result.results[3:]] == ["learned", "learned"]
    np.testing.assert_array_equal(
        result["agent"].metrics["carbon_mg_per_request"],
        result["always-edge-b0"].metrics["carbon_mg_per_request"],
    )


def test_bundle_of_another_family_is_refused(tmp_path):
    bundle = write_linear_bundle(tmp_path / "agent", load_scenario("khan-lan"), 0)
    with pytest.raises(BundleError, match="family 'khan'"):
        benchmark(METRO, [bundle], episodes=2)


def test_folder_that_is_neither_run_nor_bundle(tmp_path):
    with pytest.raises(InputError, match="neither a bundle"):
        resolve(str(tmp_path), METRO)
    file = tmp_path / "model.zip"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="is a file"):
        resolve(str(file), METRO)


def test_number_of_episodes_is_checked():
    with pytest.raises(InputError, match="at least 1"):
        benchmark(METRO, episodes=0)


def test_khan_lan_is_degenerate_and_says_so():
    """Table 2's energies on one grid: local emits least and meets the SLO (PAPERS.md, Khan (6))."""
    check = check_scenario(short("khan-lan", 100), episodes=5)
    assert check.best_static == "always-local"
    assert check.best_static_excess == pytest.approx(0.0, abs=1e-6)
    assert check.words == "nothing to win, and says so"


@pytest.mark.parametrize(
    ("compliance", "excess", "reason", "words", "passes"),
    [
        (1.0, 0.051, None, "worth learning", True),
        (1.0, None, None, "worth learning", True),
        (1.0, 0.051, "clean device", "some room, though it promises none", True),
        (1.0, 0.049, None, "DEGENERATE", False),
        (1.0, 0.049, "clean device", "nothing to win, and says so", True),
        (0.985, 0.5, None, "NOT FEASIBLE", False),
    ],
)
def test_check_verdicts(compliance, excess, reason, words, passes):
    check = ScenarioCheck(
        "site", "ab" * 32, "oracle-per-request", compliance, 0.2, 0.3, 0.9, "always-local", excess, reason
    )
    assert (check.words, check.passes) == (words, passes)
    page = checks_page([check], "carbonpilot scenarios --check site", 200, 0)
    assert words in page
    assert "    carbonpilot scenarios --check site" in page
