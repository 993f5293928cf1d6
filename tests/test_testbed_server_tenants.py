"""Other tenants of a server: what they send, and that the load probe finds it in the server's own counters."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from carbonpilot.envs.errors import CarbonPilotError, InputError
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.probes.triton_http import (
    triton_load_from_metrics,
    triton_load_from_statistics,
)
from carbonpilot.real.probes.triton_load import LoadState
from carbonpilot.real.testbed.repository.settings import MODEL_SETS
from carbonpilot.real.testbed.tenants import Tenants, TenantSettings, capacity, for_load, read_report
from carbonpilot.real.testbed.tenants_process import arrivals

FAST = MODEL_SETS["fast"]
B0, B4 = "segformer-b0-jpeg", "segformer-b4-jpeg"


def wait_for(condition, seconds: float = 20.0) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.02)


def timed(probe) -> tuple[float, float, LoadState]:
    start_s = time.monotonic()
    state = probe()
    return start_s, time.monotonic(), state


@pytest.mark.parametrize("model", [B0, B4])
def test_the_load_probe_finds_the_tenants_load(triton_loopback, tmp_path, model):
    """Of a real server: images asked for, and from them the share of the capacity in full batches."""
    full = capacity(FAST.model(model))
    probes = [
        triton_load_from_metrics(triton_loopback.metrics, {model: full}, SystemClock(), 5.0),
        triton_load_from_statistics(
            f"{triton_loopback.http}/v2/models/stats", {model: full}, SystemClock(), 5.0
        ),
    ]
    began_s = [timed(probe.probe)[:2] for probe in probes]
    settings = for_load(FAST, model, 0.4, seed=1)
    with Tenants(triton_loopback.grpc, settings, tmp_path / "report.json") as tenants:
        time.sleep(2.5)
        counts = tenants.stop()
    ended = [timed(probe.probe) for probe in probes]
    for probe in probes:
        probe.close()
    assert (counts["failed"], counts["held_back"], counts["waiting"]) == (0, 0, 0)
    assert counts["answered"] == counts["sent"] > 50
    # Every image that they sent, and the one with which they knocked, over the time between the two readings.
    asked = (counts["sent"] + 1) / full
    for (first_s, last_s), (again_s, end_s, state) in zip(began_s, ended, strict=True):
        assert state.error is None
        assert asked / (end_s - first_s) <= state.load <= asked / (again_s - last_s)
        assert state.mean_batch > 1.0
        assert B0 in (*state.uncounted, model)
    assert ended[0][2].pending == 0
    # And what they sent is what was ordered: 0.4 of the capacity, with the spread of a Poisson process.
    offered = counts["sent"] / counts["seconds"] / full
    assert abs(offered - 0.4) < 0.4 * 4 / np.sqrt(counts["sent"])


def test_our_own_requests_are_not_other_tenants_load(triton_loopback, tmp_path):
    full = capacity(FAST.model(B0))
    probe = triton_load_from_metrics(triton_loopback.metrics, {B0: full}, SystemClock(), 5.0)
    probe.probe()
    settings = TenantSettings(B0, 100.0)
    with Tenants(triton_loopback.grpc, settings, tmp_path / "report.json") as tenants:
        time.sleep(0.5)
        counts = tenants.stop()
    for _ in range(counts["sent"] + 1):
        probe.note_own(B0)
    state = probe.probe()
    probe.close()
    assert state.total_load > 0
    assert state.load == 0.0


def test_overload_queues_at_the_server_and_holds_back_at_the_tenants(triton_loopback, tmp_path):
    probe = triton_load_from_metrics(
        triton_loopback.metrics, {B4: capacity(FAST.model(B4))}, SystemClock(), 5.0
    )
    settings = for_load(FAST, B4, 5.0, most_waiting=60)
    report = tmp_path / "report.json"
    with Tenants(triton_loopback.grpc, settings, report) as tenants:
        wait_for(lambda: (probe.probe().pending or 0) > 30)
        wait_for(lambda: read_report(report).get("held_back", 0) > 0)
        counts = tenants.stop()
    wait_for(lambda: probe.probe().pending == 0)
    probe.close()
    assert counts["held_back"] > 0
    assert counts["answered"] > 0


def test_tenants_outlive_a_crash_of_the_server(triton_loopback, tmp_path):
    report = tmp_path / "report.json"
    with Tenants(triton_loopback.grpc, TenantSettings(B0, 50.0), report) as tenants:
        triton_loopback.kill()
        try:
            wait_for(lambda: read_report(report).get("failed", 0) > 0)
        finally:
            triton_loopback.restart()
        answered = read_report(report)["answered"]
        wait_for(lambda: read_report(report)["answered"] > answered)
        assert tenants.stop()["failed"] > 0


def test_without_a_server_tenants_say_so(tmp_path):
    with pytest.raises(CarbonPilotError, match=r"The tenants did not start: .*UNAVAILABLE"):
        Tenants("127.0.0.1:1", TenantSettings(B0, 10.0), tmp_path / "report.json").start()
    assert read_report(tmp_path / "report.json") == {}


@pytest.mark.parametrize(("bursts", "dispersion"), [(False, (0.7, 1.4)), (True, (5.0, 200.0))])
def test_arrivals_have_their_mean_rate_and_bursts_their_spread(bursts, dispersion):
    settings = TenantSettings(B0, 200.0, bursts=bursts, seed=4)
    times = np.array(list(itertools.takewhile(lambda t: t < 400.0, arrivals(settings))))
    assert (np.diff(times) > 0).all()
    assert len(times) / 400.0 == pytest.approx(200.0, rel=0.2 if bursts else 0.02)
    counts = np.histogram(times, np.arange(0.0, 400.5, 1.0))[0]
    low, high = dispersion
    assert low < counts.var() / counts.mean() < high  # 1 for a Poisson process


def test_arrivals_are_the_same_for_a_seed():
    one, two = (list(itertools.islice(arrivals(TenantSettings(B0, 9.0, True, seed=3)), 50)) for _ in range(2))
    assert one == two != list(itertools.islice(arrivals(TenantSettings(B0, 9.0, True, seed=5)), 50))


def test_capacity_is_the_simulators():
    # 8 images in 4 ms x (1 + 0.15 x 7) = 8.2 ms
    assert capacity(FAST.model(B0)) == pytest.approx(8 / 8.2e-3)
    assert for_load(FAST, B0, 0.5).rate_per_s == pytest.approx(4 / 8.2e-3)


def test_a_load_that_cannot_be_is_refused(tmp_path):
    graphs = FAST.with_graphs(b0=tmp_path / "graph.onnx")
    with pytest.raises(InputError, match=r"capacity is not known. Give --rate"):
        for_load(graphs, "segformer-b0-onnx-jpeg", 0.5)
    for load in (0.0, -1.0, 21.0, float("nan")):
        with pytest.raises(InputError, match="load must be above 0"):
            for_load(FAST, B0, load)
    with pytest.raises(InputError, match="Did you mean 'segformer-b0-jpeg'"):
        for_load(FAST, "segformer-b0-jpg", 0.5)
