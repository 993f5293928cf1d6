"""Split models in the runtime: the device's turns, late heads, breakers, accounts, and what happens in the field."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from device_room import Wants, site, vector
from runtime_fixture import QUICK, Lab, options, quick_site
from test_runtime_engine import LIMITS, LOCAL_OK, FakeMind, play
from test_runtime_parts import LEVELS, WORLD

from carbonpilot.envs.beliefs import device_shares
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.simulator import Simulator
from carbonpilot.real.interfaces import Frame, Head, HeadAndTail
from carbonpilot.real.log_records import EventRecord, read_log
from carbonpilot.real.runtime.accounts import Accounts
from carbonpilot.real.runtime.calls import Call
from carbonpilot.real.runtime.checks import check_activations
from carbonpilot.real.runtime.frame_record import _attempt
from carbonpilot.real.runtime.late_executor import late
from carbonpilot.real.runtime.payloads import Payloads
from carbonpilot.real.shield import BreakerSettings, Shield
from carbonpilot.real.shield.heads import Heads

# Turns, in virtual time.

HEAD_OK, TAIL_OK = [("answer", 0.06)], [("answer", 0.1)]


def cut(fallback_s=None, tail=TAIL_OK, head=HEAD_OK, local=LOCAL_OK, rest_s=0.0, mind=None, **options):
    """Frames that go to a split model; returns results, stories and the executor."""
    mind = mind or FakeMind([("place", "cut", fallback_s)])
    mind.rest = rest_s * 1000
    _, results, recorder, executors = play(mind, {"local": local}, {"cut": (tail, head)}, rest_s=2, **options)
    return results, sorted(recorder.stories, key=lambda s: s.number), executors["cut"]


def test_the_next_head_begins_while_the_last_tail_is_away():
    results, stories, _ = cut(frames=3, gap_s=0.0)
    assert [round(r.latency_ms) for r in results] == [160, 220, 280]
    third = stories[2].calls[0]
    assert (third.head_queued_ms, third.queued_ms) == (pytest.approx(120), 0.0)
    assert third.head_ms == pytest.approx(60)


def test_the_terms_of_a_call_add_up_in_its_line():
    tail = [("answer", 0.25)]
    _, stories, _ = cut(
        frames=4, gap_s=0.0, tail=tail
    )  # two at a time, so later ones wait between head and tail
    for story in stories:
        line = _attempt(story.calls[0], 1000.0)
        terms = line.head_queued_ms + line.head_ms + line.queued_ms + 250
        assert line.ended_ms - line.started_ms == pytest.approx(terms)
    assert _attempt(stories[3].calls[0], 1000.0).queued_ms == pytest.approx(130)


def test_local_frames_and_heads_share_the_device():
    mind = FakeMind([("place", "local", None), ("place", "cut", None)])
    results, _, executor = cut(mind=mind, frames=4, gap_s=0.0)
    assert executor.device.most == 1
    assert [round(r.latency_ms) for r in sorted(results, key=lambda r: r.number)] == [60, 220, 180, 340]


def test_a_split_model_may_be_the_last_resort_of_a_device_that_fails():
    mind = FakeMind([("place", "local", None)], backup="cut")
    results, _, _ = cut(mind=mind, local=[("fail", 0.01, "model-error")], frames=1)
    assert (results[0].placement, round(results[0].latency_ms)) == ("cut", 170)


def test_a_head_that_loses_the_race_uploads_nothing():
    """The hedge on the device is queued behind the head; here it wins because the head hangs on."""
    results, stories, executor = cut(fallback_s=0.0, head=[("answer", 0.2)], frames=1, gap_s=0.0)
    split, local = stories[0].calls
    assert (split.placement, local.placement) == ("cut", "local")
    assert local.began_s == split.headed_s  # the device is the head's until it is done
    assert results[0].placement == "local"
    assert executor.calls == 1  # the tail was sent while the device had no answer yet
    results, stories, executor = cut(
        fallback_s=0.0, head=[("answer", 0.2)], frames=1, rest_s=0.15, limits=LIMITS
    )
    split = stories[0].calls[0]
    assert (split.error, split.at_head, split.sent_s) == ("timeout", True, None)
    assert "the rest is believed to take 150 ms; nothing was sent" in split.said
    assert executor.calls == 0
    assert results[0].placement == "local"


def test_a_head_that_has_not_begun_leaves_the_device_to_the_frame_itself():
    """Frame 1 waits for the device when its own attempt there is due: its head would only make that later."""
    mind = FakeMind([("place", "local", None), ("place", "cut", 0.05)])
    results, stories, executor = cut(mind=mind, frames=2, gap_s=0.0, local=[("answer", 0.1)])
    assert [(r.placement, round(r.latency_ms)) for r in results] == [("local", 100), ("local", 200)]
    split = stories[1].calls[0]
    assert (split.error, split.began_s, stories[1].fallback) == ("cancelled", None, "deadline")
    assert executor.device.calls == executor.calls == 0


@pytest.mark.parametrize("kind", ["model-error", "wrong-answer"])
def test_a_head_that_fails_is_replaced_at_once_and_nothing_is_sent(kind):
    results, stories, executor = cut(head=[("fail", 0.02, kind)], frames=1)
    assert (results[0].placement, round(results[0].latency_ms)) == ("local", 80)
    split = stories[0].calls[0]
    assert (split.error, split.at_head, stories[0].fallback) == (kind, True, kind)
    assert executor.calls == 0


def test_a_tail_that_fails_is_the_nodes():
    results, stories, _ = cut(tail=[("fail", 0.02, "unreachable")], frames=1)
    assert (results[0].placement, round(results[0].latency_ms)) == ("local", 140)
    split = stories[0].calls[0]
    assert (split.error, split.at_head) == ("unreachable", False)


def test_what_is_left_of_the_deadline_is_the_tails():
    """The call ends at its limit, however long the head took."""
    _, stories, _ = cut(tail=[("hang",)], head=[("answer", 0.25)], frames=1, limits=LIMITS)
    split = stories[0].calls[0]
    assert split.error == "timeout"
    assert split.ended_s - split.began_s == pytest.approx(LIMITS.remote_timeout_s)


def test_learners_hear_of_head_and_sending_in_this_order():
    mind = FakeMind([("place", "cut", None)])
    cut(mind=mind, frames=3)
    assert mind.headed_calls == mind.sent_calls == mind.ends
    failing = FakeMind([("place", "cut", None)])
    cut(mind=failing, head=[("fail", 0.01, "model-error")], frames=1)
    assert failing.headed_calls == failing.sent_calls == []


# A server that comes late.


def test_without_its_server_the_device_computes_no_head():
    async def go():
        started = []

        class Split:
            placement, provider = "cut", "x"

            async def start(self):
                from carbonpilot.real.executors.triton_checks import UnreachableServerError

                raise UnreachableServerError("nobody there")

            def payload_bytes(self, frame):
                return 7

            async def execute(self, frame, timeout_s):
                raise AssertionError

            async def head(self, frame, timeout_s):
                started.append(frame)
                return Head((), 0.0, 1.0)

            async def tail(self, frame, head, timeout_s):
                raise AssertionError

            async def close(self):
                pass

        executor = late(Split())
        assert isinstance(executor, HeadAndTail)
        await executor.start()
        with pytest.raises(Exception, match="has not answered since the start"):
            await executor.head(Frame(0, "x", None, None, 0.0), 1.0)
        await executor.close()
        return started

    assert asyncio.run(go()) == []


# Shield.

SPLIT = site("split")
NAMES = [p.name for p in SPLIT.placements]
CUT, WHOLE, OTHER = NAMES.index("edge-cut-022"), NAMES.index("edge"), NAMES.index("north-cut-022")


def shield(answer=CUT, **settings):
    return Shield(Wants(answer), SPLIT, **settings)


def test_a_resting_node_takes_no_tails_either():
    guarded, seen = shield(breakers=BreakerSettings(failures=2, rest_ms=1000.0)), vector(SPLIT)
    for n in range(2):
        guarded.record(CUT, None, "unreachable", 10.0 * n, guarded.decide(seen, 10.0 * n))
    decision = guarded.decide(seen, 100.0)
    allowed = {name for name, may in zip(NAMES, decision.mask, strict=True) if may}
    assert allowed == {"local", "north", "north-cut-022"}
    assert (decision.placement, decision.reason) == (0, "breaker")


def test_a_failing_head_rests_alone():
    """It says nothing about its node, nor about the device's own model."""
    guarded, seen = shield(breakers=BreakerSettings(failures=2, rest_ms=1000.0)), vector(SPLIT)
    for n in range(2):
        guarded.record(CUT, None, "model-error", 10.0 * n, guarded.decide(seen, 10.0 * n), at_head=True)
    decision = guarded.decide(seen, 100.0)
    forbidden = {name for name, may in zip(NAMES, decision.mask, strict=True) if not may}
    assert forbidden == {"edge-cut-022"}
    states = guarded.states(100.0)["breakers"]
    assert states["head of edge-cut-022"]["state"] == "open"
    assert states["edge"]["failures"] == states["local"]["failures"] == 0
    trial = guarded.decide(seen, 1100.0)
    assert trial.placement == CUT
    guarded.record(CUT, 60.0, None, 1160.0, trial)
    assert guarded.states(1200.0)["breakers"]["head of edge-cut-022"]["state"] == "closed"


