"""Making a risk head and its price: samples, fit, search, and the policy that comes of it. On a tiny scenario."""

import json
from itertools import pairwise

import numpy as np
import pytest
from risk_builder import make_risk
from typer.testing import CliRunner

from carbonpilot.agents.policy_registry import contestant, default_policies, resolve
from carbonpilot.agents.risk import policy as learned_risk
from carbonpilot.agents.risk.blind import seen_features
from carbonpilot.agents.risk.collect import Collector, Samples, explored, joined
from carbonpilot.agents.risk.fit import fit_head, logits_of, split_tapes
from carbonpilot.agents.risk.folder import read_risk
from carbonpilot.agents.risk.policy import LearnedRisk
from carbonpilot.agents.risk.settings import FILE, load_risk_settings
from carbonpilot.agents.risk.train import run_risk_training
from carbonpilot.agents.rollout import run_policy
from carbonpilot.agents.rule_parameters import make_rule
from carbonpilot.envs import simulator as simulator_module
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, scenario_yaml
from carbonpilot.envs.simulator import Simulator

TINY = {
    "rounds": 1, "episodes": 12, "share": 0.5, "hidden": [8], "epochs": 2, "batch_size": 256, "quick_trials": 8,
    "quick_tapes": 4, "trials": 8, "search_tapes": 4, "selection_tapes": 4, "calibration_tapes": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def scenario():
    metro = load_scenario("metro")
    return metro.model_copy(update={"episode": metro.episode.model_copy(update={"requests": 60})})


@pytest.fixture(scope="module")
def site(tmp_path_factory, scenario):
    path = tmp_path_factory.mktemp("site") / "tiny.yaml"
    path.write_text(scenario_yaml(scenario))
    return str(path)


@pytest.fixture(scope="module")
def samples(scenario):
    rule = make_rule("slo-predictive-budget", scenario)
    return Collector(scenario, 0.1, 0.5).collect(rule, np.arange(40), np.random.default_rng(0))


def test_labels_are_what_the_placement_would_have_come_to(scenario):
    """A rollout that always takes placement a sees the very misses that were its labels."""
    for a in (0, 3):
        always = make_policy_always(a)
        got = Collector(scenario, 0.0, 1.0).collect(always, np.arange(5), np.random.default_rng(0))
        record = run_policy(always, scenario, np.arange(5), part="training")
        assert (got.missed[:, a].reshape(-1, 5) == record.missed).all()
        assert (got.chosen == a).all()


def make_policy_always(placement):
    class Always:
        name = "always"

        def reset(self, batch):
            pass

        def decide(self, observation, mask):
            return np.full(len(observation), placement, np.int64)

    return Always()


def test_only_training_tapes_are_ever_drawn(monkeypatch, tmp_path, site):
    """Every tape of a whole training, whoever draws it, is of the training part."""
    from carbonpilot.agents import tune_evaluate

    parts = []
    for module in (simulator_module, tune_evaluate):
        drawn = module.draw_tape
        monkeypatch.setattr(
            module,
            "draw_tape",
            lambda s, seeds, part, *rest, _drawn=drawn: parts.append(part) or _drawn(s, seeds, part, *rest),
        )
    run_risk_training(site, tmp_path / "risk", changes=TINY | {"rounds": 0})
    assert len(parts) > 5
    assert set(parts) == {"training"}


def test_the_evaluation_part_is_refused(scenario):
    with pytest.raises(InputError, match="learns from training tapes only"):
        Collector(scenario, 0.0, 1.0, part="evaluation")


@pytest.mark.parametrize(("exploration", "share"), [(-0.1, 0.5), (1.5, 0.5), (0.1, 0.0), (0.1, 2.0)])
def test_shares_that_are_none_are_refused(scenario, exploration, share):
    with pytest.raises(InputError, match="share of the requests"):
        Collector(scenario, exploration, share)


def test_exploration_takes_allowed_placements_only():
    mask = np.array([[True, False, True]] * 4000)
    got = explored(np.zeros(4000, np.int64), mask, 0.5, np.random.default_rng(1))
    assert set(got) == {0, 2}
    assert (got == 2).mean() == pytest.approx(0.25, abs=0.03)


def test_tapes_of_several_rollouts_stay_apart(samples):
    both = joined([samples, samples])
    assert both.tapes == 2 * samples.tapes
    assert len(both) == 2 * len(samples)


def test_no_tape_is_on_both_sides_of_the_split(samples):
    ours, theirs = split_tapes(samples, 0.25, np.random.default_rng(2))
    assert len(ours) + len(theirs) == len(samples)
    assert theirs.tapes == 10
    assert not np.isin(ours.tape, theirs.tape).any()


def test_a_fit_learns_what_its_features_tell_and_ignores_what_it_must_not_see(scenario):
    """One feature tells the probability; another one is its copy, but hidden."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40_000, 3)).astype(np.float32)
    x[:, 1] = x[:, 0]
    x[:, 2] = 7.0  # never moves
    p = 1 / (1 + np.exp(-(2 * x[:, 0] - 1)))
    missed = (rng.random((40_000, 2)) < np.stack([p, 0.1 + 0 * p], axis=1)).astype(bool)
    data = Samples(x, missed, np.ones_like(missed), np.zeros(len(x), np.int64), np.arange(len(x)) // 100)
    settings = load_risk_settings("x", "x", changes={"hidden": [16], "epochs": 4, "batch_size": 512})
    fit = fit_head(data, np.array([True, False, True]), settings, seed=0)
    logits = logits_of(fit.arrays, np.array([[-1, 5, 7], [0.5, -5, 7], [1.5, 0, 900]], np.float32))
    assert logits[:, 0] == pytest.approx([-3, 0, 2], abs=0.4)
    assert logits[:, 1] == pytest.approx([np.log(1 / 9)] * 3, abs=0.3)
    assert (fit.arrays["weight_0"][1:] == 0).all()
    assert fit.loss[0] < 0.9 * fit.constant_loss[0]


def test_the_same_seed_gives_the_same_head(samples, scenario):
    settings = load_risk_settings("metro", "metro", changes=TINY | {"rounds": 1})
    seen = seen_features(build_table(scenario))
    first, again, other = (fit_head(samples, seen, settings, seed).arrays for seed in (4, 4, 5))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["weight_0"] != other["weight_0"]).any()


def test_forbidden_placements_teach_nothing(samples, scenario):
    """Labels of placements that the mask forbids change no weight."""
    settings = load_risk_settings("metro", "metro", changes=TINY | {"rounds": 1})
    seen, allowed = seen_features(build_table(scenario)), samples.allowed.copy()
    allowed[::2, 2] = False
    wrong = samples.missed.copy()
    wrong[::2, 2] = ~wrong[::2, 2]
    heads = [
        fit_head(
            Samples(samples.observation, m, allowed, samples.chosen, samples.tape), seen, settings, 0
        ).arrays
        for m in (samples.missed, wrong)
    ]
    assert all((heads[0][name] == heads[1][name]).all() for name in heads[0])


def test_grids_wishes_and_the_account_of_misses_are_not_seen(scenario):
    table = build_table(scenario)
    hidden = {name for name, seen in zip(table.names, seen_features(table), strict=True) if not seen}
    assert {"wish_carbon", "progress", "slo_budget_spent", "feed_age_h", "north_carbon_g_per_kwh"} < hidden
    assert not {"uplink_rtt_ms", "north_load", "north-b0_latency_ms", "device_heat", "payload_kb"} & hidden


def test_a_whole_training_ends_in_a_policy(tmp_path, site, scenario):
    said = []
    folder = run_risk_training(site, tmp_path / "risk", seed=1, changes=TINY, say=said.append)
    assert [line.split(":")[0] for line in said] == [
        "rule slo-predictive-budget",
        "round 0",
        "round 1",
        "final price",
        "calibration error on fresh tapes",
    ]
    risk = read_risk(folder)
    assert set(risk.card.calibration) == {*risk.card.actions, "chosen"}
    stages = risk.card.training["stages"]
    emissions = risk.card.training["emissions"]
    assert emissions["energy_kwh"] > 0
    assert emissions["emissions_g"] == pytest.approx(emissions["energy_kwh"] * emissions["carbon_g_per_kwh"])
    assert emissions["country_iso_code"] == "GBR"
    assert stages[2]["samples"] > stages[1]["samples"] > 0
    assert all(stage["seconds"] >= 0 and stage["fresh_mg_per_request"] > 0 for stage in stages)
    entry = contestant(str(folder), scenario)
    assert (entry.kind, entry.folder) == ("learned", folder)
    record = run_policy(entry.policy, scenario, np.arange(6))
    assert record.valid.all()
    shielded = contestant(f"{folder}+shield", scenario)
    assert shielded.name == "risk-shielded"


def test_one_request_is_decided_as_in_a_batch(tmp_path, scenario):
    policy = LearnedRisk.load(make_risk(tmp_path / "r", scenario), scenario)
    simulator = Simulator(scenario, 30)
    observation, mask = simulator.reset(np.arange(30)), simulator.masks().copy()
    mask[::2, 1:4] = False
    together = policy.decide(observation, mask)
    alone = [policy.decide(o, m) for o, m in zip(observation, mask, strict=True)]
    assert together.tolist() == alone
    assert mask[np.arange(30), together].all()


def test_a_broken_observation_is_named(tmp_path, scenario):
    policy = LearnedRisk.load(make_risk(tmp_path / "r", scenario), scenario)
    observation = Simulator(scenario, 2).reset([1, 2])
    observation[1, build_table(scenario).index["uplink_rtt_ms"]] = np.nan
    with pytest.raises(InputError, match="expected finite features, got uplink_rtt_ms = nan"):
        policy.decide(observation, np.ones((2, 5), bool))


def test_learned_risk_by_name_needs_a_shipped_head(monkeypatch, tmp_path, scenario):
    monkeypatch.setattr(learned_risk, "SHIPPED", tmp_path)
    with pytest.raises(InputError, match="carbonpilot risk train metro --out DIR"):
        resolve("learned-risk", scenario)
    assert "learned-risk" not in default_policies(scenario)
    make_risk(tmp_path / "metro", scenario)
    assert resolve("learned-risk", scenario).name == "learned-risk"
    assert "learned-risk" in default_policies(scenario)
    assert contestant("learned-risk", scenario).kind == "learned"
    other = load_scenario("metro-b4")  # of the same family or not: other placements, so not for it
    assert "learned-risk" not in default_policies(other)


def test_a_folder_in_use_is_refused_before_anything_is_played(tmp_path, site):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        run_risk_training(site, tmp_path / "used", changes=TINY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs: must be >= 1"),
        ({"held_out": 1.0}, "held_out: must be < 1"),
        ({"epoch": 3}, "epoch: unknown key. Did you mean 'epochs'"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        load_risk_settings("metro", "metro", changes=changes)


def test_the_command_writes_a_folder(tmp_path, site):
    from carbonpilot.cli import app

    settings = tmp_path / "risk.yaml"
    default = load_risk_settings("metro", "metro").model_dump() | TINY | {"rounds": 0}
    settings.write_text(
        json.dumps({"schema": "carbonpilot/risk-train/1", "default": default, "scenarios": {}})
    )
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["risk", "train", site, "--out", str(out), "--settings", str(settings), "--episodes", "8"]
    )
    assert done.exit_code == 0, done.output
    assert "round 0: " in done.output
    assert f"wrote {out}" in done.output.replace("\n", "")
    assert read_risk(out).card.training["settings"]["episodes"] == 8


def test_the_demos_head_is_made_as_the_larger_one_but_for_what_it_explains():
    large, quick = (
        load_risk_settings("metro", "metro", FILE.with_name(n)) for n in ("risk.yaml", "risk-quick.yaml")
    )
    differs = {key for key, value in quick.model_dump().items() if value != getattr(large, key)}
    lines = FILE.with_name("risk-quick.yaml").read_text().splitlines()
    lines = [line.strip() for line in lines if not line.startswith("#")]
    explained = {
        line.partition(":")[0]
        for before, line in pairwise(lines)
        if ":" in line and ("#" in line or before.startswith("#"))
    }
    assert differs <= explained | {"search_tapes"}  # told beside `trials`
    assert quick.aim == large.aim
