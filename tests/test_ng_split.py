"""Fig. 5a of Ng et al. in kind: MobileNetV2's table, the tandem and the exact form for constant times, the cells."""

from __future__ import annotations

import importlib
import math
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbonpilot.agents import ng, ng_split, ng_split_cells, ng_split_grid, paper_table
from carbonpilot.agents.ng_sites import Site, simulate
from carbonpilot.agents.ng_split_forms import constant_tandem_ms, tandem_ms
from carbonpilot.envs import queueing as q
from carbonpilot.envs.errors import InputError

PAGE = Path(__file__).parent.parent / "docs" / "reproduce-ng.md"


@pytest.fixture(scope="module")
def bars():
    """As the command plays them."""
    return ng_split.play(ng.SEED)


# -- MobileNetV2's table ---------------------------------------------------------------------------------


def mobilenet_v2():
    """Multiply-accumulates of each stage and the shape after it, from Table 2 of Sandler et al.: t, c, n, s."""
    rows = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    side, channels = 112, 32
    found = {"conv_stem": (3 * 3 * 3 * channels * side**2, (channels, side, side))}
    for i, (expansion, out, repeats, stride) in enumerate(rows):
        macs = 0
        for j in range(repeats):
            hidden, after = channels * expansion, side // (stride if j == 0 else 1)
            macs += (channels * hidden * side**2 if expansion > 1 else 0) + 9 * hidden * after**2
            macs += hidden * out * after**2
            channels, side = out, after
        found[f"blocks.{i}"] = (macs, (channels, side, side))
    found["conv_head"] = (channels * 1280 * side**2, (1280, side, side))
    return found | {"global_pool": (0, (1280,))}


def test_the_table_is_the_architecture():
    expected = {name: (macs, math.prod(shape)) for name, (macs, shape) in mobilenet_v2().items()}
    assert {s.name: (s.macs, s.values) for s in ng_split.STAGES} == expected
    assert ng_split.CLASSIFIER_MACS == 1280 * 1000
    assert abs(ng_split.TOTAL_MACS / 300e6 - 1) < 0.005  # Sandler et al., Table 4: "300M" of MAdds


def test_the_planner_finds_the_same_in_timms_network(tmp_path):
    export = pytest.importorskip("carbonpilot.agents.zoo.export", reason="needs timm (extra zoo)")
    cuts = importlib.import_module("carbonpilot.agents.partition.cuts")
    costs = importlib.import_module("carbonpilot.agents.partition.costs")
    read = importlib.import_module("carbonpilot.agents.partition.graph").read_graph
    graph = read(export.export_classifier("mobilenetv2", tmp_path / "m.onnx", random_seed=0).path)
    last = {c.shape: c.after for c in cuts.cut_points(graph)}  # of each shape the last cut, behind its stage
    stem, *stages = (
        mobilenet_v2().values()
    )  # what leaves the stem has the shape of what blocks.0 computes next
    found = costs.mac_costs(graph).of_blocks(
        [*(last[shape] for _, shape in stages), len(graph.operations) - 1]
    )
    first, *others = (macs for macs, _ in stages)
    assert found.tolist() == [stem[0] + first, *others, ng_split.CLASSIFIER_MACS]


def test_a_cut_divides_the_service_times():
    whole = ng_split.configurations()[0]
    for stage in ng_split.STAGES:
        cut = ng_split.at_cut(stage.name)
        done = 1 - cut.offloaded
        assert cut.head_ms == pytest.approx(done * whole.head_ms)
        assert cut.tail_ms == pytest.approx((1 - done) * 13.0)  # the A2's inferred 13 ms
        assert cut.link_ms == pytest.approx(stage.values * 4 * 8 / 50e6 * 1000)  # float32 over 50 Mbit/s
        assert ng_split.at_cut(stage.name, wire="uint8").link_ms == pytest.approx(cut.link_ms / 4)


# -- closed forms ----------------------------------------------------------------------------------------


def through(arrivals_ms, stages_ms):
    """Departures of a FIFO tandem, stage by stage."""
    times = list(arrivals_ms)
    for stage in stages_ms:
        free = 0.0
        for n, t in enumerate(times):
            free = max(t, free) + stage
            times[n] = free
    return np.array(times)


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=40),
    stages=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=4),
)
def test_all_waiting_is_that_before_the_slowest_stage(gaps, stages):
    """Friedman 1965, request by request, whatever the arrivals: what `constant_tandem_ms` rests on."""
    arrivals = np.cumsum(gaps)
    whole = through(arrivals, stages)
    slowest = through(arrivals, [max(stages)])
    np.testing.assert_allclose(whole, slowest + sum(stages) - max(stages), atol=1e-9)


