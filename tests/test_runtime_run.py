"""A run put together from a site file, with stand-ins: what it decides, writes, resumes and refuses."""

from __future__ import annotations

import asyncio
import json
import math

import numpy as np
import pytest
from runtime_fixture import QUICK, Lab, options, quick_site

from carbonpilot.envs.errors import InputError
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.feeds import BackgroundFeed, ElectricityMaps
from carbonpilot.real.feeds.mock import MockGrid
from carbonpilot.real.log_records import EventRecord, Header, WorldRecord, read_log
from carbonpilot.real.runtime.checked import carried, check
from carbonpilot.real.runtime.feeds import SiteFeeds
from carbonpilot.real.runtime.log_files import lock_folder
from carbonpilot.real.runtime.log_repair import Earlier


def play(lab: Lab, count: int, **how) -> None:
    async def go():
        async with lab:
            await lab.play(count, **how)

    asyncio.run(go())


@pytest.fixture
def site(tmp_path, tiny):
    return quick_site(tmp_path, tiny)


def test_a_run_decides_executes_and_writes(tmp_path, site):
    lab = Lab(options(site, tmp_path / "log"))
    play(lab, 20)
    records = lab.check_counts(20)
    header, *_ = everything = list(read_log(tmp_path / "log"))
    assert isinstance(header, Header)
    assert header.placements == ["local", "edge-b0"]
    assert header.providers == {"local": "stand-in", "edge-b0": "stand-in"}
    assert (header.bundle, header.card_sha256, header.mode) == ("always-edge-b0", "", "active")
    for r in records:
        assert (r.executed, r.placement, r.reason, r.missed) == ("edge-b0", "edge-b0", "policy", False), r
        assert len(r.observation) == len(header.features)
        assert r.attempts[0].sent_bytes == 64 * 128 * 3 == r.payload_kb * 1000
    assert any(isinstance(r, WorldRecord) for r in everything)
    assert [r.event for r in everything if isinstance(r, EventRecord)][-1] == "run-ended"


def test_energy_and_carbon_are_the_simulators_formulas(tmp_path, site):
    lab = Lab(options(site, tmp_path / "log"))
    play(lab, 3, gap_s=0.1)
    _, _, r = lab.check_counts(3)
    # Alone in a batch on the server: active energy times PUE; network: bytes times nJ per bit; no radio in this site.
    assert r.server_energy_j == pytest.approx(1.2 * 2.0)
    assert r.network_energy_j == pytest.approx(64 * 128 * 3 * 8 * 10e-9)
    assert r.compute_energy_j == r.radio_energy_j == 0
    gap_s = (r.issued_ms - lab.check_counts(3)[1].issued_ms) / 1000
    assert r.device_idle_energy_j == pytest.approx(4 * gap_s)
    assert r.server_idle_energy_j == pytest.approx(1.2 * 60 * gap_s)  # no tenants are there to share it
    away, home = r.carbon_g_per_kwh["edge"], r.carbon_g_per_kwh["network of uplink"]
    assert r.carbon_mg_marginal == pytest.approx(
        (r.server_energy_j * away + r.network_energy_j * home) / 3600
    )
    idle_mg = (r.device_idle_energy_j * home + r.server_idle_energy_j * away) / 3600
    assert r.carbon_mg_attributional == pytest.approx(r.carbon_mg_marginal + idle_mg)
    # What the decision believed of the same placement differs by the payload that it assumes, the network's part.
    assert lab.run.status.content()["carbon"]["saved"]["always-offload"]["saved_mg"] == pytest.approx(
        0, abs=0.01
    )


def test_both_calls_of_a_hedged_frame_are_charged(tmp_path, tiny):
    local, edge = QUICK["placements"]
    slow_by_its_site = {
        "distribution": "lognormal",
        "p50_ms": 40,
        "p95_ms": 120,
    }  # so a busy machine has time
    patient = {
        "slo": {"latency_ms": 500, "quantile": 0.95},
        "placements": [{**local, "service": slow_by_its_site}, edge],
    }
    lab = Lab(options(quick_site(tmp_path, tiny, **patient), tmp_path / "log", fallback="always"))

    async def go():
        async with lab:
            lab.executor("local")._service_s = [0.03]
            lab.executor("edge-b0")._service_s = [0.7]  # answers after the objective
            await lab.play(1)
            await asyncio.sleep(0.7)

    asyncio.run(go())
    (r,) = lab.check_counts(1)
    assert (r.placement, r.executed, r.fallback, r.missed) == ("edge-b0", "local", "deadline", False)
    edge, local = r.attempts
    assert (edge.placement, edge.error, edge.used) == (
        "edge-b0",
        None,
        False,
    )  # late, but it came, and it taught
    assert local.used
    assert r.compute_energy_j == pytest.approx(1.0)
    assert r.server_energy_j == pytest.approx(2.4)
    assert lab.run.mind._observer.features()["edge_last_latency_ms"] == 0  # as of the frame
    assert lab.run.mind._observer._attempts.nodes[0, 1].pending_ms > 700


