"""Agents over risk heads in a sweep: heads are made first, a seed each, or lie in folders; they have rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from risk_builder import make_risk

from carbonpilot.agents.policy_result import CARBON
from carbonpilot.agents.risk.settings import load_risk_settings
from carbonpilot.agents.sweep import field as field_module
from carbonpilot.agents.sweep.folder import SweepFolder
from carbonpilot.agents.sweep.process import Ended
from carbonpilot.agents.sweep.report import sweep_report
from carbonpilot.agents.sweep.report_heads import difference
from carbonpilot.agents.sweep.run import Sweep
from carbonpilot.agents.sweep.spec import read_spec
from carbonpilot.agents.sweep.table import as_plain, markdown
from carbonpilot.agents.sweep.trial import expand
from carbonpilot.agents.training_config import CONFIGS
from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.envs.files import write_json
from carbonpilot.envs.scenario import load_scenario

PPO = {"algo": "ppo", "steps": 8192}


@pytest.fixture
def trials(tmp_path):
    """A function: the trials of a sweep of these agents."""

    def build(agents, scenarios=("metro",), seeds=(0, 1), **more):
        content = {"schema": "carbonpilot/sweep/1", "scenarios": list(scenarios), "seeds": list(seeds)}
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump({**content, "agents": agents, **more}, sort_keys=False))
        return expand(read_spec(file), tmp_path)

    return build


def test_heads_are_made_first_one_for_each_seed_and_scenario(trials):
    agents = {
        "ppo": PPO,
        "over": {**PPO, "risk": "train"},
        "grid": {**PPO, "risk": "train", "grid": {"gamma": [0.5]}},
    }
    found = trials(agents, ["metro", "khan-mixed"])
    assert [t.name for t in found[:8]] == [
        "metro-ppo-0", "metro-learned-risk-0", "metro-over-0", "metro-grid-gamma-0.5-0",
        "khan-mixed-ppo-0", "khan-mixed-learned-risk-0", "khan-mixed-over-0", "khan-mixed-grid-gamma-0.5-0",
    ]  # fmt: skip
    needs = {t.name: t.needs for t in found}
    assert needs["metro-over-1"] == needs["metro-grid-gamma-0.5-1"] == "metro-learned-risk-1"
    assert needs["metro-ppo-0"] is needs["metro-learned-risk-0"] is None


def test_command_lines_of_a_head_and_of_the_training_over_it(trials, tmp_path):
    heads = {"settings": {"episodes": 77, "hidden": [16]}}
    head, over = trials({"over": {**PPO, "risk": "train"}}, seeds=[4], heads=heads)
    folder = SweepFolder(tmp_path / "out")
    folder.add([head, over])
    words = folder.words(head)
    made = tmp_path / "out" / "heads" / head.name
    assert words[:5] == ("risk", "train", "metro", "--seed", "4")
    assert words[-2:] == ("--out", str(made))
    settings = load_risk_settings("metro", "metro", words[words.index("--settings") + 1])
    assert (settings.episodes, settings.hidden) == (77, [16])
    assert settings.epochs == load_risk_settings("metro", "metro").epochs
    words = folder.words(over)
    assert words[words.index("--risk") + 1] == str(made)
    assert words[words.index("--out") + 1] == str(tmp_path / "out" / "runs" / over.name)

    SweepFolder(folder.path).add([head, over])
    other = trials({"over": {**PPO, "risk": "train"}}, seeds=[4], heads={"settings": {"episodes": 78}})
    with pytest.raises(
        InputError, match="holds other settings than the sweep now asks for of agent 'learned-risk'"
    ):
        SweepFolder(folder.path).add(other)
    without = trials({"over": PPO}, seeds=[4])
    with pytest.raises(InputError, match="risk: 'metro-learned-risk-4' before, now None"):
        SweepFolder(folder.path).add(without)


def test_heads_that_lie_in_folders(trials, tmp_path):
    site = load_scenario("metro")
    for seed in (0, 1):
        make_risk(tmp_path / "mine" / f"metro-{seed}", site, seed=seed)
    found = trials(
        {"own": {**PPO, "risk": "mine/{scenario}-{seed}"}, "shared": {**PPO, "risk": "mine/metro-0"}}
    )
    assert [t.plan.risk.name for t in found] == ["metro-0", "metro-0", "metro-1", "metro-0"]
    folder = SweepFolder(tmp_path / "out")
    folder.add(found)
    words = folder.words(found[2])
    assert words[words.index("--risk") + 1] == str(tmp_path / "mine" / "metro-1")
    with pytest.raises(InputError, match=r"Agent 'own' of the sweep: .*metro-2 is not a risk folder"):
        trials({"own": {**PPO, "risk": "mine/metro-{seed}"}}, seeds=[0, 2])
    with pytest.raises(InputError, match=r"Agent 'own' of the sweep: .*'khan-mixed' of family 'khan'"):
        trials({"own": {**PPO, "risk": "mine/metro-{seed}"}}, ["khan-mixed"])


def test_a_sweep_may_teach_only(trials):
    taught = {"algo": "ppo", "steps": 0, "risk": "train", "file": str(CONFIGS / "ppo-risk-taught.yaml")}
    head, over = trials({"taught": taught}, seeds=[0])
    assert over.plan.steps == 0
    assert over.needs == head.name
    with pytest.raises(InputError, match=r"Agent 'a' of the sweep: --steps 0 hands out what was taught"):
        trials({"a": {"algo": "ppo", "steps": 0}})


@pytest.mark.parametrize(
    ("agent", "more", "message"),
    [
        ({"risk": "train", "algo": "recurrent-ppo"}, {}, r"Agent 'a'.*can have no memory"),
        ({"risk": "train", "settings": {"stack": 2}}, {}, r"Agent 'a'.*can have no memory"),
        ({}, {"heads": {"settings": {}}}, r"heads: no agent has `risk: train`"),
        (
            {"risk": "train"},
            {"heads": {"settings": {"episods": 4}}},
            r"Risk heads.*episods: unknown key.*'episodes'",
        ),
        ({"risk": "train"}, {"heads": {"settings": {"share": 2}}}, r"Risk heads.*share: must be <= 1"),
        ({"risk": "train"}, {"scenarios": ["metro-heldout"]}, r"held out for evaluation"),
        ({"options": {"risk": "mine"}}, {}, "or the sweep gives it itself"),
        ({"risk": "trian"}, {}, "trian is not a risk folder"),
    ],
)
def test_mistakes_are_named_before_anything_starts(trials, agent, more, message):
    with pytest.raises(InputError, match=message):
        trials({"a": {**PPO, **agent}}, **more)


class Scripted:
    """An engine whose trials end at once: with the exit code that is written for them, or finished."""

    def __init__(self, folder, codes=None, jobs=2):
        self.folder, self.codes, self.jobs = folder, codes or {}, jobs
        self.on_their_way, self.started, self.together = [], [], []

    @property
    def running(self):
        return len(self.on_their_way)

    def start(self, trial):
        self.on_their_way.append(trial)
        self.started.append(trial.name)

    def wait(self):
        self.together.append([t.name for t in self.on_their_way])
        trial = self.on_their_way.pop(0)
        code = self.codes.get(trial.name, 0)
        out = self.folder.run(trial.name)
        if code == 0:
            out.mkdir(parents=True)
            file = "price.json" if self.folder.is_head(trial.name) else "progress.json"
            write_json(out / file, {"status": "finished", "steps": trial.steps})
        return [Ended(trial.name, code)]

    def stop(self):
        pass

    def close(self):
        pass


def play(folder, found, engine):
    said = []
    try:
        Sweep(folder, found, engine, said.append, lambda *_: None).run()
    except CarbonPilotError as error:
        return said, str(error)
    return said, ""


def test_a_training_waits_for_its_head_and_others_go_first(trials, tmp_path):
    found = trials({"over": {**PPO, "risk": "train"}})
    folder = SweepFolder(tmp_path / "out")
    folder.add(found)
    engine = Scripted(folder)
    _, error = play(folder, found, engine)
    assert error == ""
    assert engine.together[0] == ["metro-learned-risk-0", "metro-learned-risk-1"], "no processor waits"
    for seed in (0, 1):
        head, over = f"metro-learned-risk-{seed}", f"metro-over-{seed}"
        assert engine.started.index(head) < engine.started.index(over)
        assert not any(head in names and over in names for names in engine.together)
    _, error = play(SweepFolder(folder.path), found, again := Scripted(folder))
    assert (error, again.started) == ("", [])


def test_a_head_that_fails_takes_its_trainings_with_it_and_no_others(trials, tmp_path):
    found = trials({"ppo": PPO, "over": {**PPO, "risk": "train"}})
    folder = SweepFolder(tmp_path / "out")
    folder.add(found)
    engine = Scripted(folder, {"metro-learned-risk-0": 1})
    _, error = play(folder, found, engine)
    assert "2 of 6 trials failed, 4 are finished" in error
    assert "metro-over-0: its risk head metro-learned-risk-0 was not made" in error
    assert "metro-over-0" not in engine.started
    state = json.loads((folder.path / "sweep.json").read_text())["trials"]
    assert {name for name, record in state.items() if record["status"] == "failed"} == {
        "metro-learned-risk-0", "metro-over-0",
    }  # fmt: skip
    _, error = play(SweepFolder(folder.path), found, again := Scripted(folder))
    assert error == ""
    assert again.started == ["metro-learned-risk-0", "metro-over-0"]


@pytest.fixture(scope="module")
def swept(lab, tmp_path_factory):
    """Two seeds of an agent over heads of their own, and two of one over a head that they share."""
    here = tmp_path_factory.mktemp("swept")
    site = load_scenario(lab.site(here))
    for seed in (0, 1):
        make_risk(here / f"head-{seed}", site, seed=seed)
    small = {"algo": "ppo", "steps": lab.rollout, "settings": lab.small_ppo}
    agents = {"own": {**small, "risk": "head-{seed}"}, "shared": {**small, "risk": "head-1"}}
    content = {
        "schema": "carbonpilot/sweep/1",
        "scenarios": ["short-site.yaml"],
        "seeds": [0, 1],
        "agents": agents,
    }
    (here / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    found = expand(read_spec(here / "sweep.yaml"), here)
    folder = SweepFolder(here / "out")
    folder.add(found)
    for trial in found:
        plan = trial.plan
        lab.train(
            here / "short-site.yaml", folder.run(trial.name), lab.rollout, seed=plan.seed, risk=plan.risk
        )
    return folder.path


def test_the_heads_under_the_agents_have_rows_of_their_own(swept):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            field_module, "field_names", lambda *_: ["always-local", "cleanest-zone", "oracle-per-request"]
        )
        (report,) = sweep_report(swept, 4, 0)
    result = report.field.result
    group = result["learned-risk (2 training seeds)"]
    assert group.seeds == (0, 1)
    members = [result[f"short-site-learned-risk-{seed}"].metrics[CARBON] for seed in (0, 1)]
    np.testing.assert_allclose(group.metrics[CARBON], np.mean(members, axis=0))
    assert not np.array_equal(*members)
    single = result["short-site-learned-risk-under-shared-0"]
    np.testing.assert_array_equal(single.metrics[CARBON], members[1])
    names = [policy.name for policy in report.rows()]
    assert names.count(group.name) == names.count(single.name) == 1
    assert {group.name, single.name} <= report.field.shielded.keys()
    assert report.rule is None or "risk" not in report.rule.name
    notes = "\n".join(report.notes)
    assert (
        "own (2 training seeds) against the risk heads under it (learned-risk (2 training seeds)), paired by"
        in notes
    )
    assert (
        "shared (2 training seeds) against the risk heads under it (short-site-learned-risk-under-shared-0), "
        in notes
    )
    assert "TOO FEW SEEDS: learned-risk under shared has 1 training seed" in notes
    assert "There is no learned-risk" not in notes
    assert "| **learned-risk (2 training seeds)" in markdown([report])
    plain = as_plain([report])["sites"]["short-site"]
    assert plain["agents"][group.name]["seeds"] == [0, 1]
    assert plain["over_risk_heads"]["own (2 training seeds)"]["heads"] == group.name
    own = result["own (2 training seeds)"]
    found = difference(result, own, group, (0, 1), CARBON, share=True)
    assert plain["over_risk_heads"][own.name]["relative_carbon"]["mean"] == pytest.approx(found.mean)
    assert found.mean == pytest.approx(own.metrics[CARBON].mean() / group.metrics[CARBON].mean() - 1)
    alone = difference(result, result["short-site-own-1"], group, (1,), CARBON, share=True)
    theirs = result["short-site-learned-risk-1"].metrics[CARBON].mean()
    assert alone.mean == pytest.approx(result["short-site-own-1"].metrics[CARBON].mean() / theirs - 1)
    spread = result.difference(own, group, CARBON)
    paired = difference(result, own, group, (0, 1), CARBON)
    assert paired.high - paired.low < spread.high - spread.low, (
        "what differs between heads is no noise of the RL"
    )
