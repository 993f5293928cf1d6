"""What verify makes of a link from a probe a second and the calibration."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.real.verify.conditions import Condition
from carbonpilot.real.verify.link_truth import link_truth
from carbonpilot.real.verify.world import LinkSeries

RTT_MS, JITTER_MS = 30.0, 10.0


@pytest.fixture
def link(tiny_scenario):
    phase = {"rtt_ms": RTT_MS, "jitter_ms": JITTER_MS, "loss_pct": 0.25, "rate_mbps": 90}
    return tiny_scenario(links={"uplink": {"source": {"kind": "phases", "phases": [phase]}}}).links["uplink"]


def truth_of(link, rtt_ms):
    """Truth of one stretch of probes (S,)."""
    unknown, never = np.full(rtt_ms.size, np.nan), np.zeros(rtt_ms.size, dtype=bool)
    series = LinkSeries(rtt_ms=rtt_ms, loss=unknown, rate_mbps=unknown, blocked=never)
    stretch = Condition(0, rtt_ms.size, {"uplink": float(np.median(rtt_ms))})
    return link_truth("uplink", link, series, [stretch], "log")


def probes(seconds, seed, mean_ms=RTT_MS):
    return mean_ms + JITTER_MS * np.random.default_rng(seed).standard_normal(seconds)


def test_the_level_is_the_probes(link):
    for seen in (probes(1200, 1, mean_ms=32.5), probes(8, 2)):
        assert truth_of(link, seen).rtt_ms.mean() == pytest.approx(seen.mean(), abs=0.2)


def test_a_link_that_wanders_is_followed_by_second(link):
    slow = 2.9 * np.sin(np.arange(600) / 60.0)
    truth = truth_of(link, 3.0 * slow + probes(600, 2))
    assert np.corrcoef(truth.rtt_ms, slow)[0, 1] > 0.85
    assert truth.rtt_ms.std() == pytest.approx(3.0 * slow.std(), rel=0.2)


def test_a_steady_link_does_not_wander(link):
    """Moving means of jitter scatter by 3 ms themselves; the tape draws the jitter once more."""
    assert truth_of(link, probes(600, 3)).rtt_ms.std() < 1.0


def test_another_link_is_as_probed(link):
    seen = probes(60, 4, mean_ms=90.0)
    unknown = np.full(60, 50.0)
    series = LinkSeries(rtt_ms=seen, loss=unknown / 1e4, rate_mbps=unknown, blocked=np.zeros(60, dtype=bool))
    truth = link_truth("uplink", link, series, [Condition(0, 60, {"uplink": 90.0})], "log")
    assert truth.basis == ["as recorded"]
    assert truth.rtt_ms.mean() == pytest.approx(seen.mean(), abs=0.7)
