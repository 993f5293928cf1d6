"""The front of a dial: same tapes at every position, what is monotone and what is not, and who is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from carbonpilot.agents import pareto as pareto_module
from carbonpilot.agents.dial_lines import PRESET_LINE, SITE, positions
from carbonpilot.agents.pareto import MISSES, Turn, front, pareto
from carbonpilot.agents.pareto_page import pareto_page
from carbonpilot.agents.pareto_report import as_json, sentences
from carbonpilot.agents.policy_registry import Contestant
from carbonpilot.agents.policy_result import CARBON, MET
from carbonpilot.agents.risk.price import Price
from carbonpilot.agents.statistics import Estimate
from carbonpilot.cli import app
from carbonpilot.envs.dial import load_dial
from carbonpilot.envs.errors import InputError

EPISODES = 24


class BlurredRisk:
    """The price with a risk that follows from the true latency, blurred: it knows the dial and has learned nothing."""

    name, knows_dial, needs_simulator = "blurred-risk", True, True

    def __init__(self, scenario):
        self.price = Price(scenario, {"shield_misses": 2.0})  # short episodes allow few misses
        self.slo_ms = scenario.slo.latency_ms

    def bind(self, simulator):
        self.simulator = simulator

    def reset(self, batch):
        self.rng = np.random.default_rng(0)

    def decide(self, observation, mask):
        latency_ms = np.stack([o.latency_ms for o in self.simulator.preview()], axis=1)
        seen = latency_ms * np.exp(0.2 * self.rng.normal(size=latency_ms.shape))
        odds = np.clip(np.log(seen / self.slo_ms) / 0.12, -8, 8).astype(np.float32)
        return np.where(mask, self.price.scores(observation, odds), np.inf).argmin(axis=1)


@pytest.fixture(scope="module")
def short():
    from carbonpilot.envs.scenario import load_scenario

    metro = load_scenario("metro")
    return metro.model_copy(update={"episode": metro.episode.model_copy(update={"requests": 200})})


@pytest.fixture(scope="module")
def drawn(short):
    return pareto(
        short, Contestant("blurred-risk", "rule", BlurredRisk(short)), points=3, episodes=EPISODES, seed=4
    )


def test_lines_run_through_the_presets_and_along_each_wish():
    presets, found = load_dial().presets, positions(5)
    along = [p.wishes for p in found if p.line == PRESET_LINE]
    assert [along[0], along[2], along[4]] == [presets["green"], presets["balanced"], presets["performance"]]
    for i, wish in enumerate(("carbon", "latency", "accuracy")):
        line = np.array([p.key for p in found if p.line == wish])
        assert line[:, i] == pytest.approx(np.linspace(0, 1, 5))
        assert (np.delete(line, i, axis=1) == 0.5).all()
    assert presets["balanced"] in [p.wishes for p in positions(4)]
    with pytest.raises(InputError, match="--points must be at least 2"):
        positions(1)


def test_every_wish_does_what_it_says_on_the_same_tapes(drawn):
    turns = {(t.line, t.metric): t for t in drawn.turns}
    assert turns["accuracy", "accuracy_miou"].change.low > 0.2
    assert turns["carbon", CARBON].change.high < -0.01
    assert turns["latency", MISSES].change.high < 0
    assert all(turn.monotone for turn in drawn.turns)
    share_of_b4 = [drawn.played[p.key].shares[2].mean() for p in drawn.line("accuracy")]
    assert (np.diff(share_of_b4) >= 0).all()
    assert share_of_b4[-1] > share_of_b4[0] + 0.05


def test_one_position_is_played_once_and_equals_the_benchmark_there(drawn, short):
    from carbonpilot.agents.rollout import run_policy
    from carbonpilot.envs.dial import scenario_at
    from carbonpilot.envs.tape import evaluation_seeds

    assert len(drawn.played) == len({p.key for p in drawn.positions}) == 3 + 3 * 2 + 1
    site = scenario_at(short, "performance")
    record = run_policy(BlurredRisk(site), site, evaluation_seeds(4, EPISODES))
    played = drawn.played[(0.0, 1.0, 1.0)]
    assert record.carbon_mg.mean() == pytest.approx(played.carbon_mg)
    assert record.accuracy_miou.mean() == pytest.approx(played.metrics["accuracy_miou"].mean())


def test_what_does_not_know_the_dial_stands_beside_it(drawn):
    names = {r.name for r in drawn.others}
    assert {"always-local", "always-edge-b4", "slo-predictive-budget", "cleanest-zone"} <= names
    assert not any(name.startswith(("oracle", "carbonedge")) for name in names)
    assert [p.line for p in drawn.positions].count(SITE) == 1


def test_json_and_page_hold_every_position_with_intervals(drawn):
    content = json.loads(json.dumps(as_json(drawn)))
    assert content["schema"] == "carbonpilot/pareto/1"
    assert content["monotone"] is True
    assert len(content["positions"]) == len(drawn.positions)
    first = content["positions"][0]
    assert first["name"] == "green"
    assert first["wishes"] == {"wish_carbon": 1.0, "wish_latency": 0.0, "wish_accuracy": 0.0}
    for metric in (CARBON, "latency_p95_ms", MISSES, "accuracy_miou", MET):
        low, high = first[metric]["ci95"]
        assert low <= first[metric]["mean"] <= high
    assert sum(share["mean"] for share in first["placement_share"].values()) == pytest.approx(1)
    page = pareto_page(drawn)
    for word in ("performance", "always-edge-b4", "CO2 against accuracy", "wish for latency"):
        assert word in page
    assert "<script" not in page
    assert "nan" not in page


def test_a_dial_against_the_wish_is_called_so():
    clear, noise = Estimate(0.02, 0.01, 0.03), Estimate(0.02, -0.01, 0.05)
    down = Turn("carbon", CARBON, -1, Estimate(-0.1, -0.2, -0.05), (clear, Estimate(-0.12, -0.2, -0.1)))
    assert not down.monotone
    assert Turn("carbon", CARBON, -1, down.change, (noise,)).monotone
    assert Turn("accuracy", "accuracy_miou", +1, clear, (clear,)).monotone
    assert not Turn(
        "accuracy", "accuracy_miou", +1, clear, (Estimate(-0.02),)
    ).monotone  # one tape: no noise known


def test_a_position_that_breaks_the_objective_is_named(drawn):
    hopeless = dict(drawn.played)
    worst = hopeless[(1.0, 0.0, 0.0)]
    metrics = {**worst.metrics, MET: np.zeros(EPISODES)}
    hopeless[(1.0, 0.0, 0.0)] = replace(worst, metrics=metrics)
    broken = type(drawn)(
        **{**{k: v for k, v in drawn.__dict__.items() if k in drawn.__dataclass_fields__}, "played": hopeless}
    )
    assert not broken.holds
    assert (
        "at 1 of 10 positions, least often (0 %) at green (carbon 1, latency 0, accuracy 0)"
        in sentences(broken)[0]
    )


def test_the_front_holds_who_is_beaten_by_nobody(drawn):
    kept = front([*drawn.played.values(), *drawn.others])
    assert kept
    carbon = [r.carbon_mg for r in kept]
    accuracy = [r.metrics["accuracy_miou"].mean() for r in kept]
    assert (np.diff(carbon) >= 0).all()
    assert (np.diff(accuracy) > 0).all()
    assert all(r.complies for r in kept)


def test_a_rule_has_no_dial(short):
    with pytest.raises(InputError, match=r"'slo-predictive' does not know the dial.*--wish sampled"):
        pareto(short, "slo-predictive", points=2, episodes=2)


def test_command_writes_everything_and_answers_with_its_exit_code(shortened, tmp_path, monkeypatch):
    path, scenario = shortened("metro", 60)
    entry = Contestant("blurred-risk", "rule", BlurredRisk(scenario))
    monkeypatch.setattr(pareto_module, "contestant", lambda *_: entry)
    files = [tmp_path / name for name in ("a.json", "a.html", "a.png")]
    call = ["pareto", str(path), "--policy", "blurred-risk", "--points", "2", "--episodes", "6"]
    call += ["--json", str(files[0]), "--html", str(files[1]), "--plot", str(files[2])]
    answer = CliRunner().invoke(app, call)
    assert answer.exit_code == 0, answer.output
    assert all(file.stat().st_size > 1000 for file in files)
    assert "performance" in answer.output
    assert "As the wish for accuracy rises, mIoU changes by" in answer.output
    holds = json.loads(files[0].read_text())
    checked = CliRunner().invoke(app, [*call[:8], "--check"])
    assert checked.exit_code == (0 if holds["objective_holds"] and holds["monotone"] else 1)
