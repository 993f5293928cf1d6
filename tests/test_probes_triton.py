"""Load from Triton's counters: recorded pages, restarts, what is missing, servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.envs.node_bank import capacity_per_ms
from carbonpilot.envs.schema import Batching
from carbonpilot.real.clock import ManualClock, SystemClock
from carbonpilot.real.probes.failure import ProbeFailure
from carbonpilot.real.probes.loop import ProbeLoop
from carbonpilot.real.probes.triton_counters import (
    ModelCounters,
    ServerCounters,
    capacity_per_s,
    parse_metrics,
    parse_statistics,
)
from carbonpilot.real.probes.triton_http import (
    HttpPage,
    triton_load_from_metrics,
    triton_load_from_statistics,
)
from carbonpilot.real.probes.triton_load import TritonLoad

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)

# The form of tritonserver's page: names, labels, HELP and TYPE lines; two versions of one model, one GPU.
PAGE = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="b0",version="1"} 100
nv_inference_request_success{model="b0",version="2"} 20
nv_inference_request_success{model="b4",version="1"} 7
# HELP nv_inference_request_failure Number of failed inference requests, all batch sizes
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="b0",reason="REJECTED",version="1"} 3
nv_inference_request_failure{model="b0",reason="CANCELED",version="1"} 2
# TYPE nv_inference_count counter
nv_inference_count{model="b0",version="1"} 130
nv_inference_count{model="b0",version="2"} 20
nv_inference_count{model="b4",version="1"} 7
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model="b0",version="1"} 40
nv_inference_exec_count{model="b0",version="2"} 10
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="b0",version="1"} 250000
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{model="b0",version="1"} 1.5e+06
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="b0",version="1"} 4
# TYPE nv_inference_request_summary_us summary
nv_inference_request_summary_us{model="b0",version="1",quantile="0.5"} nan
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.02
"""
GPU = """\
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-2"} 0.25
nv_gpu_power_usage{gpu_uuid="GPU-1"} 120.5
nv_energy_consumption{gpu_uuid="GPU-1"} 98765.4
nv_energy_consumption{gpu_uuid="GPU-2"} 1.6
"""


class Readings:
    """A server whose readings a test sets, one model 'b0' of 100 images a second."""

    def __init__(self, **options):
        self.clock, self.next = ManualClock(NOON), None
        self.load = TritonLoad(self._fetch, {"b0": 100.0}, self.clock, **options)

    def _fetch(self):
        if isinstance(self.next, Exception):
            raise self.next
        return ServerCounters({"b0": self.next})

    def read(self, after_s=1.0, **counters):
        self.clock.advance(after_s)
        self.next = ModelCounters(**counters)
        return self.load.probe()

    def fail(self):
        self.clock.advance(1)
        self.next = ProbeFailure("silent")
        return self.load.probe()


# -- parsers --------------------------------------------------------------------------------------------


def test_a_page_of_a_server_without_gpu():
    counters = parse_metrics(PAGE)
    assert counters.models["b0"] == ModelCounters(120, 5, 150, 50, 250_000, 1.5e6, 4)
    assert counters.models["b4"] == ModelCounters(success=7, images=7)  # what is missing is None, not 0
    assert (counters.gpu_utilisation, counters.gpu_power_w, counters.gpu_energy_j) == (None, None, None)


def test_gpu_figures_where_there_are_some():
    counters = parse_metrics(PAGE + GPU)
    assert counters.gpu_utilisation == pytest.approx(0.375)
    assert counters.gpu_power_w == pytest.approx(120.5)
    assert counters.gpu_energy_j == pytest.approx(98767)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("", "no metric of Triton"),
        ("<html>it works</html>", "no metric of Triton"),
        ('nv_inference_request_success{model="b0"', "not a metrics page"),
        ("nv_inference_request_success 3\n", "not a metrics page"),  # no model
        ('nv_inference_request_success{model="b0"} -1\n', "not a metrics page"),
        ('nv_inference_request_success{model="b0"} nan\n', "not a metrics page"),
        ('nv_inference_count{model="b0"} 3\n', "lacks nv_inference_request_success of 'b0'"),
    ],
)
def test_a_page_that_is_none_is_refused(page, says):
    with pytest.raises(ProbeFailure, match=says):
        parse_metrics(page)


