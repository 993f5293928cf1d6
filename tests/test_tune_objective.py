"""The objective prefers compliance over carbon, smoothly, and the final choice is made at matched compliance."""

import numpy as np
import pytest

from carbonpilot.agents.tune_evaluate import Scores
from carbonpilot.agents.tune_objective import Objective
from carbonpilot.envs.errors import InputError


def scores(carbon, misses, allowed=50):
    misses = np.atleast_2d(misses).astype(float)
    carbon = np.broadcast_to(np.reshape(carbon, (-1, 1)).astype(float), misses.shape)
    return Scores(carbon, misses, np.full(misses.shape, float(allowed)))


def test_carbon_alone_counts_where_every_tape_is_kept():
    values = Objective().values(scores([0.4, 0.5], np.zeros((2, 20))))
    np.testing.assert_allclose(values, [0.4, 0.5])


def test_five_per_cent_of_carbon_buy_no_point_of_compliance():
    keeps, breaks = np.full(100, 20), np.full(100, 20)
    breaks[:5] = 80  # 95 % of the tapes: three points below the aim of the search
    values = Objective().values(scores([1.0, 0.88], [keeps, breaks]))
    assert values[0] < values[1]


def test_it_has_a_slope_where_the_share_of_tapes_has_none():
    misses = np.full((2, 40), 20)
    misses[0, :4], misses[1, :4] = 53, 56  # no tape more or less is kept
    near, far = Objective().values(scores([1.0, 1.0], misses))
    assert near < far


def test_compliance_is_the_benchmarks_own():
    at_the_line = scores([1.0], [[50, 51, 0, 50]])
    assert at_the_line.compliance == pytest.approx([0.75])


def test_the_choice_is_the_least_carbon_among_those_that_reach_the_aim():
    misses = np.full((3, 100), 10)
    misses[1, :4] = 90  # 96 % of the tapes
    misses[2, :3] = 90  # 97 %
    assert Objective(aim=0.97).best(scores([0.5, 0.3, 0.4], misses)) == 2


def test_where_none_reaches_it_the_least_objective_is_taken():
    misses = np.full((2, 100), 10)
    misses[0, :50], misses[1, :20] = 90, 90
    assert Objective().best(scores([0.3, 0.4], misses)) == 1


@pytest.mark.parametrize("aim", [0, -0.1, 1.2, float("nan")])
def test_an_aim_that_is_no_share_is_refused(aim):
    with pytest.raises(InputError, match="--aim is a share"):
        Objective(aim=aim)