def test_a_trial_that_never_came_to_its_node_is_none():
    """The node rests; its trial is a split request whose head fails: the next request is the trial."""
    guarded, seen = shield(breakers=BreakerSettings(failures=1, rest_ms=1000.0)), vector(SPLIT)
    guarded.record(CUT, None, "unreachable", 0.0, guarded.decide(seen, 0.0))
    trial = guarded.decide(seen, 1001.0)
    assert trial.placement == CUT
    guarded.record(CUT, None, "cancelled", 1010.0, trial, at_head=True)
    assert guarded.decide(seen, 1020.0).placement == CUT
    assert guarded.states(1020.0)["breakers"]["edge"]["opened"] == 1


def test_local_steps_in_only_where_it_is_in_time_behind_the_head():
    """Started at the planned time, behind backlog and head, local ends at the SLO at the latest."""
    guarded, slo_ms = shield(fallback="always"), SPLIT.slo.latency_ms
    factor = guarded.states(0.0)["placements"]["local"]["upper_over_believed"]
    heads = Heads(SPLIT, _table())
    planned = 0
    for local_ms in (30.0, 60.0, 80.0, 110.0):
        for backlog_ms in (0.0, 10.0, 40.0):
            seen = vector(SPLIT, local_latency_ms=local_ms + backlog_ms, device_backlog_ms=backlog_ms)
            head_ms = heads.head_ms(seen.tolist(), CUT)
            assert head_ms == pytest.approx(local_ms * device_shares(SPLIT)[CUT], rel=0.02)
            at_ms = guarded.decide(seen, 0.0).fallback_at_ms
            if (local_ms + backlog_ms + head_ms) * factor > slo_ms:
                assert at_ms is None
                continue
            planned += 1
            begins_ms = max(at_ms, (backlog_ms + head_ms) * factor)
            assert begins_ms + local_ms * factor == pytest.approx(slo_ms, rel=1e-3)
    assert planned >= 6