def test_unknown_grids_make_unknown_carbon_never_zero(tmp_path, tiny):
    site = quick_site(tmp_path, tiny)
    text = site.read_text()
    site.write_text(text.replace("away: FRA", "away: ZZZ"))
    lab = Lab(options(site, tmp_path / "log", policy="always-local"))
    play(lab, 2)
    for r in lab.check_counts(2):
        assert r.carbon_g_per_kwh["edge"] is None
        assert r.carbon_mg_marginal is not None  # the device's own grid is known
    content = lab.run.status.content()
    assert content["zones_without_reading"] == ["away"]
    assert content["carbon"]["saved"]["always-offload"]["frames"] == 0


def test_shadow_logs_the_decision_and_executes_here(tmp_path, site):
    lab = Lab(options(site, tmp_path / "log", mode="shadow"))
    play(lab, 10, gap_s=0.04)
    for r in lab.check_counts(10):
        assert (r.placement, r.executed, r.fallback) == ("edge-b0", "local", "shadow")
        assert [a.placement for a in r.attempts] == ["local"]
    states = lab.run.mind._shield.states(0.0)
    assert states["breakers"]["edge"]["failures"] == 0
    assert states["placements"]["edge-b0"]["answers"] == 0
    assert lab.run.status.content()["carbon"]["saved"]["always-local"]["frames"] == 10


def test_what_is_no_image_has_its_result_and_line(tmp_path, site):
    lab = Lab(options(site, tmp_path / "log"))
    play(lab, 9, bad=lambda i: i % 3 == 1)
    records = lab.check_counts(9)
    bad = [r for r in records if r.frame % 3 == 1]
    assert {(r.reason, r.problem, r.executed, r.placement, r.missed) for r in bad} == {
        ("bad-image", "not an image", None, None, True)
    }
    assert all(r.attempts == [] and r.observation is None and r.latency_ms is None for r in bad)
    assert lab.run.status.missed == 3


def test_a_policy_that_fails_costs_no_frame(tmp_path, site):
    lab = Lab(options(site, tmp_path / "log"))

    class Broken:
        name = "broken"

        def reset(self, batch):
            pass

        def decide(self, observation, mask):
            raise ZeroDivisionError

    lab.run.checked.policy = Broken()
    play(lab, 5, gap_s=0.04)
    for r in lab.check_counts(5):
        assert (r.reason, r.wanted, r.executed) == ("policy-error", None, "local")


def test_a_restart_goes_on_with_numbers_and_the_budget(tmp_path, site):
    log = tmp_path / "log"
    first = Lab(options(site, log))
    play(first, 12, bad=lambda i: i in (3, 4))
    (file,) = log.glob("*.jsonl")
    with open(file, "ab") as out:
        out.write(b'{"kind":"frame","frame":12,"ima')  # a crash in the middle of a line
    second = Lab(options(site, log))
    assert second.run.checked.before.next_frame == 12
    play(second, 5)
    records = second.records()
    assert [r.frame for r in sorted(records, key=lambda r: r.frame)] == list(range(17))
    events = [r for r in read_log(log) if isinstance(r, EventRecord)]
    assert "log-repaired" in [e.event for e in events]
    headers = [r for r in read_log(log) if isinstance(r, Header)]
    assert [h.first_frame for h in headers] == [0, 12]
    assert headers[0].run != headers[1].run
    # Two misses of a budget of 50 are spent at the restart.
    spent = headers[0].features.index("slo_budget_spent")
    assert next(r for r in records if r.frame == 12).observation[spent] == pytest.approx(2 / 50)
    progress = headers[0].features.index("progress")
    assert next(r for r in records if r.frame == 12).observation[progress] == pytest.approx(12 / 1000)


def test_what_is_carried_counts_from_the_beginning_of_the_block():
    missed = tuple(i in (1, 8) for i in range(10))
    now = carried(Earlier(next_frame=23, missed=missed), 10)
    assert (now.frames, now.missed) == (
        3,
        1.0,
    )  # frames 20, 21, 22 are the last three, of which the second missed
    assert 0 < now.recent_miss_rate < 0.1
    assert carried(Earlier(next_frame=20, missed=missed), 10).frames == 0
    assert carried(Earlier(next_frame=20, missed=missed), 10).missed == 0
    assert carried(Earlier(), 10).recent_miss_rate == 0


def test_a_log_of_another_site_is_refused(tmp_path, tiny, site):
    play(Lab(options(site, tmp_path / "log")), 1)
    (tmp_path / "b").mkdir()
    other = quick_site(tmp_path / "b", tiny, device={"idle_power_w": 5})
    with pytest.raises(InputError, match="written for another site"):
        Lab(options(other, tmp_path / "log"))
    Lab(options(site, tmp_path / "log"))  # and the folder is free again


