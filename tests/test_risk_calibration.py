"""Reliability curves and their correction, on probabilities that are known."""

import numpy as np
import pytest

from carbonpilot.agents.risk.calibration import BINS, correction, curve, curves, sigmoid
from carbonpilot.agents.risk.collect import Samples
from carbonpilot.agents.risk.fit import rescaled


def samples(missed, allowed=None, chosen=None):
    count = len(missed)
    return Samples(
        observation=np.zeros((count, 1), np.float32),
        missed=missed,
        allowed=np.ones_like(missed) if allowed is None else allowed,
        chosen=np.zeros(count, np.int64) if chosen is None else chosen,
        tape=np.arange(count),
    )


def drawn(logits, seed=0):
    """What happens if the logits are right."""
    return np.random.default_rng(seed).random(logits.shape) < sigmoid(logits)


def test_right_probabilities_have_hardly_any_error():
    logits = np.random.default_rng(1).normal(0, 2, 200_000)
    found = curve(sigmoid(logits), drawn(logits))
    assert found.error < 0.004
    assert found.samples == 200_000
    assert found.mean_predicted == pytest.approx(found.mean_observed, abs=0.004)


def test_the_error_is_what_it_is_by_hand():
    p = np.array([0.05, 0.05, 0.05, 0.05, 0.95, 0.95])
    happened = np.array([False, False, False, True, True, False])
    found = curve(p, happened)
    assert found.count.tolist() == [4, *[0] * (BINS - 2), 2]
    assert found.error == pytest.approx((4 * 0.20 + 2 * 0.45) / 6)
    assert found.brier == pytest.approx(np.mean((p - happened) ** 2))
    bins = found.as_dict()["bins"]
    assert [b["samples"] for b in bins] == [4, 2]
    assert bins[0]["observed"] == 0.25


def test_certainty_falls_into_the_last_bin():
    assert curve(np.array([1.0, 0.0]), np.array([True, False])).count[[0, -1]].tolist() == [1, 1]


def test_overconfidence_is_found_and_corrected():
    true = np.random.default_rng(2).normal(-1, 1.5, (60_000, 2))
    missed = drawn(true, 3)
    given = (np.array([2.0, 0.5]) * true + np.array([0.7, -0.4])).astype(np.float32)
    slope, shift = correction(samples(missed), given)
    assert slope == pytest.approx([0.5, 2.0], rel=0.05)
    mended = slope * given + shift
    for i in range(2):
        before = curve(sigmoid(given[:, i]), missed[:, i]).error
        after = curve(sigmoid(mended[:, i]), missed[:, i]).error
        assert after < 0.02 < before


def test_a_placement_that_never_misses_keeps_its_logits():
    given = np.random.default_rng(4).normal(-5, 1, (500, 2)).astype(np.float32)
    missed = np.zeros((500, 2), bool)
    missed[:, 1] = True
    assert np.array(correction(samples(missed), given)).tolist() == [[1, 1], [0, 0]]


def test_a_head_that_is_nearly_always_sure_is_corrected_too():
    """Steps of Newton's method overshoot here unless they are shortened."""
    rng = np.random.default_rng(8)
    true = np.where(rng.random(20_000) < 0.5, -4.0, 4.0) + rng.normal(0, 0.5, 20_000)
    missed = drawn(true[:, None], 9)
    slope, shift = correction(samples(missed), (4 * true[:, None]).astype(np.float32))
    assert slope[0] == pytest.approx(0.25, rel=0.1)
    assert abs(shift[0]) < 0.3


def test_the_last_layer_takes_the_correction_in():
    rng = np.random.default_rng(5)
    arrays = {
        "mean": np.zeros(3, np.float32), "std": np.ones(3, np.float32),
        "weight_0": rng.normal(size=(3, 4)).astype(np.float32), "bias_0": rng.normal(size=4).astype(np.float32),
        "weight_1": rng.normal(size=(4, 2)).astype(np.float32), "bias_1": rng.normal(size=2).astype(np.float32),
    }  # fmt: skip
    from carbonpilot.agents.risk.head import RiskHead

    x = rng.normal(size=(50, 3)).astype(np.float32)
    slope, shift = np.array([0.5, 2.0]), np.array([1.0, -1.0])
    expected = slope * RiskHead(arrays).logits(x) + shift
    assert np.allclose(RiskHead(rescaled(arrays, slope, shift)).logits(x), expected, atol=1e-5)


def test_curves_leave_out_what_the_mask_forbids_and_show_the_chosen():
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 1, (1000, 2)).astype(np.float32)
    missed, allowed = drawn(logits, 7), np.ones((1000, 2), bool)
    allowed[:400, 1] = False
    chosen = np.where(allowed[:, 1], 1, 0)
    found = curves(samples(missed, allowed, chosen), logits, ["local", "edge"])
    assert [found[name].samples for name in ("local", "edge", "chosen")] == [1000, 600, 1000]
    share = np.concatenate([missed[:400, 0], missed[400:, 1]]).mean()
    assert found["chosen"].mean_observed == pytest.approx(share)
