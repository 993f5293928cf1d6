"""A link's rate from real uploads over the test bed's link: what was set is found, whatever connections lose early."""

import os
from dataclasses import replace

import numpy as np
import pytest

from carbonpilot.real.calibrate import link as calibrate_link
from carbonpilot.real.calibrate.effort import FULL, QUICK
from carbonpilot.real.calibrate.transfers import Transfer, Uploader
from carbonpilot.real.probes.echo import EchoServer
from carbonpilot.real.testbed.child import end_child
from carbonpilot.real.testbed.echo_process import start_echo_server
from carbonpilot.real.testbed.link import Link
from carbonpilot.real.testbed.namespaces import Namespaces, inside, unavailable
from carbonpilot.real.testbed.profiles import profile_named

PORT = 7007
needs_a_test_bed = pytest.mark.skipif(
    unavailable() is not None or not os.path.exists("/dev/net/tun"),
    reason=f"no test bed here: {unavailable() or '/dev/net/tun is missing'}",
)


@pytest.fixture(scope="module")
def lossy():
    """Namespace and address of a device whose uploads go over Emu-B to an echo server."""
    with Namespaces() as ns, Link(ns.device, ns.server, profile_named("emu-b"), seed=3) as link:
        server = start_echo_server(ns.server, "0.0.0.0", PORT)
        try:
            yield ns.device, link.server_address
        finally:
            end_child(server)


@needs_a_test_bed
def test_the_rate_of_a_lossy_link_is_found(lossy):
    """One connection over Emu-B alone shows a quarter of its 50 Mbit/s."""
    namespace, address = lossy
    with inside(namespace):
        fresh = calibrate_link._fresh_uploads(address, PORT, replace(FULL, upload_s=60.0))
    rate, method = calibrate_link._rate(*fresh)
    assert rate.value == pytest.approx(50.0, rel=0.3)
    assert rate.low <= rate.value <= rate.high
    assert rate.count == FULL.fresh
    assert "a new connection each, bbr" in method


@needs_a_test_bed
def test_a_slow_link_gets_fewer_uploads(lossy):
    namespace, address = lossy
    with inside(namespace):
        done, _ = calibrate_link._fresh_uploads(address, PORT, replace(QUICK, fresh=50, upload_s=0.1))
    assert len(done) == calibrate_link.LEAST_UPLOADS


def upload(*rates_mbps: float) -> Transfer:
    return Transfer(1_000_000, 0.5, rates_mbps, 700, 0)


def test_uploads_that_lost_early_do_not_make_the_rate():
    well = [upload(10.0, 60.0, 98.0, 100.0, 102.0) for _ in range(9)]
    badly = [upload(10.0, 12.0, 14.0) for _ in range(3)]
    rate, _ = calibrate_link._rate(well + badly, "bbr")
    assert rate.value == np.quantile([10.0, 60.0, 98.0, 100.0, 102.0], calibrate_link.RATE_QUANTILE)


def test_a_link_that_limits_nothing_has_the_rate_of_its_uploads():
    rate, method = calibrate_link._rate([upload()] * 4, "cubic")
    assert (rate.value, rate.low, rate.high) == (16.0, 16.0, 16.0)
    assert "did not limit" in method


def test_each_upload_for_the_rate_has_a_connection_of_its_own(monkeypatch):
    opened = []

    def open_one(*args, **settings):
        opened.append(settings)
        return Uploader(*args, **settings)

    monkeypatch.setattr(calibrate_link, "Uploader", open_one)
    with EchoServer() as server:
        done, carrier = calibrate_link._fresh_uploads("127.0.0.1", server.port, replace(QUICK, fresh=4))
    assert len(done) == 4 <= len(opened)
    assert carrier in ("bbr", "cubic", "reno")
