"""What frames' own transfers tell a run with the real server: the link's rate, and how fast each request was sent."""

from __future__ import annotations

import asyncio

import numpy as np
import test_chaos_testbed
from test_chaos_testbed import PIXELS, QUALITY, TritonLab, server

from carbonpilot.real.frames.jpeg import encode_jpeg
from carbonpilot.real.log_records import WorldRecord, read_log
from carbonpilot.real.runtime.site_parts import prior_mbps

__all__ = ["server"]
NOISE = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)


def test_a_slow_server_is_no_slow_link_and_each_request_is_watched(tmp_path, tiny, server, monkeypatch):
    jpeg = encode_jpeg(NOISE, QUALITY)
    assert NOISE.shape == PIXELS.shape
    assert len(jpeg) > 30_000
    monkeypatch.setattr(test_chaos_testbed, "JPEG", jpeg)
    lab = TritonLab(tmp_path, tiny, server, fallback="never")

    async def go():
        async with lab:
            await lab.play(10)
            server.repository.fault("", slower=15.0)  # 60 ms instead of 4
            await lab.play(20, gap_s=0.1)
            await asyncio.sleep(1.2)  # a probe takes it in

    asyncio.run(go())
    lab.check_counts(30)
    state = lab.run.world.seen.snapshot.links["uplink"].uplink
    assert state.used >= 15
    # Loopback is faster than the site says, and never looks slower.
    least = prior_mbps(lab.run.checked.site.scenario, "uplink")
    seen = [r.links["uplink"] for r in read_log(lab.run.options.log) if isinstance(r, WorldRecord)]
    assert min(link.uplink_mbps for link in seen) == least
    assert state.rate_mbps >= least
    names = lab.run.header.features
    sent = [
        dict(zip(names, r.observation, strict=True))["uplink_sent_mbps"]
        for r in lab.records()
        if r.observation
    ]
    assert sent[0] == 0.0  # nothing was sent so far
    assert min(sent[15:]) > 0.0
    fresh = [dict(zip(names, r.observation, strict=True))["uplink_sent_age_s"] for r in lab.records()[-5:]]
    assert max(fresh) * 5 < 2.0  # s; the scale is 5