@given(
    stages=st.lists(st.floats(0.1, 20.0), min_size=3, max_size=3),
    rate=st.floats(0.0, 45.0),
)
@settings(max_examples=60, deadline=None)
def test_constant_times_wait_less_than_the_tandem_says(stages, rate):
    exact = float(constant_tandem_ms(stages, rate))
    assert sum(stages) <= exact * (1 + 1e-12)
    assert exact <= tandem_ms(*stages, rate, link_scv=0.0) * (1 + 1e-12)
    assert tandem_ms(*stages, rate, link_scv=0.0) <= tandem_ms(*stages, rate) * (1 + 1e-12)
    assert all(constant_tandem_ms(s, rate) == pytest.approx(exact) for s in permutations(stages))


def test_the_forms_meet_the_ones_they_are_made_of():
    assert constant_tandem_ms([7.0], 30.0) == pytest.approx(float(q.device_latency_ms(7.0, 30.0)))
    assert tandem_ms(4.0, 3.0, 9.0, 20.0) == pytest.approx(
        float(q.split_latency_ms(4.0, 3.0, 0.0, 20.0, 9.0))
    )
    exponential = float(q.split_latency_ms(4.0, 3.0, 0.0, 20.0, 9.0, service_scv=1.0))
    assert tandem_ms(4.0, 3.0, 9.0, 20.0, head_scv=1.0, tail_scv=1.0) == pytest.approx(exponential)
    np.testing.assert_allclose(
        constant_tandem_ms([np.array([1.0, 8.0]), 2.0], np.array([10.0, 10.0])),
        [3.0 + float(q.md1_wait_ms(2.0, 10.0)), 10.0 + float(q.md1_wait_ms(8.0, 10.0))],
    )


def test_overload_and_bad_input():
    assert constant_tandem_ms([1.0, 60.0, 1.0], 20.0) == math.inf
    assert tandem_ms(1.0, 60.0, 1.0, 20.0) == math.inf
    with pytest.raises(InputError, match="service_ms"):
        constant_tandem_ms([-1.0, -2.0], 20.0)
    with pytest.raises(InputError, match="rate_per_s"):
        tandem_ms(1.0, 1.0, 1.0, -20.0)


def test_split_placements_of_constant_times_follow_the_exact_form():
    """And the paper's tandem is too high, by more the busier the later stages are."""
    errors = []
    for stage in (10.0, 30.0, 60.0):
        site = Site(10.0, (stage,), request_ms=stage, payload="constant", head_ms=stage)
        simulated = simulate(site, 5, episodes=32, requests=2500)
        exact = float(constant_tandem_ms([stage] * 3, 10.0))
        assert abs(simulated.mean_ms - exact) < 4 * simulated.mean_error_ms
        errors.append(tandem_ms(stage, stage, stage, 10.0) / simulated.mean_ms - 1)
    assert 0.03 < errors[0] < errors[1] < errors[2]


def test_the_tandem_holds_behind_an_exponential_head():
    """Burke: what leaves M/M/1 is Poisson."""
    site = Site(10.0, (60.0,), payload="constant", head_ms=30.0, head_distribution="exponential")
    simulated = simulate(site, 6, episodes=64, requests=2500)
    assert (
        abs(simulated.mean_ms - tandem_ms(30.0, 0.0, 60.0, 10.0, head_scv=1.0)) < 4 * simulated.mean_error_ms
    )


def test_the_grid_has_each_stage_as_the_narrowest():
    held, strayed = list(ng_split_grid.split_holding()), list(ng_split_grid.split_straying())
    assert all(s.holds and len(s.forms) == 1 for s in held)
    assert not any(s.holds for s in strayed)
    narrowest = {int(np.argmax(loads)) for loads in ng_split_grid.CONSTANT_LOADS if len(set(loads)) > 1}
    assert narrowest >= {0, 1}
    assert all(math.isfinite(f.mean_ms) for s in (*held, *strayed) for f in s.forms)
    assert max(s.utilisation for s in (*held, *strayed)) < 1


# -- the figure ------------------------------------------------------------------------------------------


def test_what_the_paper_claims_holds_in_model_and_simulation(bars):
    local, *splits = bars
    assert [b.configuration.name for b in bars] == ["local", "SP1", "SP2", "SP3"]
    offloaded = [b.configuration.offloaded for b in bars]
    assert offloaded == sorted(offloaded)
    for get in (lambda b: b.configuration.tandem_ms, lambda b: b.simulated.mean_ms):
        latencies = [get(b) for b in bars]
        assert latencies == sorted(latencies)  # grows with what is offloaded, and local is the fastest
        assert get(splits[0]) > 1.2 * get(local)
    assert all(abs(b.deviation) < 0.05 for b in bars)


