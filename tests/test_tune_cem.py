"""The cross-entropy method finds known optima, repeats itself and is not trapped by its first valley."""

import numpy as np
import pytest

from carbonpilot.agents.cem import Cem, CemSettings, _reflected


def minimise(objective, dimensions, rounds, seed=0, start=0.5, **settings):
    cem = Cem(np.full(dimensions, start), seed, CemSettings(**settings))
    for _ in range(rounds):
        cem.tell([objective(point) for point in cem.ask()])
    return cem


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_minimum_of_a_bowl(seed):
    target = np.random.default_rng(seed).uniform(0.05, 0.95, 12)
    cem = minimise(lambda x: ((x - target) ** 2).sum(), 12, 60, seed, generations=60)
    assert np.abs(cem.best_point - target).max() < 0.05


def test_finds_the_minimum_of_a_curved_valley():
    def rosenbrock(x):  # minimum at (0.6, 0.36) after the shift of scale below
        a, b = 2 * x[0], 4 * x[1]
        return 100 * (b - a**2) ** 2 + (1.2 - a) ** 2

    cem = minimise(rosenbrock, 2, 80, generations=40)
    assert cem.best_point == pytest.approx([0.6, 0.36], abs=0.02)


def test_finds_a_minimum_at_the_border():
    cem = minimise(lambda x: x.sum(), 6, 50, generations=50)
    assert cem.best_point.max() < 0.02


def test_restarts_leave_a_broad_valley_for_a_narrow_deeper_one():
    def two_valleys(x):
        broad = ((x - 0.25) ** 2).sum()
        narrow = 40 * ((x - 0.8) ** 2).sum() - 0.5
        return min(broad, narrow)

    stuck = minimise(two_valleys, 2, 12, start=0.2, wide=0.05, population=16, generations=1000)
    restarted = minimise(two_valleys, 2, 96, start=0.2, population=32, generations=12)
    assert stuck.best_value >= 0
    assert restarted.best_value < -0.45


def test_works_on_a_noisy_objective():
    rng = np.random.default_rng(3)
    cem = minimise(lambda x: ((x - 0.3) ** 2).sum() + rng.normal(0, 0.02), 5, 60, generations=60)
    assert np.abs(cem._mean - 0.3).max() < 0.1


def test_the_same_seed_and_values_give_the_same_path():
    first, second = (Cem(np.full(3, 0.5), 7) for _ in range(2))
    for _ in range(25):
        a, b = first.ask(), second.ask()
        np.testing.assert_array_equal(a, b)
        first.tell(a.sum(axis=1))
        second.tell(b.sum(axis=1))
    assert not np.array_equal(Cem(np.full(3, 0.5), 8).ask(), Cem(np.full(3, 0.5), 7).ask())


def test_points_stay_in_the_cube_and_the_start_is_tried():
    cem = Cem([0.0, 1.0, 0.4], 0)
    points = cem.ask()
    assert points.min() >= 0
    assert points.max() <= 1
    np.testing.assert_array_equal(points[0], [0.0, 1.0, 0.4])


def test_what_lies_outside_is_folded_back():
    np.testing.assert_allclose(_reflected(np.array([-0.2, 0.3, 1.1, 2.5])), [0.2, 0.3, 0.9, 0.5])


def test_nan_is_worst_and_wrong_numbers_of_values_are_refused():
    cem = Cem([0.5], 0, CemSettings(population=4))
    points = cem.ask()
    cem.tell([np.nan, 3.0, 1.0, np.nan])
    assert cem.best_value == 1.0
    np.testing.assert_array_equal(cem.best_point, points[2])
    cem.ask()
    with pytest.raises(ValueError, match="expected 4 values"):
        cem.tell([1.0])