def test_another_devices_site_file_is_refused(tmp_path, site):
    site.write_text(site.read_text().replace("cpu_count: ", "cpu_count: 9"))
    lab = options(site, tmp_path / "log", stand_in=False)
    with pytest.raises(InputError, match=r"measured on another device.*cpu_count is"):
        check(lab, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "always-egde-b0"}, "Did you mean 'always-edge-b0'"),
        ({"policy": "ppo"}, "carbonpilot export"),
        ({"policy": None}, "either --bundle DIR or --policy"),
        ({"in_flight": 0}, "--in-flight must be at least 1"),
        ({"listen": "8080"}, "HOST:PORT"),
        ({"listen": "192.0.2.1:9464"}, "Cannot listen on 192.0.2.1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, site, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        play(Lab(options(site, tmp_path / "log", **changes)), 1)
    assert "\n" not in str(caught.value)


def test_a_taken_address_is_refused_and_nothing_is_left_running(tmp_path, site):
    first = Lab(options(site, tmp_path / "a", listen="127.0.0.1:0"))

    async def go():
        async with first:
            taken = first.run.address.removeprefix("http://").strip("/")
            with pytest.raises(InputError, match="Cannot listen on"):
                async with Lab(options(site, tmp_path / "b", listen=taken)):
                    pass
            with pytest.raises(InputError, match="Another carbonpilot writes its log"):
                Lab(options(site, tmp_path / "a"))
            await first.play(2)

    asyncio.run(go())
    first.check_counts(2)
    play(Lab(options(site, tmp_path / "b")), 1)


def test_masks_are_whole_files_named_after_frames(tmp_path, site):
    from PIL import Image

    lab = Lab(options(site, tmp_path / "log", masks=tmp_path / "masks"))
    play(lab, 6, bad=lambda i: i == 2)
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == [
        f"{i:09d}.png" for i in range(6) if i != 2
    ]
    with Image.open(tmp_path / "masks" / "000000004.png") as image:
        mask = np.asarray(image)
    assert mask.shape == (16, 32)
    assert (mask == 4).all()  # the stand-in's class of frame 4


def test_curves_are_what_tensorboard_reads(tmp_path, site):
    lab = Lab(options(site, tmp_path / "log", tensorboard=tmp_path / "tb"))
    play(lab, 10)
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    (file,) = (tmp_path / "tb").iterdir()
    events = list(reader.RawEventFileLoader(str(file)).Load())
    assert len(events) == 2  # the version and one point; TensorBoard checks the sums itself
    from tensorboard.compat.proto.event_pb2 import Event

    first, point = (Event.FromString(e) for e in events)
    assert first.file_version == "brain.Event:2"
    values = {v.tag: v.simple_value for v in point.summary.value}
    assert point.step == 9
    assert values["placement/edge-b0"] == 1.0
    assert values["slo/miss_rate"] == 0.0
    assert 4 < values["latency/p50_ms"] < 150
    assert values["energy/j_per_frame"] == pytest.approx(2.4, rel=0.01)


def test_the_log_is_plain_json_without_nan(tmp_path, site):
    play(Lab(options(site, tmp_path / "log")), 3)

    def refuse(text):
        raise AssertionError(text)

    for file in (tmp_path / "log").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            content = json.loads(line, parse_constant=refuse)
            assert all(not isinstance(v, float) or math.isfinite(v) for v in content.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meters": ["jetson-rails"]}, "no INA3221 monitor"),
        ({"feeds": {"source": "electricity-maps"}}, "CARBONPILOT_ELECTRICITYMAPS_TOKEN"),
        ({"feeds": {"fallback": "country-default", "source": "watttime"}}, "CARBONPILOT_WATTTIME_USER"),
    ],
)
def test_a_meter_or_feed_that_may_not_be_used_is_told_before_anything_starts(
    tmp_path, tiny, monkeypatch, changes, message
):
    for name in ("ELECTRICITYMAPS_TOKEN", "WATTTIME_USER", "WATTTIME_PASSWORD"):
        monkeypatch.delenv(f"CARBONPILOT_{name}", raising=False)
    site = quick_site(tmp_path, tiny, deployment=changes)
    with pytest.raises(InputError, match=message):
        check(options(site, tmp_path / "log", stand_in=False), SystemClock())
    lock_folder(tmp_path / "log")  # and the log's folder is free again


def test_an_expired_token_is_told_before_the_first_frame(tmp_path, site, monkeypatch):
    monkeypatch.setenv("CARBONPILOT_ELECTRICITYMAPS_TOKEN", "old-and-secret")
    lab = Lab(options(site, tmp_path / "log"))
    with MockGrid("expired") as grid:
        feed = ElectricityMaps(base_url=grid.url)
        lab.run.checked.feeds = SiteFeeds(BackgroundFeed(feed, ["FR"]), {"home": "FR", "away": "FR"})
        with pytest.raises(InputError, match="The grid feed refuses us") as caught:
            play(lab, 1)
    assert "CARBONPILOT_ELECTRICITYMAPS_TOKEN" in str(caught.value)
    assert "old-and-secret" not in str(caught.value)
    assert not list((tmp_path / "log").glob("*.jsonl"))
