"""Random streams: right distributions (with error bars), independent sources and seeds, any batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from carbonpilot.envs.streams import Stream, episode_keys, mix64

N, B = 2000, 200
SIGMAS = 5.0  # chance of a false alarm per comparison: 6e-7


def stream(source: str = "arrivals", seeds: object = None) -> Stream:
    return Stream(episode_keys(np.arange(B) if seeds is None else seeds), source)


def assert_mean(sample: np.ndarray, expected: float, sigma: float) -> None:
    error = sigma / np.sqrt(sample.size)
    assert abs(float(sample.mean(dtype=np.float64)) - expected) < SIGMAS * error


def assert_uncorrelated(a: np.ndarray, b: np.ndarray) -> None:
    r = np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1]
    assert abs(r) < SIGMAS / np.sqrt(a.size)


def test_mix64_is_splitmix64():
    """First outputs of the reference implementation seeded with 0 (prng.di.unimi.it/splitmix64.c)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = np.arange(1, 4, dtype=np.uint64) * golden
    assert [hex(v) for v in mix64(state)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_uniform_moments_and_range():
    u = stream().uniform(N)
    assert u.dtype == np.float32
    assert u.shape == (N, B)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    assert_mean(u, 1 / 2, np.sqrt(1 / 12))
    assert_mean(u.astype(np.float64) ** 2, 1 / 3, np.sqrt(1 / 5 - 1 / 9))
    # Chi-square over 256 cells: mean 255, standard deviation sqrt(2 x 255).
    counts = np.bincount((u * 256).astype(int).ravel(), minlength=256)
    expected = u.size / 256
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - 255) < SIGMAS * np.sqrt(2 * 255)


def test_uniform_never_reaches_one_in_float32():
    largest = np.array([np.iinfo(np.uint64).max], dtype=np.uint64)
    top = (largest >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    assert top[0] == np.float32(1 - 2.0**-24) < 1.0


def test_normal_moments():
    z = stream().normal(N).astype(np.float64)
    assert np.isfinite(z).all()
    assert_mean(z, 0, 1)
    assert_mean(z**2, 1, np.sqrt(2))
    assert_mean(z**3, 0, np.sqrt(15))
    assert_mean(z**4, 3, np.sqrt(96))
    share = np.sqrt(0.158655 * (1 - 0.158655))
    assert_mean((z > 1).astype(np.float64), 0.158655, share)


@pytest.mark.parametrize("draw", ["four_normals", "cheap_normals"])
def test_normals_from_a_table_are_normal_up_to_their_cut_and_independent(draw):
    z = getattr(stream(), draw)(N)
    assert z.dtype == np.float32
    assert z.shape == ((4, N, B) if draw == "four_normals" else (N, B))
    assert 4.0 < np.abs(z).max() < 4.4  # 65,536 quantiles: nothing lies beyond 1/131,072 on each side
    z = z.astype(np.float64)
    assert_mean(z, 0, 1)
    assert_mean(z**2, 1, np.sqrt(2))
    assert_mean((z > 1).astype(np.float64), 0.158655, np.sqrt(0.158655 * (1 - 0.158655)))
    assert abs((z**4).mean() / 3 - 1) < 0.01
    for lag in range(1, 5):  # four neighbours share a word
        assert_uncorrelated(z[..., lag:, :], z[..., :-lag, :])
    assert_uncorrelated(z[..., 1:], z[..., :-1])
    for a, b in itertools.combinations(z if draw == "four_normals" else [], 2):
        assert_uncorrelated(a, b)


def test_cheap_uniforms_are_even_and_open():
    u = stream().cheap_uniforms(N)
    assert u.shape == (N, B)
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert_mean(u, 1 / 2, np.sqrt(1 / 12))
    for lag in range(1, 5):
        assert_uncorrelated(u[lag:], u[:-lag])


def test_exponential_moments():
    e = stream().exponential(N).astype(np.float64)
    assert e.min() > 0
    assert np.isfinite(e).all()
    assert_mean(e, 1, 1)
    assert_mean(e**2, 2, np.sqrt(20))
    assert_mean((e > 3).astype(np.float64), np.exp(-3), np.sqrt(np.exp(-3) * (1 - np.exp(-3))))


def test_integers_are_even_and_in_range():
    k = stream().integers(7, N)
    counts = np.bincount(k.ravel(), minlength=7)
    assert counts.size == 7
    chi2 = ((counts - k.size / 7) ** 2 / (k.size / 7)).sum()
    assert chi2 < 6 + SIGMAS * np.sqrt(12)


@pytest.mark.parametrize("draw", ["uniform", "normal", "exponential"])
def test_sources_are_independent(draw):
    """Also of names that differ in one letter, and shifted against each other."""
    names = ["link:uplink", "link:uplinl", "arrivals", "payload"]
    draws = [getattr(stream(name), draw)(N) for name in names]
    for a, b in itertools.combinations(draws, 2):
        assert_uncorrelated(a, b)
        assert_uncorrelated(a[1:], b[:-1])


def test_neighbouring_seeds_and_steps_are_independent():
    u = stream().uniform(N)
    assert_uncorrelated(u[:, 1:], u[:, :-1])
    assert_uncorrelated(u[1:], u[:-1])
    assert_uncorrelated(u[1:, 1:], u[:-1, :-1])
    assert_uncorrelated(u[:-1, 1:], u[1:, :-1])


def test_pairs_fill_the_square_evenly():
    """A correlation sees only a line; cells of (step t, step t + 1) see any other shape as well."""
    u = stream().uniform(N)
    cells = (u[1:] * 16).astype(int) * 16 + (u[:-1] * 16).astype(int)
    counts = np.bincount(cells.ravel(), minlength=256)
    chi2 = ((counts - cells.size / 256) ** 2 / (cells.size / 256)).sum()
    assert abs(chi2 - 255) < SIGMAS * np.sqrt(2 * 255)


@pytest.mark.parametrize(
    "draw",
    [("normal", 10, 4), ("four_normals", 7), ("cheap_normals", 7), ("cheap_uniforms", 7), ("integers", 9, 7)],
    ids=lambda d: d[0],
)
def test_an_episode_does_not_depend_on_its_batch(draw):
    name, *shape = draw
    seeds = [3, 1, 4, 1, 5]
    whole = getattr(stream(seeds=seeds), name)(*shape)
    assert not (whole[..., 0] == whole[..., 1]).all()
    for i, seed in enumerate(seeds):
        np.testing.assert_array_equal(getattr(stream(seeds=seed), name)(*shape)[..., 0], whole[..., i])


def test_draws_have_the_prefix_property():
    parts = stream()
    first, second = parts.words(10), parts.words(5)
    np.testing.assert_array_equal(np.concatenate([first, second]), stream().words(15))
    np.testing.assert_array_equal(stream().words(3, 5).reshape(15, B), stream().words(15))


def test_another_source_drawing_more_changes_nothing():
    quiet, busy = stream("a"), stream("b")
    busy.words(1000)
    np.testing.assert_array_equal(quiet.words(5), stream("a").words(5))
    assert (busy.words(5) != quiet.words(5)).all()


def test_seeds_give_different_keys_however_large():
    starts = (0, 2**32, 2**63)
    seeds = np.concatenate([np.arange(1000, dtype=np.uint64) + np.uint64(start) for start in starts])
    keys = episode_keys(seeds)
    assert np.unique(keys).size == seeds.size
