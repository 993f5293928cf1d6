"""Refreshing behind the runtime's back: never waiting, ages that survive clock jumps, cache across restarts."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.real.clock import ManualClock
from carbonpilot.real.feeds import (
    BackgroundFeed,
    CountryDefault,
    FeedCache,
    FeedError,
    GbCarbonIntensity,
    Reading,
)
from carbonpilot.real.feeds.http_source import Patience
from carbonpilot.real.feeds.mock import MockGrid

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


class ScriptedFeed:
    """Gives what it is told to; "hang" waits until it is let go."""

    name, kind, offline, stale_after_s = "scripted", "average", False, 3600.0

    def __init__(self, clock, *script):
        self.clock, self.script, self.fetched, self.closed = clock, list(script), 0, 0
        self.go = threading.Event()

    def fetch(self, zone):
        self.fetched += 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if step == "hang":
            self.go.wait()
            step = 100.0
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Reading):
            return step
        now = self.clock.utc()
        return Reading(
            zone,
            step,
            "average",
            now,
            self.clock.monotonic_s(),
            now,
            60.0,
            False,
            self.name,
            "lifecycle",
            "a note",
        )

    def cancel(self):
        self.go.set()

    def close(self):
        self.closed += 1


def broken(cause="timeout", retry_after_s=None):
    return FeedError("scripted", "GB", cause, "nothing came", "Wait", retry_after_s)


@pytest.fixture
def clock():
    return ManualClock(START)


def until(condition, timeout_s=5.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "this did not happen"
        time.sleep(0.005)


def test_the_last_good_reading_stays_and_ages(clock):
    feed = BackgroundFeed(ScriptedFeed(clock, 200.0, broken()), ["GB"], clock=clock)
    feed.refresh()
    assert feed.latest("GB").age_s == 60.0
    clock.advance(3000)
    feed.refresh()
    feed.refresh()
    now = feed.latest("GB")
    assert (now.reading.carbon_g_per_kwh, now.age_s, now.stale, now.failures) == (200.0, 3060.0, False, 2)
    clock.advance(600)
    assert feed.latest("GB").stale
    status = feed.status("GB")
    assert (status.failures_total, status.successes_total, status.last_cause) == (2, 1, "timeout")


def test_a_good_reading_ends_the_outage(clock):
    feed = BackgroundFeed(ScriptedFeed(clock, broken(), broken(), 150.0), ["GB"], clock=clock)
    for _ in range(3):
        feed.refresh()
    assert feed.latest("GB").failures == 0
    assert feed.status("GB").failures_total == 2


@pytest.mark.parametrize("days", [-400, 400])
def test_a_jump_of_the_calendar_clock_changes_no_age(clock, days):
    feed = BackgroundFeed(ScriptedFeed(clock, 200.0), ["GB"], clock=clock)
    feed.refresh()
    clock.set_utc(START + timedelta(days=days))
    clock.advance(10)
    assert feed.latest("GB").age_s == 70.0


def test_without_any_reading_there_is_an_error_and_no_number(clock):
    feed = BackgroundFeed(ScriptedFeed(clock, broken()), ["GB"], clock=clock)
    with pytest.raises(FeedError, match="the first refresh is under way") as caught:
        feed.latest("GB")
    assert caught.value.cause == "no-reading"
    feed.refresh()
    with pytest.raises(FeedError, match="nothing came"):
        feed.latest("GB")
    with pytest.raises(InputError, match="'FR' is not refreshed here"):
        feed.latest("FR")


def test_a_bug_in_a_feed_does_not_end_the_thread_nor_show_its_text(clock, caplog):
    feed = BackgroundFeed(ScriptedFeed(clock, RuntimeError("my-token"), 90.0), ["GB"], clock=clock)
    feed.refresh()
    assert feed.status("GB").last_cause == "internal"
    assert "RuntimeError" in feed.status("GB").last_error
    assert "my-token" not in caplog.text + feed.status("GB").last_error
    feed.refresh()
    assert feed.latest("GB").reading.carbon_g_per_kwh == 90.0


def test_a_reading_of_another_kind_or_zone_is_not_taken(clock):
    good = ScriptedFeed(clock, 90.0).fetch("GB")
    for wrong in (replace(good, kind="marginal"), replace(good, zone="FR")):
        feed = BackgroundFeed(ScriptedFeed(clock, wrong), ["GB"], clock=clock)
        feed.refresh()
        assert feed.status("GB").reading is None


def test_latest_never_waits_for_a_hanging_source(clock):
    source = ScriptedFeed(clock, 200.0, "hang")
    feed = BackgroundFeed(source, ["GB"], interval_s=0.01, clock=clock).start()
    until(lambda: source.fetched >= 2)  # the thread hangs in the second fetch
    for _ in range(1000):
        assert feed.latest("GB").reading.carbon_g_per_kwh == 200.0
    assert not source.go.is_set()
    assert feed.stop()
    assert source.closed == 1


def test_stop_ends_the_thread_and_may_be_called_twice(clock):
    before = threading.active_count()
    source = ScriptedFeed(clock, 200.0)
    with BackgroundFeed(source, ["GB"], interval_s=1000.0, clock=clock) as feed:
        until(lambda: feed.status("GB").successes_total == 1)
    assert feed.stop()
    assert threading.active_count() == before
    assert source.closed == 1
    with pytest.raises(RuntimeError):
        feed.start()


def test_failures_are_retried_sooner_than_the_interval_but_not_in_a_storm(clock):
    feed = BackgroundFeed(ScriptedFeed(clock, broken()), ["GB"], interval_s=100.0, clock=clock)
    waits = []
    for _ in range(7):
        feed.refresh()
        waits.append(feed._wanted_wait_s)
    assert waits == [5.0, 10.0, 20.0, 40.0, 80.0, 100.0, 100.0]


def test_a_long_outage_warns_once(clock, caplog):
    feed = BackgroundFeed(ScriptedFeed(clock, broken()), ["GB"], clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            feed.refresh()
    assert len(caplog.records) == 1


def test_over_real_http_through_an_outage():
    pytest.importorskip("httpx")
    patience = Patience(0.2, 0.1, 0.2, 1, 0.01)
    descriptors = len(os.listdir("/proc/self/fd"))
    with MockGrid("ok") as grid:
        source = GbCarbonIntensity(base_url=grid.url, patience=patience)
        with BackgroundFeed(source, ["GB"], interval_s=0.02) as feed:
            until(lambda: feed.status("GB").successes_total >= 2)
            grid.scenario = "silent"
            until(lambda: feed.status("GB").last_cause == "timeout")
            assert feed.latest("GB").reading.carbon_g_per_kwh == 187.0
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_feeds_that_share_a_cache_lose_nothing(tmp_path, clock):
    cache = FeedCache(tmp_path / "feeds.json", clock)
    good = ScriptedFeed(clock, 90.0).fetch("GB")
    zones = [f"Z{i}" for i in range(20)]
    threads = [threading.Thread(target=cache.put, args=(replace(good, zone=zone),)) for zone in zones]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = FeedCache(tmp_path / "feeds.json", clock)
    assert all(again.get("scripted", zone) for zone in zones)


def test_stop_is_quick_while_the_source_drips():
    pytest.importorskip("httpx")
    threads = threading.active_count()
    with MockGrid("slow", delay_s=60.0) as grid:
        source = GbCarbonIntensity(base_url=grid.url)
        feed = BackgroundFeed(source, ["GB"]).start()
        until(lambda: grid.requests)
        assert feed.stop(timeout_s=5.0)
    assert threading.active_count() == threads


def test_the_fallback_serves_until_the_first_reading(clock):
    feed = BackgroundFeed(
        ScriptedFeed(clock, broken(), 200.0), ["GB"], clock=clock, fallback=CountryDefault(clock)
    )
    first = feed.latest("GB")
    assert (first.reading.source, first.reading.estimated, first.stale) == ("country-default", True, False)
    feed.refresh()
    assert feed.latest("GB").reading.source == "country-default"
    feed.refresh()
    assert feed.latest("GB").reading.source == "scripted"


def test_average_never_stands_in_for_marginal(clock):
    source = ScriptedFeed(clock, 200.0)
    source.kind = "marginal"
    with pytest.raises(InputError, match="different quantities"):
        BackgroundFeed(source, ["GB"], clock=clock, fallback=CountryDefault(clock))
    with pytest.raises(InputError, match="offline"):
        BackgroundFeed(CountryDefault(clock), ["GB"], clock=clock, fallback=ScriptedFeed(clock, 1.0))


@pytest.mark.parametrize(
    ("zones", "interval_s"), [([], 1.0), ("GB", 1.0), (["GB", "GB"], 1.0), (["GB"], 0.0)]
)
def test_what_cannot_be_refreshed_is_refused(clock, zones, interval_s):
    with pytest.raises(InputError):
        BackgroundFeed(ScriptedFeed(clock, 1.0), zones, interval_s=interval_s, clock=clock)


def cached(path, clock):
    feed = BackgroundFeed(ScriptedFeed(clock, 200.0), ["GB"], clock=clock, cache=FeedCache(path, clock))
    feed.refresh()
    return feed


def restarted(path, utc):
    """A new process: its monotonic clock begins anywhere."""
    clock = ManualClock(utc, monotonic_s=5.0)
    cache = FeedCache(path, clock)
    return BackgroundFeed(ScriptedFeed(clock, broken()), ["GB"], clock=clock, cache=cache), cache


def test_a_restart_goes_on_with_the_cached_reading(tmp_path, clock):
    path = tmp_path / "sub" / "feeds.json"
    old = cached(path, clock).latest("GB").reading
    feed, cache = restarted(path, START + timedelta(minutes=30))
    now = feed.latest("GB")
    assert (now.age_s, now.stale, now.reading.restored) == (1860.0, False, True)
    assert (now.reading.carbon_g_per_kwh, now.reading.measured_at, now.reading.note) == (
        200.0,
        old.measured_at,
        "a note",
    )
    assert (now.reading.factors, now.reading.estimated) == ("lifecycle", False)
    # Written back and read a second time, the age still counts from the measurement.
    cache.put(now.reading)
    again, _ = restarted(path, START + timedelta(minutes=50))
    assert again.latest("GB").age_s == 3060.0
    late, _ = restarted(path, START + timedelta(days=3))
    assert late.latest("GB").stale


def test_a_cached_reading_from_the_future_is_not_used(tmp_path, clock):
    cached(tmp_path / "feeds.json", clock)
    feed, cache = restarted(tmp_path / "feeds.json", START - timedelta(days=1))
    assert feed.status("GB").reading is None
    assert "its age cannot be told" in cache.told[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"schema": "carbonpilot/feed-cache/1"}',
        b'{"schema": "carbonpilot/feed-cache/1", "readings": [{}]}',
        b'{"schema": "other", "readings": []}',
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
)
def test_a_broken_cache_is_set_aside_and_told(tmp_path, clock, content):
    path = tmp_path / "feeds.json"
    path.write_bytes(content)
    cache = FeedCache(path, clock)
    assert cache.get("scripted", "GB") is None
    assert "set aside" in cache.told[0]
    (aside,) = tmp_path.iterdir()
    assert aside.read_bytes() == content
    cached(path, clock)
    assert FeedCache(path, clock).told == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("carbon_g_per_kwh", -1),
        ("carbon_g_per_kwh", float("nan")),
        ("carbon_g_per_kwh", 1e9),
        ("carbon_g_per_kwh", "200"),
        ("kind", "both"),
        ("estimated", "no"),
        ("factors", "some"),
        ("age_when_received_s", -5),
        ("age_when_received_s", float("inf")),
        ("received_at", "yesterday"),
        ("measured_at", None),
    ],
)
def test_a_cached_value_is_checked_like_a_fresh_one(tmp_path, clock, key, value):
    path = tmp_path / "feeds.json"
    cached(path, clock)
    content = json.loads(path.read_text())
    content["readings"][0][key] = value
    path.write_text(json.dumps(content))
    assert FeedCache(path, clock).told


def test_a_cache_that_cannot_be_written_costs_no_reading(tmp_path, clock, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    cache = FeedCache(tmp_path / "feeds.json", clock)
    feed = BackgroundFeed(ScriptedFeed(clock, 200.0), ["GB"], clock=clock, cache=cache)
    monkeypatch.setattr("os.replace", full)
    feed.refresh()
    assert feed.latest("GB").reading.carbon_g_per_kwh == 200.0
    assert "disk is full" in caplog.text
