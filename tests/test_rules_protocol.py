"""Every tunable rule: masks, batch against single on every site, parameters and their refusals."""

import numpy as np
import pytest

from carbonpilot.agents.policy import Policy
from carbonpilot.agents.rule_parameters import (
    RULE_NAMES,
    default_parameters,
    make_rule,
    tunable_rules,
    tunables_of,
    tuned_parameters,
    tuned_rules,
)
from carbonpilot.agents.tuned_file import TUNED
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, shipped_scenarios
from carbonpilot.envs.simulator import Simulator

METRO = load_scenario("metro")
OWN = [name for name in RULE_NAMES if name not in ("rtt-threshold", "cleanest-zone")]
WITHOUT_TRACES = [name for name in shipped_scenarios() if load_scenario(name).split == "seeds"]
ALL = np.ones((1, len(METRO.placements)), dtype=bool)


def observations(scenario, batch, seed=0):
    """Observations uniform over the Box (B, F)."""
    table = build_table(scenario)
    drawn = np.random.default_rng(seed).uniform(table.low, table.high, (batch, len(table)))
    return drawn.astype(np.float32)


def masks(batch, placements, seed=0):
    mask = np.random.default_rng(seed).random((batch, placements)) < 0.5
    mask[:, 0] = True
    return mask


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("site", shipped_scenarios())
def test_follows_the_protocol_and_never_breaks_the_mask_on_any_shipped_site(name, site):
    scenario = load_scenario(site)
    placements = len(scenario.placements)
    policy = make_rule(name, scenario)
    assert isinstance(policy, Policy)
    assert policy.name == name
    policy.reset(100)
    for step in range(6):
        mask = masks(100, placements, step)
        choice = policy.decide(observations(scenario, 100, step), mask)
        assert choice.shape == (100,)
        assert choice.dtype == np.int64
        assert mask[np.arange(100), choice].all()


@pytest.mark.parametrize("name", OWN)
def test_works_where_nothing_is_remote(name, tiny, tiny_scenario):
    scenario = tiny_scenario(placements=tiny["placements"][:1], nodes={"edge": None}, links={"uplink": None})
    policy = make_rule(name, scenario)
    policy.reset(3)
    allowed = np.ones((3, 1), dtype=bool)
    for step in range(3):
        np.testing.assert_array_equal(policy.decide(observations(scenario, 3, step), allowed), [0, 0, 0])


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("site", WITHOUT_TRACES)
def test_single_decisions_equal_those_of_the_batch_in_real_episodes(name, site):
    scenario, batch, steps = load_scenario(site), 4, 40
    simulator = Simulator(scenario, batch)
    together = make_rule(name, scenario)
    alone = [make_rule(name, scenario) for _ in range(batch)]
    observation = simulator.reset(np.arange(batch))
    together.reset(batch)
    for policy in alone:
        policy.reset(1)
    for _ in range(steps):
        choice = together.decide(observation, simulator.masks())
        single = [p.decide(observation[i], simulator.masks()[i]) for i, p in enumerate(alone)]
        assert all(isinstance(c, int) for c in single)
        np.testing.assert_array_equal(choice, single)
        observation = simulator.step(choice).observation


@pytest.mark.parametrize("name", OWN)
def test_parameters_by_episode_decide_as_each_alone(name):
    low, high = (
        {t.name: t.default + f * (end - t.default) for t, end in ends} for f, ends in _two_ends(name)
    )
    both = {key: np.array([low[key], high[key]]) for key in low}
    simulator = Simulator(METRO, 2)
    together = make_rule(name, METRO, both)
    alone = [make_rule(name, METRO, low), make_rule(name, METRO, high)]
    observation = simulator.reset([5, 6])
    together.reset(2)
    for policy in alone:
        policy.reset(1)
    for _ in range(150):
        choice = together.decide(observation, simulator.masks())
        assert choice.tolist() == [p.decide(observation[i], ALL[0]) for i, p in enumerate(alone)]
        observation = simulator.step(choice).observation


def _two_ends(name):
    tunables = tunables_of(name)
    yield 0.3, [(t, t.low) for t in tunables]
    yield 0.3, [(t, t.high) for t in tunables]


def test_defaults_lie_in_their_ranges_and_logarithmic_ranges_are_positive():
    for name in RULE_NAMES:
        tunables = tunables_of(name)
        assert len({t.name for t in tunables}) == len(tunables)
        for t in tunables:
            assert t.low <= t.default <= t.high
            assert t.low < t.high
            assert not t.log or t.low > 0
            assert t.meaning
        assert default_parameters(name) == {t.name: t.default for t in tunables}


def test_schedulers_of_the_papers_are_among_the_tunable_rules():
    rules = tunable_rules()
    assert {"carbonedge-green", "ng-resource-manager"} <= set(rules)
    assert set(RULE_NAMES) <= set(rules)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("slo-predictiv", None, "Unknown rule 'slo-predictiv'. Did you mean 'slo-predictive'"),
        ("slo-predictive", {"margin": 3.0}, "has no parameter 'margin'. Did you mean 'margin_ms'"),
        ("slo-predictive", {"margin_ms": 9e3}, "slo-predictive.margin_ms: must lie in -80 to 80"),
        ("slo-predictive", {"margin_ms": float("nan")}, "must lie in"),
        ("slo-predictive", {"margin_ms": "wide"}, "expected a number, got 'wide'"),
        ("bandit", {"exploration": [0.1, 9.0]}, "must lie in 0 to 3"),
        ("cleanest-zone", {"margin_ms": 3.0}, "it cannot be tuned"),
    ],
)
def test_wrong_names_and_values_are_refused_with_what_is_right(name, parameters, message):
    with pytest.raises(InputError, match=message):
        make_rule(name, METRO, parameters)


def test_without_a_tuned_file_the_defaults_are_used_and_it_says_so():
    scenario = load_scenario("ng-network")
    assert "no tuned parameters are shipped for 'ng-network'" in tuned_rules(scenario).source
    assert tuned_parameters(scenario)["bandit"] == default_parameters("bandit")


@pytest.mark.parametrize("file", sorted(TUNED.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_parameters_are_for_the_shipped_scenarios(file):
    scenario = load_scenario(file.stem)
    tuned = tuned_rules(scenario)
    assert "from" in tuned.source, tuned.source
    for name, parameters in tuned.parameters.items():
        assert set(parameters) == {t.name for t in tunables_of(name)}
        make_rule(name, scenario, parameters).reset(2)


def test_a_scenario_that_was_changed_does_not_take_the_shipped_parameters():
    changed = METRO.model_copy(update={"slo": METRO.slo.model_copy(update={"latency_ms": 120.0})})
    tuned = tuned_rules(changed)
    assert tuned.parameters == {}
    assert "defaults" in tuned.source
