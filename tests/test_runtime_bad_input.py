"""Bad input to a deployed policy: the documented safe placement, counted and logged, never an error of a frame."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from urllib.request import urlopen

import numpy as np
import pytest
from runtime_fixture import Lab, options, quick_site
from test_runtime_command import write_policy

from carbonpilot.agents import bundle as bundle_module
from carbonpilot.agents.shield_sight import ShieldSight
from carbonpilot.envs.errors import InputError
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.log_records import EventRecord, read_log
from carbonpilot.real.observer import Doubts
from carbonpilot.real.runtime.checked import check

FRAMES = 6


@pytest.fixture
def site(tmp_path, tiny):
    return quick_site(tmp_path, tiny)


@pytest.fixture
def deployed(site, tmp_path):
    """A run of a bundle that always wants the server."""
    folder = write_policy(tmp_path / "bundle", site)
    return Lab(options(site, tmp_path / "log", policy=None, bundle=folder, listen="127.0.0.1:0"))


def shown(lab, change):
    """Let the policy's observation be changed on its way from the observer to the shield."""
    observer = lab.run.mind._observer
    observe = observer.observe

    def changed(*arguments):
        observation = observe(*arguments)
        change(observation, observer.table.index)
        return observation

    observer.observe = changed


def answers(lab, answer):
    """Let the bundle's policy answer otherwise."""

    def decide(observation, mask):
        if isinstance(answer, Exception):
            raise answer
        return answer

    lab.run.checked.policy.decide = decide


def put(feature, value):
    def change(observation, index):
        observation[index[feature]] = value

    return lambda lab: shown(lab, change)


def all_doubtful(lab):
    doubts = Doubts(None, (None, "unknown"))
    lab.run.mind._shield._doubts = lambda: doubts


def resting(lab):
    for n in range(3):
        lab.run.mind._shield.record(1, None, "unreachable", float(n))


def empty_mask(lab):
    """The shield always leaves the device; should it ever not, the bundle refuses to choose."""
    policy = lab.run.checked.policy
    decide = policy.decide
    policy.decide = lambda observation, mask: decide(observation, np.zeros_like(mask))


def broken_shield(lab):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    lab.run.mind._shield._guards.look = fail


# What is wrong; the reason in log and metrics; what the event says; or, where a guard takes the server away before the
# bundle is asked (which then obeys its mask), why.
CASES = {
    "NaN": (put("uplink_rtt_ms", math.nan), "bad-observation", "uplink_rtt_ms = nan"),
    "infinite": (put("edge-b0_latency_ms", math.inf), "bad-observation", "edge-b0_latency_ms = inf"),
    "carbon is NaN": (put("local_carbon_mg", math.nan), "bad-observation", "local_carbon_mg = nan"),
    "a wish outside the dial": (put("wish_carbon", 1.5), "bad-observation", "wish_carbon = 1.5"),
    "a wish below the dial": (put("wish_latency", -0.1), "bad-observation", "wish_latency = -0.1"),
    "stale probe": (put("uplink_probe_age_s", 4.0), "masked", "stale-probe"),
    "stale load": (put("edge_load_age_s", 5.9), "masked", "stale-load"),
    "nothing but the device allowed": (all_doubtful, "masked", "unknown"),
    "the node rests": (resting, "masked", "breaker"),
    "weights that give NaN": (lambda lab: answers(lab, InputError("NaN")), "policy-error", "InputError: NaN"),
    "a mask without anything": (empty_mask, "policy-error", "it allows no placement at all"),
    "no number": (lambda lab: answers(lab, math.nan), "illegal-action", "answered nan where 0 to 1 exist"),
    "a placement that is none": (lambda lab: answers(lab, np.int64(-1)), "illegal-action", "-1"),
    "a shield with a bug": (broken_shield, "shield-error", "ZeroDivisionError: a bug"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_deployed_policy_falls_back_to_the_device(deployed, case, caplog):
    spoil, reason, told = CASES[case]
    why = told if reason == "masked" else None
    reason = "policy" if why else reason

    async def live():
        async with deployed as lab:
            await lab.play(2)
            spoil(lab)
            await lab.play(FRAMES)
            await lab.recorded()
            lab.run.world.tick()
            return [
                (await asyncio.to_thread(lambda a=at: urlopen(f"{lab.run.address}{a}").read())).decode()
                for at in ("metrics", "status.json")
            ]

    metrics, status = asyncio.run(live())
    records = deployed.check_counts(2 + FRAMES)
    assert [r.executed for r in records] == ["edge-b0"] * 2 + ["local"] * FRAMES
    assert {r.reason for r in records[2:]} == {reason}
    assert all(r.latency_ms is not None for r in records)
    assert f'carbonpilot_frames_total{{placement="local",reason="{reason}"}} {FRAMES}.0' in metrics
    assert "carbonpilot_faults 0.0" in metrics
    assert "NaN" not in metrics
    content = json.loads(status, parse_constant=pytest.fail)
    assert content["recent"]["reasons"][reason] >= FRAMES
    events = [r for r in read_log(deployed.run.options.log) if isinstance(r, EventRecord)]
    faults = [e for e in events if e.subject == "decisions"]
    if why:
        assert faults == []
        assert {tuple(r.mask) for r in records[2:]} == {(1, 0)}
        assert f'carbonpilot_masked_total{{placement="edge-b0",reason="{why}"}} {FRAMES}.0' in metrics
        assert f'carbonpilot_state{{state="{why}",subject="placement edge-b0"}} 1.0' in metrics
        assert (why, "placement edge-b0") in {(e.event, e.subject) for e in events}
        return
    assert {e.event for e in faults} == {reason}
    assert sum(int(e.detail.split()[0]) for e in faults) == FRAMES
    assert told in faults[-1].detail
    assert len([r for r in caplog.records if r.message.startswith(f"{reason}: ")]) == 1


def test_a_bad_observation_names_few_features(deployed):
    count = len(deployed.run.checked.table)
    sight = ShieldSight(deployed.run.checked.site.scenario)
    told = sight.what_is_wrong(np.full(count, np.nan, np.float32))
    assert told.count("= nan") == 4
    assert told.endswith(f"and {count - 4} more")
    assert sight.what_is_wrong(np.zeros(3, np.float32)) == f"(3,) numbers instead of ({count},)"
    deployed.run.checked.ends.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wish": "1.5,0,0"}, "1.5"),
        ({"wish": "greenish"}, "Expected"),
        ({"wish": "nan,0,0"}, "nan"),
    ],
)
def test_a_wish_outside_the_dial_is_refused_before_the_first_frame(site, tmp_path, changes, said):
    wanted = replace(options(site, tmp_path / "log"), **changes)
    with pytest.raises(InputError, match=said):
        check(wanted, SystemClock())


def test_a_bundle_of_a_newer_schema_is_refused_before_the_first_frame(site, tmp_path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(
            "carbonpilot.agents.bundle_writer.SCHEMA", f"{bundle_module.KIND}{bundle_module.VERSION + 1}"
        )
        newer.setattr("carbonpilot.agents.bundle_writer.read_bundle", lambda path: None)
        folder = write_policy(tmp_path / "newer", site)
    wanted = options(site, tmp_path / "log", policy=None, bundle=folder)
    with pytest.raises(InputError, match=r"carbonpilot/bundle/3.*reads up to 'carbonpilot/bundle/2'"):
        check(wanted, SystemClock())
    assert not (tmp_path / "log").exists()
