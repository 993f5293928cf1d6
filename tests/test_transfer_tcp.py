"""The round-level TCP simulator against what the protocols' papers say in closed form."""

import numpy as np
import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.transfer.connection import MSS_BYTES, WIRE_BYTES
from carbonpilot.envs.transfer.tcp import simulate_uploads

CONTROLS = ["cubic", "bbr"]


@pytest.mark.parametrize("control", CONTROLS)
def test_same_seed_same_uploads_other_seed_other(control):
    args = (control, 50.0, 5.0, 0.01, 50.0, 60_000, 10)
    first, again = (simulate_uploads(*args, connections=8, seed=7) for _ in range(2))
    other = simulate_uploads(*args, connections=8, seed=8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("control", CONTROLS)
def test_small_upload_without_loss_takes_one_rtt_and_its_bytes(control):
    took = simulate_uploads(control, 40.0, 0.0, 0.0, 100.0, 10 * MSS_BYTES, 30, connections=3)[5:]
    wire_ms = 10 * WIRE_BYTES * 8 / 100e6 * 1000
    assert np.all(took >= 40.0 + wire_ms - 1e-9)
    # BBR paces even small bursts (Startup: 2.89 of the estimate); CUBIC does not.
    assert np.all(took <= 40.0 + wire_ms + (1e-9 if control == "cubic" else 0.6 * 40.0))


def test_cubic_slow_start_doubles_its_window():
    took = simulate_uploads("cubic", 100.0, 0.0, 0.0, 1e5, 70 * MSS_BYTES, 1, connections=2)
    # 10 + 20 + 40 segments fill three rounds (RFC 6928's initial window).
    assert np.allclose(took, 300.0, atol=2.0)


@pytest.mark.parametrize("control", CONTROLS)
def test_long_upload_is_rate_limited(control):
    took = simulate_uploads(control, 20.0, 0.0, 0.0, 10.0, 2_000_000, 6, connections=2)[3:]
    wire_ms = np.ceil(2_000_000 / MSS_BYTES) * WIRE_BYTES * 8 / 10e6 * 1000
    assert np.all(np.abs(took / (wire_ms + 20.0) - 1.0) < 0.05)


def test_cubic_throughput_follows_the_square_root_law():
    # AIMD response: W = sqrt(alpha (1 + beta) / (2 (1 - beta) p)) with CUBIC's alpha and beta (RFC 9438).
    loss, rtt_ms, segments = 0.01, 50.0, 2000
    took = simulate_uploads(
        "cubic", rtt_ms, 0.0, loss, 1000.0, segments * MSS_BYTES, 3, connections=24, seed=2
    )[1:]
    window = segments * rtt_ms / np.median(took)
    expected = np.sqrt(3 * 0.3 / 1.7 * 1.7 / (0.6 * loss))
    assert 0.75 * expected < window < 1.4 * expected


def test_a_lost_single_segment_waits_for_the_timer():
    took = simulate_uploads("cubic", 40.0, 0.0, 0.3, 100.0, 1000, 300, connections=8, seed=3)
    first_try = took < 50.0
    assert abs(first_try.mean() - 0.7) < 0.05
    assert took[~first_try].min() > 240.0  # 200 ms and more (Linux TCP_RTO_MIN) on top of the round trip


def test_bbr_connections_on_a_lossy_path_differ_more_between_than_within():
    took = simulate_uploads("bbr", 60.0, 20.0, 0.01, 50.0, 300_000, 40, connections=60, seed=4)[3:]
    medians = np.median(took, axis=0)
    assert np.percentile(medians, 95) > 2.0 * np.percentile(medians, 5)


def test_one_megabyte_in_119_ms_is_out_of_reach():
    # Khan et al., Table 1, Emu-B: 60 +- 20 ms, 1 % loss, about 1 MB an image, p50 119 ms.
    for control in CONTROLS:
        took = simulate_uploads(control, 60.0, 20.0, 0.01, 50.0, 1_000_000, 12, connections=20)[3:]
        assert np.percentile(took, 1) > 119.0


@pytest.mark.parametrize("control", CONTROLS)
def test_more_loss_is_never_faster_on_average(control):
    means = [
        simulate_uploads(control, 50.0, 5.0, loss, 50.0, 60_000, 40, connections=40, seed=5).mean()
        for loss in (0.0, 0.003, 0.01, 0.03)
    ]
    assert means == sorted(means)


def test_unknown_control_names_the_known_ones():
    with pytest.raises(InputError, match="cubic"):
        simulate_uploads("reno", 50.0, 5.0, 0.0, 50.0, 60_000, 1)