def test_what_needs_the_device_does_not_stand_in_for_it():
    guarded, seen = shield(0), vector(SPLIT, edge_cut_022_latency_ms=20.0, edge_latency_ms=90.0)
    for n in range(3):
        guarded.record(0, None, "model-error", 10.0 * n, guarded.decide(seen, 10.0 * n))
    decision = guarded.decide(seen, 100.0)
    assert (decision.reason, NAMES[decision.placement].split("-")[-1] in ("edge", "north")) == (
        "device-failing",
        True,
    )


def _table():
    from carbonpilot.envs.observation import build_table

    return build_table(SPLIT)


# Accounts.

SPLIT_PLACE = {
    "name": "edge-cut",
    "node": "edge",
    "model": "segformer-b0",
    "service": {"distribution": "deterministic", "mean_ms": 9},
    "active_energy_j": 1.0,
    "batched_energy_j": 0.25,
    "accuracy_miou": 37.4,
    "split": {
        "cut": "cut-004",
        "service": {"distribution": "deterministic", "mean_ms": 25},
        "active_energy_j": 0.4,
        "activation_kb": 12.5,
    },
}


@pytest.fixture
def scenario(tiny, tiny_scenario):
    return tiny_scenario(placements=[*tiny["placements"], SPLIT_PLACE], nodes={"edge": {"background": None}})