STATISTICS = {
    "model_stats": [
        {
            "name": "b0",
            "version": "1",
            "last_inference": 1700000000000,
            "inference_count": 18,
            "execution_count": 6,
            "inference_stats": {
                "success": {"count": 12, "ns": 900},
                "queue": {"count": 12, "ns": 24_000_000},
                "compute_infer": {"count": 12, "ns": 600_000_000},
            },
        }
    ]
}


def test_statistics_over_http_and_over_grpc_are_the_same():
    def as_grpc(value):  # int64 as strings
        if isinstance(value, dict):
            return {k: as_grpc(v) for k, v in value.items()}
        if isinstance(value, list):
            return [as_grpc(v) for v in value]
        return str(value) if isinstance(value, int) else value

    expected = {"b0": ModelCounters(12, 0, 18, 6, 24_000, 600_000, None)}
    assert parse_statistics(STATISTICS).models == expected
    assert parse_statistics(as_grpc(STATISTICS)).models == expected
    fresh = {"model_stats": [{"name": "b0", "version": "1", "inference_stats": {}}]}  # gRPC drops zeros
    assert parse_statistics(fresh).models["b0"].success == 0


@pytest.mark.parametrize(
    "answer", [{}, [], None, {"model_stats": [3]}, {"model_stats": [{}]}, {"error": "x"}]
)
def test_statistics_of_another_form_are_refused(answer):
    with pytest.raises(ProbeFailure, match="statistics extension"):
        parse_statistics(answer)


# -- load -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parallelism", "batch", "share"), [(1, 1, 0.0), (2, 8, 0.3), (4, 4, 1.0)])
def test_capacity_is_the_simulators(parallelism, batch, share):
    batching = Batching(max_batch=batch, queue_delay_ms=2, marginal_service_share=share)
    expected = 1000 * capacity_per_ms(18, parallelism, batching)
    assert capacity_per_s(18, parallelism, batch, share) == pytest.approx(expected)


def test_load_is_images_over_capacity_and_needs_two_readings():
    server = Readings()
    first = server.read(success=1000, images=1500, batches=500, queue_us=0, compute_us=0)
    assert first.load is None
    assert first.features("edge", server.clock.monotonic_s()) == {"edge_load_age_s": float("inf")}
    state = server.read(2.0, success=1040, images=1560, batches=520, queue_us=80_000, compute_us=1e6)
    assert state.load == pytest.approx(0.3)  # 60 images in 2 s of 100 a second
    assert state.mean_batch == pytest.approx(3)
    assert state.queue_wait_ms == pytest.approx(2)
    assert state.compute_ms == pytest.approx(25)
    server.clock.advance(1.5)
    assert state.features("edge", server.clock.monotonic_s()) == {
        "edge_load": pytest.approx(0.3),
        "edge_load_age_s": 1.5,
    }


def test_what_fails_or_queues_was_asked_for_too():
    server = Readings()
    server.read(success=0, failure=0, images=0, pending=5)
    state = server.read(success=20, failure=10, images=40, pending=10)
    assert state.load == pytest.approx((40 + 2 * (10 + 5)) / 100)  # two images each
    assert state.pending == 10
    draining = server.read(success=30, failure=10, images=60, pending=0)
    assert draining.load == pytest.approx(0.0)  # it only worked off what had waited


def test_our_own_requests_are_not_the_other_tenants():
    server = Readings()
    server.read(success=0, images=0)
    for _ in range(15):
        server.load.note_own("b0")
    state = server.read(success=40, images=40)
    assert (state.load, state.total_load) == (pytest.approx(0.25), pytest.approx(0.4))
    assert server.read(success=80, images=80).load == pytest.approx(0.4)  # counted once
    server.load.note_own("b0", 1000)
    assert server.read(success=90, images=90).load == 0


def test_an_idle_server_has_no_load_and_no_wait_to_report():
    server = Readings()
    server.read(success=5, queue_us=10)
    state = server.read(success=5, queue_us=10)
    assert (state.load, state.queue_wait_ms, state.mean_batch) == (0.0, None, None)


