"""Episodes of a training batch are spread over their length, and only whole ones count."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.envs.sb3_vec_env import make_sb3_env

REQUESTS, ENVS = 40, 10


@pytest.fixture(scope="module")
def site(lab, tmp_path_factory):
    return lab.site(tmp_path_factory.mktemp("site"))


def play(site, phases, steps):
    """The steps (N, B) at which episodes were over, and the infos of each step."""
    env = make_sb3_env(site, ENVS, seed=0, phases=phases)
    progress = env.simulator.table.index["progress"]
    env.reset()
    over, infos, seen = [], [], []
    for _ in range(steps):
        observation, _, done, info = env.step(np.zeros(ENVS, dtype=np.int64))
        over.append(done.copy())
        infos.append(info)
        seen.append(observation[:, progress].copy())
    return np.array(over), infos, np.array(seen)


def test_all_together_without_phases(site):
    over, infos, _ = play(site, 1, 2 * REQUESTS)
    assert np.flatnonzero(over.any(axis=1)).tolist() == [REQUESTS - 1, 2 * REQUESTS - 1]
    assert over[REQUESTS - 1].all()
    assert all("episode_metrics" in info for info in infos[REQUESTS - 1])


def test_phases_are_spread_evenly_and_stay_so(site):
    over, _, progress = play(site, 5, 4 * REQUESTS)
    # One group of two after each eighth request; the first group has its whole length.
    expected = [REQUESTS * j // 5 - 1 for j in range(1, 21)]
    assert np.flatnonzero(over.any(axis=1)).tolist() == expected
    assert (over[expected].sum(axis=1) == ENVS / 5).all()
    later = progress[2 * REQUESTS :]
    assert later.mean(axis=1).std() < 0.1, "the mean progress of a batch hardly moves"
    assert len(np.unique(later[0].round(3))) == 5


def test_what_was_cut_off_has_no_metrics_but_a_last_observation(site):
    over, infos, _ = play(site, 5, 3 * REQUESTS)
    for step in np.flatnonzero(over.any(axis=1)):
        for i in np.flatnonzero(over[step]):
            info = infos[step][i]
            assert info["TimeLimit.truncated"]
            assert np.isfinite(info["terminal_observation"]).all()
            whole = step >= REQUESTS - 1
            assert ("episode_metrics" in info) == ("episode" in info) == whole
            if whole:
                assert info["episode_metrics"]["requests"] == REQUESTS


def test_a_reset_spreads_them_anew(site):
    env = make_sb3_env(site, ENVS, seed=0, phases=5)
    for _ in range(2):
        env.reset()
        done = [env.step(np.zeros(ENVS, dtype=np.int64))[2].sum() for _ in range(REQUESTS)]
        assert np.flatnonzero(done).tolist() == [REQUESTS * j // 5 - 1 for j in range(1, 6)]