def split_call(error=None, headed=0.03, sent=0.03):
    return Call(
        "edge-cut",
        0.0,
        12_500,
        began_s=0.0,
        ended_s=0.1,
        error=error,
        split=True,
        headed_s=headed,
        sent_s=sent,
    )


def test_a_split_call_is_charged_as_the_simulator_does(scenario):
    simulator = Simulator(scenario, 1)
    simulator.reset([3])
    theirs = simulator.preview()[2]
    ours = Accounts(scenario, LEVELS).charge([split_call()], 0.0, WORLD)
    for term in ("compute_energy_j", "network_energy_j", "server_energy_j", "energy_j_marginal"):
        assert getattr(ours, term) == pytest.approx(float(getattr(theirs, term)[0]), rel=1e-6), term
    assert ours.compute_energy_j == pytest.approx(0.4)
    assert ours.network_energy_j == pytest.approx(12_500 * 8 * 10e-9)


def test_a_head_whose_tail_was_never_sent_costs_the_device_only(scenario):
    charge = Accounts(scenario, LEVELS).charge([split_call("timeout", sent=None)], 0.5, WORLD)
    assert charge.compute_energy_j == pytest.approx(0.4)
    assert (charge.network_energy_j, charge.server_energy_j, charge.server_idle_energy_j) == (0.0, 0.0, 0.0)
    none = split_call("unreachable", headed=None, sent=None)  # its server has not been there since the start
    assert Accounts(scenario, LEVELS).charge([none], 0.0, WORLD).compute_energy_j == 0.0
    waiting = Call("edge-cut", 0.0, 12_500, ended_s=1.0, error="cancelled", split=True)
    assert Accounts(scenario, LEVELS).charge([waiting], 0.0, WORLD).energy_j_attributional == 0.0


def test_a_frames_size_is_not_its_activations(scenario):
    sizes = {"local": 0, "edge-b0": 50_000, "edge-cut": 12_500}
    payloads = Payloads(scenario)
    assert payloads.largest_kb(sizes) == 50.0
    assert payloads.of_kb(sizes, "edge-cut") == payloads.of_kb(sizes, "local") == 50.0
    only = scenario.model_copy(update={"placements": [scenario.placements[0], scenario.placements[2]]})
    assert Payloads(only).largest_kb({"local": 0, "edge-cut": 12_500}) == (25 + 80) / 2


def test_segments_that_send_another_size_than_calibrated_are_refused(scenario):
    executor = SimpleNamespace(payload_bytes=lambda frame: 25_000)
    with pytest.raises(InputError, match=r"its segments send 25 kB for a frame, the site file says 12\.5 kB"):
        check_activations(SimpleNamespace(scenario=scenario), {"edge-cut": executor})
    executor.payload_bytes = lambda frame: 12_508
    check_activations(SimpleNamespace(scenario=scenario), {"edge-cut": executor})


# In the field, with stand-ins.

BELIEVED = {"distribution": "lognormal", "p50_ms": 40, "p95_ms": 100}


class SplitLab(Lab):
    """The device is believed to take up to 100 ms and takes 30; frames come every 60 ms."""

    async def __aenter__(self):
        await super().__aenter__()
        self.executor("local")._service_s = [0.03]
        return self

    async def play(self, count, gap_s=0.06, **options):
        await super().play(count, gap_s, **options)


@pytest.fixture
def lab(tmp_path, tiny):
    local, edge = QUICK["placements"]
    head = {**SPLIT_PLACE["split"], "service": {"distribution": "deterministic", "mean_ms": 10}}
    quick = {**SPLIT_PLACE, "service": {"distribution": "deterministic", "mean_ms": 5}, "split": head}
    remote = {"edge-cut": {"model": "t", "encoding": "activation", "segments": "segments", "cut": "cut-004"}}

    def make(**changes):
        where = quick_site(
            tmp_path,
            tiny,
            slo={"latency_ms": 500, "quantile": 0.95},
            placements=[{**local, "service": BELIEVED}, edge, quick],
            deployment={"remote": remote},
        )
        return SplitLab(options(where, tmp_path / "log", **{"policy": "always-edge-cut", **changes}))

    return make


