"""The dial in the environment: what a wish is worth, positions drawn per episode, the same tapes at every position."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carbonpilot.envs  # noqa: F401 - registers the ids
from carbonpilot.envs.dial import (
    WISH_FEATURES,
    draw_wishes,
    load_dial,
    parse_wish,
    reward_weights,
    scenario_at,
)
from carbonpilot.envs.errors import InputError, ScenarioError
from carbonpilot.envs.placement_vector_env import PlacementVectorEnv
from carbonpilot.envs.scenario import load_scenario, scenario_sha256, scenario_yaml, shipped_scenarios
from carbonpilot.envs.schema import RewardWeights, Wishes
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.streams import episode_keys
from carbonpilot.real.observer.view import ViewMaker

METRO = load_scenario("metro")
positions = st.tuples(*[st.floats(0, 1)] * 3)


def short(scenario, requests=20):
    return scenario.model_copy(update={"episode": scenario.episode.model_copy(update={"requests": requests})})


@pytest.mark.parametrize("name", shipped_scenarios())
def test_at_its_own_position_a_scenarios_reward_is_the_one_it_states(name):
    scenario = load_scenario(name)
    assert scenario_at(scenario, scenario.wishes).reward == scenario.reward
    assert scenario_sha256(scenario_at(scenario, None)) == scenario_sha256(scenario)


@given(positions, positions)
def test_a_position_means_the_same_whatever_way_the_dial_was_turned(first, second):
    through = scenario_at(scenario_at(METRO, Wishes(**named(first))), Wishes(**named(second)))
    straight = scenario_at(METRO, Wishes(**named(second)))
    assert through.wishes == straight.wishes
    for key in RewardWeights.model_fields:
        assert getattr(through.reward, key) == pytest.approx(
            getattr(straight.reward, key), rel=1e-9, abs=1e-12
        )


@given(positions, positions)
def test_every_rate_of_exchange_is_monotone_in_its_wish(one, other):
    low, high = np.sort([one, other], axis=0)
    weights = reward_weights(METRO, np.array([low, high]).T)
    carbon, miss, excess, accuracy = weights
    assert (np.diff(weights) >= -1e-12).all()
    assert (weights >= 0).all()
    # What is not wished for keeps its price: each wish moves its own weight alone.
    alone = reward_weights(METRO, np.array([low, [high[0], low[1], low[2]]]).T)
    assert np.diff(alone)[1:] == pytest.approx(0)
    assert carbon[1] == pytest.approx(2.0 * 0.25 ** (1 - high[0]))
    assert miss[1] / excess[1] == pytest.approx(8.0 / 0.05)
    assert accuracy[1] == pytest.approx(2.0 * load_dial().accuracy_mg_per_miou * high[2])


def named(vector):
    return dict(zip(("carbon", "latency", "accuracy"), vector, strict=True))


def test_presets_run_from_least_carbon_to_most_service():
    presets = [parse_wish(name) for name in ("green", "balanced", "performance")]
    assert (np.diff([p.carbon for p in presets]) < 0).all()
    assert (np.diff([p.latency for p in presets]) > 0).all()
    assert (np.diff([p.accuracy for p in presets]) > 0).all()
    assert parse_wish("0.2, 1,0") == Wishes(carbon=0.2, latency=1, accuracy=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gren", "unknown preset 'gren'. Did you mean 'green'"),
        ("1,0.5", "has 2 numbers. Expected green, balanced, performance or three numbers"),
        ("1,x,0", "'x' is not a number"),
        ("1,0.5,1.01", "wish_accuracy: the dial goes from 0 to 1, got 1.01"),
        ("-0.1,0.5,1", "wish_carbon: the dial goes from 0 to 1, got -0.1"),
        ("0,nan,1", "wish_latency: the dial goes from 0 to 1, got nan"),
        ("0,1,inf", "wish_accuracy: the dial goes from 0 to 1, got inf"),
        ("", "unknown preset ''"),
    ],
)
def test_a_position_that_does_not_exist_is_refused_in_words(text, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        parse_wish(text)


def test_a_misspelt_sampling_is_refused_with_its_path(tmp_path):
    path = tmp_path / "site.yaml"
    content = scenario_yaml(scenario_at(METRO, "sampled"))
    path.write_text(content.replace("presets_share: 0.5", "preset_share: 0.5"))
    with pytest.raises(ScenarioError, match=r"wishes\.sampled\.preset_share: unknown key.*presets_share"):
        load_scenario(path)
    path.write_text(content)
    assert load_scenario(path) == scenario_at(METRO, "sampled")


@pytest.mark.parametrize("wish", ["green", "performance", "sampled", "0.3,0.9,0.2"])
def test_turning_the_dial_changes_wishes_and_reward_and_nothing_else(wish):
    own, turned = Simulator(short(METRO), 16), Simulator(short(scenario_at(METRO, wish)), 16)
    others = [i for i, name in enumerate(own.table.names) if name not in WISH_FEATURES]
    seeds, rng = np.arange(16), np.random.default_rng(0)
    a, b = own.reset(seeds), turned.reset(seeds)
    for _ in range(20):
        np.testing.assert_array_equal(a[:, others], b[:, others])
        actions = rng.integers(0, 5, 16)
        one, two = own.step(actions), turned.step(actions)
        for field in ("latency_ms", "carbon_mg", "energy_j", "missed"):
            np.testing.assert_array_equal(getattr(one.outcome, field), getattr(two.outcome, field))
        a, b = one.observation, two.observation
    assert not np.array_equal(one.reward, two.reward)


def test_each_episode_is_paid_by_its_own_wishes():
    scenario = short(scenario_at(METRO, "sampled"))
    simulator = Simulator(scenario, 64)
    observation = simulator.reset(np.arange(64))
    wishes = observation[:, [simulator.table.index[name] for name in WISH_FEATURES]].T.astype(np.float64)
    assert len(np.unique(wishes, axis=1).T) > 20
    weights = reward_weights(scenario, wishes)
    rng = np.random.default_rng(1)
    best = max(p.accuracy_miou for p in scenario.placements)
    for _ in range(20):
        result = simulator.step(rng.integers(0, 5, 64))
        o = result.outcome
        costs = np.stack(
            [
                o.carbon_mg,
                o.missed,
                np.maximum(o.latency_ms - 150, 0) / 1000,
                best - o.accuracy_miou * ~o.missed,
            ]
        )
        np.testing.assert_allclose(result.reward, -(weights * costs).sum(axis=0), rtol=1e-9)
        np.testing.assert_allclose(sum(o.reward_terms.values()), result.reward, rtol=1e-9)
        shown = result.observation[:, [simulator.table.index[name] for name in WISH_FEATURES]].T
        np.testing.assert_array_equal(shown, wishes)


def test_a_restarted_episode_brings_its_own_wishes():
    """In the vector environment single episodes restart: weights and what is shown move together."""
    scenario = short(scenario_at(METRO, "sampled"), 5)
    env = PlacementVectorEnv(3, scenario=scenario)
    single = gym.make("carbonpilot/Placement-v0", scenario=scenario).unwrapped
    a, _ = env.reset(seed=5)
    b, _ = single.reset(seed=5)
    columns = [env.table.index[name] for name in WISH_FEATURES]
    seen = {tuple(a[0, columns])}
    for n in range(18):
        np.testing.assert_array_equal(a[0], b)
        a, rewards, _, _, _ = env.step(np.full(3, n % 5))
        if n % 6 == 5:
            b, reward = single.reset()[0], 0.0
        else:
            b, reward, _, _, _ = single.step(n % 5)
        assert rewards[0] == reward
        seen.add(tuple(a[0, columns]))
    assert len(seen) > 1


def test_drawn_wishes_fill_the_cube_and_visit_the_presets():
    drawn = draw_wishes(scenario_at(METRO, "sampled"), episode_keys(np.arange(4000)))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    named_positions = [*load_dial().presets.values(), METRO.wishes]
    hits = np.array([(w.vector.astype(np.float32) == drawn.T).all(axis=1).mean() for w in named_positions])
    assert hits == pytest.approx(np.full(4, 0.125), abs=0.02)
    free = drawn[:, ~np.any([(w.vector == drawn.T).all(axis=1) for w in named_positions], axis=0)]
    assert np.histogram(free, bins=4, range=(0, 1))[0] / free.size == pytest.approx(
        np.full(4, 0.25), abs=0.02
    )
    assert draw_wishes(METRO, episode_keys([1])) is None


def test_the_device_shows_the_wishes_of_its_site():
    from carbonpilot.real.site_file import NodeLevels

    scenario = scenario_at(METRO, "performance")
    levels = {
        name: NodeLevels(node_sha256="0" * 64, load=[0.0], wait_ms=[0.0], batch=[1.0])
        for name in scenario.nodes
    }

    class Nothing:
        def features(self):
            return {}

    view = ViewMaker(scenario, levels).make(Nothing(), {}, 0.0)
    assert [view.raw[name] for name in WISH_FEATURES] == [0.0, 1.0, 1.0]