def test_a_restart_is_counted_and_its_difference_is_not():
    server = Readings()
    server.read(success=1000, images=1000)
    server.read(success=1050, images=1050)
    reset = server.read(success=10, images=10)
    assert (reset.restarts, reset.load) == (1, pytest.approx(0.5))  # the last one, ageing
    assert reset.age_s(server.clock.monotonic_s()) == 1
    assert server.read(success=40, images=40).load == pytest.approx(0.3)


def test_a_silent_server_ages_and_is_never_zero():
    server = Readings()
    server.read(success=0)
    server.read(success=70)
    for seconds in (1, 2, 3):
        state = server.fail()
        assert (state.load, state.error) == (pytest.approx(0.7), "silent")
        assert state.age_s(server.clock.monotonic_s()) == seconds
    again = server.read(success=110)  # over all 4 s since the last reading
    assert (again.load, again.error) == (pytest.approx(0.1), None)


def test_a_clock_that_stands_still_divides_nothing():
    server = Readings()
    server.read(success=0)
    assert server.read(0.0, success=9).load is None
    assert server.read(1.0, success=10).load == pytest.approx(0.1)


def test_an_unknown_model_is_a_failure_with_the_nearest_name():
    clock = ManualClock(NOON)
    load = TritonLoad(lambda: parse_metrics(PAGE), {"b00": 10}, clock)
    assert "no model 'b00'. Did you mean 'b0'?" in (load.probe().error or "")


def test_models_without_a_capacity_are_named():
    load = TritonLoad(lambda: parse_metrics(PAGE), {"b0": 10}, ManualClock(NOON))
    assert load.probe().uncounted == ("b4",)


@pytest.mark.parametrize("capacities", [{}, {"b0": 0}, {"b0": float("inf")}])
def test_a_capacity_that_cannot_be_is_refused(capacities):
    with pytest.raises(InputError, match="capacity"):
        TritonLoad(lambda: parse_metrics(PAGE), capacities, ManualClock(NOON))


# -- over HTTP ------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        pages = {"/metrics": PAGE, "/v2/models/stats": json.dumps(STATISTICS), "/broken": "{"}
        body = pages.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def http():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_both_sources_over_http(http):
    clock = SystemClock()
    for load in (
        triton_load_from_metrics(f"{http}/metrics", {"b0": 1}, clock),
        triton_load_from_statistics(f"{http}/v2/models/stats", {"b0": 1}, clock),
    ):
        load.probe()
        state = load.probe()
        load.close()
        assert state.error is None
        assert state.load == 0


def test_wrong_addresses_fail_with_their_reason(http):
    clock = SystemClock()
    missing = triton_load_from_metrics(f"{http}/nothing", {"b0": 1}, clock)
    assert "status 404" in (missing.probe().error or "")
    missing.close()
    broken = triton_load_from_statistics(f"{http}/broken", {"b0": 1}, clock)
    assert "not JSON" in (broken.probe().error or "")
    broken.close()


def test_a_server_that_never_answers_fails_in_time_and_the_loop_stops():
    clock = SystemClock()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/metrics"
        load = triton_load_from_metrics(url, {"b0": 1}, clock, timeout_s=0.1)
        with ProbeLoop({}, {"edge": load}, 0.02, clock) as loop:
            deadline = time.monotonic() + 2
            while loop.latest().loads["edge"].error is None and time.monotonic() < deadline:
                time.sleep(0.005)
            assert "timed out" in (loop.latest().loads["edge"].error or "")
            assert loop.latest().features() == {"edge_load_age_s": float("inf")}


def test_a_server_that_drips_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                try:
                    for _ in range(100):
                        peer.sendall(b"x")
                        time.sleep(0.01)
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        page = HttpPage(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.1)
        with pytest.raises(ProbeFailure, match="no complete answer"):
            page.get()
        page.close()
        thread.join()


@pytest.mark.parametrize("url", ["edge:8002/metrics", "ftp://edge/metrics", "http://", "http://a:b c/"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(InputError):
        HttpPage(url)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(InputError) as refused:
        HttpPage("http://me:hunter2@edge:8002/metrics")
    assert "hunter2" not in str(refused.value)