def test_a_run_with_a_split_placement(lab):
    lab = lab()

    async def go():
        async with lab:
            await lab.play(20)

    asyncio.run(go())
    records = lab.check_counts(20)
    assert {r.executed for r in records} == {"edge-cut"}
    heads_ms, between_ms = [], []  # turns, packing, the loop: more where the machine has other things to do
    for record in records:
        (call,) = record.attempts
        heads_ms.append(call.head_ms)
        assert call.sent_bytes == 12_500
        parts = (call.head_queued_ms, call.head_ms, call.queued_ms, call.execute_ms)
        between_ms.append(record.latency_ms - sum(parts))
        assert record.compute_energy_j == pytest.approx(0.4)
        assert record.network_energy_j == pytest.approx(12_500 * 8 * 10e-9)
        assert record.payload_kb > 12.5  # the frame's own
    assert 9 < min(heads_ms) <= sorted(heads_ms)[len(heads_ms) // 2] < 60
    assert min(between_ms) > -1
    assert sorted(between_ms)[len(between_ms) // 2] < 15


def test_the_node_fails_and_comes_back(lab):
    lab = lab()

    async def go():
        async with lab:
            await lab.play(5)
            lab.executor("edge-cut").failing = "unreachable"
            await lab.play(15)
            assert lab.run.mind.breakers()["edge"] == "open"
            lab.executor("edge-cut").failing = None
            await asyncio.sleep(2.1)
            await lab.play(10)

    asyncio.run(go())
    records = lab.check_counts(30)
    assert {r.executed for r in records[5:20]} == {"local"}
    heads = sum(a.head_ms > 0 for r in records[5:20] for a in r.attempts)
    assert heads < 8, "the device does not compute heads for a node that rests"
    assert records[19].mask == [1, 0, 0]
    assert {r.executed for r in records[-5:]} == {"edge-cut"}


def test_heads_that_fail_leave_the_node_to_whole_frames(lab):
    lab = lab()

    async def go():
        async with lab:
            lab.executor("edge-cut").head_failing = "model-error"
            await lab.play(15)
            await asyncio.sleep(1.1)  # the next look at the world

    asyncio.run(go())
    records = lab.check_counts(15)
    assert {r.executed for r in records} == {"local"}
    assert records[-1].mask == [1, 1, 0]
    assert all(a.sent_bytes is None for r in records for a in r.attempts if a.placement == "edge-cut")
    assert sum(r.network_energy_j for r in records) == 0.0
    events = [r for r in read_log(lab.run.options.log) if isinstance(r, EventRecord)]
    assert ("open", "breaker head of edge-cut") in [(e.event, e.subject) for e in events]


def test_a_node_that_freezes_between_head_and_answer(lab):
    lab = lab(fallback="always")

    async def go():
        async with lab:
            await lab.play(3)
            lab.executor("edge-cut")._service_s = [30.0]
            await lab.play(15, gap_s=0.1)
            await asyncio.sleep(1.2)

    asyncio.run(go())
    records = lab.check_counts(18)
    assert {r.executed for r in records[3:]} == {"local"}
    assert {r.fallback for r in records[3:]} >= {"deadline"}
    assert records[-1].placement == "local"


def test_shadow_mode_computes_no_head(lab):
    lab = lab(mode="shadow")

    async def go():
        async with lab:
            await lab.play(5)

    asyncio.run(go())
    records = lab.check_counts(5)
    assert {(r.placement, r.executed) for r in records} == {("edge-cut", "local")}
    assert {a.placement for r in records for a in r.attempts} == {"local"}


def test_what_the_observer_believes_of_the_device_follows_heads(lab):
    """A head under way is backlog of the device; when it is done nothing is left."""
    lab = lab()

    async def go():
        async with lab:
            observer = lab.run.mind._observer
            lab.executor("edge-cut")._head_s, lab.executor("edge-cut")._service_s = [0.2], [0.2]
            playing = asyncio.create_task(lab.play(1, gap_s=0.0))
            await asyncio.sleep(0.1)
            during = observer._episode.device_free_ms
            await asyncio.sleep(0.2)  # the tail is away
            after = observer._episode.device_free_ms
            await playing
            return during, after

    during, after = asyncio.run(go())
    assert np.isinf(during)
    assert after < 1e6
