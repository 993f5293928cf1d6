"""Background sampling: on time by a clock of our own, bounded, and ended without a trace."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest

from carbonpilot.real.clock import ManualClock
from carbonpilot.real.meters import JetsonRails, MeterError, Sample, SamplerThread, Scope, WindowIntegrator
from carbonpilot.real.meters.fake_sysfs import FakeSysfs


class Steady:
    """4 W, taking ``busy_s`` for each reading; fails while ``broken``."""

    name, scope = "steady", Scope.HOST

    def __init__(self, clock: ManualClock, busy_s: float = 0.0) -> None:
        self.clock, self.busy_s = clock, busy_s
        self.broken: Exception | None = None
        self.closed = 0

    def sample(self) -> Sample:
        if self.broken:
            raise self.broken
        time_s = self.clock.monotonic_s()
        self.clock.advance(self.busy_s)
        return Sample(time_s, power_w=4.0)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 21, tzinfo=timezone.utc))


def play(sampler: SamplerThread, clock: ManualClock, until_s: float) -> None:
    """What the thread does, with waits that pass at once."""
    while clock.monotonic_s() < until_s:
        clock.advance(max(sampler.step(), 1e-9))


def test_it_keeps_the_rate(clock):
    sampler = SamplerThread(Steady(clock), 8, clock=clock)
    play(sampler, clock, 1.0)
    times = [sample.time_s for sample in sampler.take()]
    assert times == pytest.approx([0.125 * i for i in range(8)])
    assert (sampler.late, sampler.skipped, sampler.dropped, sampler.failures) == (0, 0, 0, 0)
    assert sampler.take() == []


def test_nothing_is_read_before_it_is_due(clock):
    sampler = SamplerThread(Steady(clock), 10, clock=clock)
    assert sampler.step() == pytest.approx(0.1)
    clock.advance(0.04)
    assert sampler.step() == pytest.approx(0.06)
    assert len(sampler.take()) == 1


def test_the_time_of_reading_does_not_add_up(clock):
    """30 ms of every 100: still ten samples a second."""
    sampler = SamplerThread(Steady(clock, 0.03), 10, clock=clock)
    play(sampler, clock, 10.0)
    assert len(sampler.take()) in (100, 101)
    assert (sampler.late, sampler.skipped) == (0, 0)


def test_a_meter_slower_than_the_rate_leaves_turns_out(clock):
    """No burst follows: a reading of 250 ms at 10 Hz gives every third turn."""
    sampler = SamplerThread(Steady(clock, 0.25), 10, clock=clock)
    play(sampler, clock, 3.0)
    assert len(sampler.take()) == 10
    assert sampler.skipped == 20


def test_late_samples_are_counted(clock):
    sampler = SamplerThread(Steady(clock), 10, clock=clock)
    sampler.step()
    clock.advance(0.55)  # the machine was busy elsewhere
    sampler.step()
    assert (sampler.late, sampler.skipped) == (1, 4)


def test_memory_is_bounded_and_the_oldest_go(clock):
    sampler = SamplerThread(Steady(clock), 10, capacity=5, clock=clock)
    play(sampler, clock, 2.0)
    samples = sampler.take()
    assert [round(s.time_s, 3) for s in samples] == [1.5, 1.6, 1.7, 1.8, 1.9]
    assert sampler.dropped == 15


@pytest.mark.parametrize("error", [MeterError("bus"), OSError(5, "EIO"), ValueError("a bug")])
def test_a_failing_meter_is_counted_tried_again_and_leaves_a_gap(clock, error):
    meter = Steady(clock)
    sampler, integrator = SamplerThread(meter, 8, clock=clock), WindowIntegrator("steady", 0.5)
    play(sampler, clock, 1.0)
    meter.broken = error
    play(sampler, clock, 2.0)
    meter.broken = None
    play(sampler, clock, 3.0)
    assert sampler.take_into(integrator) == 16
    assert sampler.failures == 8
    assert sampler.last_error is error
    window = integrator.energy(0, 2.875)
    assert window.gaps_s == (pytest.approx((0.875, 2.0)),)
    with pytest.raises(MeterError, match="steady was silent"):
        integrator.account(0, 2.875)


def test_one_refused_sample_does_not_cost_the_others(clock):
    sampler, integrator = SamplerThread(Steady(clock), 10, clock=clock), WindowIntegrator("steady", 0.5)
    integrator.add(Sample(0.25, power_w=4.0))
    play(sampler, clock, 1.0)
    with pytest.raises(MeterError, match="clock was set back"):
        sampler.take_into(integrator)
    assert integrator.account(0.25, 0.9).gross_j == pytest.approx(4 * 0.65)


@pytest.mark.parametrize(("rate", "capacity"), [(0, 1), (-1, 1), (float("nan"), 1), (10, 0)])
def test_settings_that_cannot_be(clock, rate, capacity):
    with pytest.raises(MeterError, match="rate must be above 0"):
        SamplerThread(Steady(clock), rate, capacity, clock)


# -- the thread itself --------------------------------------------------------------------------------


def test_the_thread_samples_and_ends_and_leaves_no_descriptor(tmp_path):
    def state() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    FakeSysfs(tmp_path).jetson()
    before = state()
    for _ in range(5):
        enough = threading.Event()
        rails = JetsonRails(tmp_path)
        read, samples = rails.sample, []

        def counted(read=read, samples=samples, enough=enough) -> Sample:
            samples.append(read())
            if len(samples) == 5:
                enough.set()
            return samples[-1]

        rails.sample = counted
        with SamplerThread(rails, 500) as sampler:
            assert enough.wait(10)
        taken = sampler.take()
        assert taken == samples
        times = [sample.time_s for sample in taken]
        assert times == sorted(set(times))
    assert state() == before


def test_stop_closes_the_meter_also_before_start(clock):
    meter = Steady(clock)
    sampler = SamplerThread(meter, 10, clock=clock)
    sampler.stop()
    assert meter.closed == 1
    with pytest.raises(MeterError, match="was stopped"):
        sampler.start()


def test_readers_do_not_wait_for_a_meter_that_hangs_and_stop_says_so(clock):
    entered, release = threading.Event(), threading.Event()

    class Hanging(Steady):
        def sample(self) -> Sample:
            entered.set()
            release.wait(10)
            return super().sample()

    sampler = SamplerThread(Hanging(clock), 10, clock=clock).start()
    assert entered.wait(10)
    assert sampler.take() == []
    with pytest.raises(MeterError, match="sampled already"):
        sampler.start()
    with pytest.raises(MeterError, match=r"steady hangs.*0\.01 s"):
        sampler.stop(timeout_s=0.01)
    release.set()
    sampler.stop()
    assert sampler.meter.closed == 1