def test_no_cut_between_stages_beats_the_device():
    assert all(ng_split.local_beats_every_cut(wire) for wire in ng_split.BYTES)
    rising, choices = ng_split.rising_choices()
    assert choices == math.comb(8, 3)
    assert 0 < rising < choices  # so the paper's sentence depends on its split points


def test_later_results_shrink_and_not_grow():
    assert not ng_split.sizes_grow()
    sizes = [s.values for s in ng_split.STAGES if s.name in ng_split.SPLIT_POINTS]
    assert sizes == sorted(sizes, reverse=True)


def test_cells_say_what_is_printed_and_what_is_not(bars):
    cells = ng_split_cells.fig_5a(bars)
    drawn = [c for c in cells if c.column == "mean latency"]
    assert len(drawn) == 4
    assert all(c.paper is None and c.kind == "not_reproducible" and "not printed" in c.note for c in drawn)
    claims = {c.column: c for c in cells if c.column != "mean latency"}
    assert claims.pop("results of later layers are larger").ours == 0
    assert len(claims) == 3
    assert all(c.kind == "predicted" and c.ours == c.paper == 1 for c in claims.values())
    ((*line, _),), _ = paper_table.rows([drawn[0]])
    assert line[4:7] == ["-", f"{drawn[0].ours:.4g}", "-"]


def test_the_page_holds_the_figure(bars):
    page = PAGE.read_text()
    for cell in ng_split_cells.fig_5a(bars):
        ((*line, _),), notes = paper_table.rows([cell])
        assert "| " + " | ".join(line) + " |" in page
        assert all(note in page for note in notes)


# -- the benchmark's analysis ----------------------------------------------------------------------------


@pytest.fixture
def benchmark_module(monkeypatch):
    pytest.importorskip("carbonpilot.agents.partition.graph", reason="needs the planner, which needs onnx")
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("testbed_split")


def played(arrivals_ms, head_ms, link_ms, tail_ms, fixed_ms):
    """What the device would report if every stage took constant times."""
    began = through(arrivals_ms, [head_ms]) - head_ms
    done = through(arrivals_ms, [head_ms, link_ms, tail_ms]) + fixed_ms
    requests = [
        {"arrived_s": (7e6 + a) / 1000, "began_s": (7e6 + b) / 1000, "sent_s": (7e6 + b + head_ms) / 1000,
         "done_s": (7e6 + d) / 1000, "failed": ""}
        for a, b, d in zip(arrivals_ms, began, done, strict=True)
    ]  # fmt: skip
    return {
        "requests": requests,
        "server_ms": {"compute_infer": tail_ms, "queue": 3.0},
        "served": len(requests),
    }


def test_the_benchmark_predicts_a_tandem_of_constant_times_exactly(benchmark_module):
    head, tail, fixed, rate, kb = 6.0, 5.0, 2.0, 40.0, 50.0
    link = 8 * kb / 50 * 1500 / 1448
    place = {"where": "SP", "tail": "t", "activation_kb": kb}
    alone, arrivals = 150.0 * np.arange(30), np.cumsum(np.random.default_rng(4).exponential(1000 / rate, 400))
    plans = [{**place, "rate": 0.0}, {**place, "rate": rate}, {**place, "rate": 0.0}]
    results = [played(t, head, link, tail, fixed) for t in (alone, arrivals, alone)]
    options = SimpleNamespace(mbps=50.0)
    _, row, _ = benchmark_module.analyse(plans, results, options)
    assert row["alone"] == pytest.approx(
        {"head_ms": head, "link_ms": link, "tail_ms": tail, "fixed_ms": fixed}
    )
    for key in ("simulated_ms", "alone_simulated_ms"):
        assert row[key] == pytest.approx(row["mean_ms"], abs=1e-3)
    assert row["simulated_p95_ms"] == pytest.approx(row["p95_ms"], abs=1e-2)
    assert row["constant_ms"] == pytest.approx(float(constant_tandem_ms((head, link, tail), rate)) + fixed)
    assert row["tandem_ms"] > row["constant_ms"]


def test_the_benchmark_stops_where_requests_failed(benchmark_module):
    result = played([0.0, 10.0], 1.0, 1.0, 1.0, 0.0)
    result["requests"][1]["failed"] = "deadline exceeded"
    with pytest.raises(SystemExit, match="1 of 2 requests failed: deadline exceeded"):
        benchmark_module.measured({"where": "SP", "tail": "t", "rate": 5.0}, result)
