"""`carbonpilot partition`: nodes files, scenarios, tables, JSON, plots, placements, and what is said of bad ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import TensorProto
from partition_models import Network, masks, residual, tangled, weights
from typer.testing import CliRunner

from carbonpilot.agents.partition.costs import mac_costs
from carbonpilot.agents.partition.cuts import cut_points
from carbonpilot.agents.partition.graph import read_graph
from carbonpilot.agents.partition.nodes import Chain, read_chain
from carbonpilot.agents.partition.problem import build_problem
from carbonpilot.agents.partition.site import chain_of_scenario, conditions
from carbonpilot.cli import app
from carbonpilot.envs.errors import CarbonPilotError, InputError, ScenarioError
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Placement
from carbonpilot.envs.service import mean_ms

DEVICE = {
    "name": "device",
    "whole_model_ms": 80.0,
    "active_power_w": 10.0,
    "pue": 1.0,
    "carbon_g_per_kwh": 360.0,
}
EDGE = {"name": "edge", "whole_model_ms": 8.0, "active_power_w": 100.0, "pue": 1.5, "carbon_g_per_kwh": 36.0}
LINK = {
    "from": "device", "to": "edge", "rate_mbps": 8.0, "rtt_ms": 4.0, "energy_nj_per_bit": 100.0,
    "carbon_g_per_kwh": 180.0, "transmit_power_w": 2.0,
}  # fmt: skip


def chain(**changes) -> dict:
    base = {"schema": "carbonpilot/nodes/1", "nodes": [DEVICE, EDGE], "links": [LINK], "payload_kb": 5.0}
    return {key: value for key, value in (base | changes).items() if value is not None}


@pytest.fixture
def model(tmp_path) -> Path:
    return residual(tmp_path / "m.onnx")


@pytest.fixture
def call(tmp_path, model):
    """Run the command with a nodes file; an error comes back as it is."""

    def run(*arguments: str, nodes: dict | None = None, file: Path | None = None):
        path = tmp_path / "nodes.yaml"
        path.write_text(yaml.safe_dump(chain() if nodes is None else nodes))
        return CliRunner().invoke(app, ["partition", str(file or model), "--nodes", str(path), *arguments])

    return run


def problem(path: Path, nodes: dict, wire: str = "float32"):
    graph = read_graph(path)
    return build_problem(graph, cut_points(graph), mac_costs(graph), Chain.model_validate(nodes), wire)


def test_the_numbers_of_a_block_and_a_crossing_by_hand(model):
    p = problem(model, chain())
    conv = 3 * 3 * 4 * 4 * 64
    whole = 3 * conv + 4 * 5
    share = conv / whole  # of the first block, the stem
    assert p.block["latency_ms"][0] == pytest.approx([80 * share, 8 * share])
    assert p.block["energy_j"][0] == pytest.approx([0.8 * share, 0.8 * 1.5 * share])
    # 1 J at 360 g/kWh is 0.1 mg.
    assert p.block["carbon_mg"][0] == pytest.approx([0.08 * share, 0.8 * 1.5 * 0.01 * share])
    assert p.crossing_kb.tolist() == [5.0, 1.024, 1.024, 1.024, 0.016, 0.016]
    # At 8 Mbit/s a kB takes a millisecond; 100 nJ a bit are 0.8 mJ a kB; the radio takes 2 mJ a millisecond.
    assert p.crossing["latency_ms"][1, 0, 1] == pytest.approx(1.024 + 4.0)
    assert p.crossing["energy_j"][1, 0, 1] == pytest.approx(1.024 * (0.0008 + 0.002))
    assert p.crossing["carbon_mg"][1, 0, 1] == pytest.approx(1.024 * (0.0008 * 0.05 + 0.002 * 0.1))
    assert np.isinf(p.crossing["latency_ms"][1, 1, 0])


def test_without_a_payload_the_bare_input_crosses(model, tmp_path):
    assert problem(model, chain(payload_kb=None)).crossing_kb[0] == pytest.approx(4 * 4 * 8 * 8 / 1000)
    images = masks(tmp_path / "masks.onnx")
    assert problem(images, chain(payload_kb=None)).crossing_kb[0] == pytest.approx(32 * 32 * 3 / 1000)


def test_neighbours_links_join_where_a_pair_has_none_of_its_own(model):
    cloud = EDGE | {"name": "cloud"}
    onward = LINK | {"from": "edge", "to": "cloud", "rtt_ms": 20.0, "transmit_power_w": None}
    onward = {key: value for key, value in onward.items() if value is not None}
    p = problem(model, chain(nodes=[DEVICE, EDGE, cloud], links=[LINK, onward]))
    assert p.crossing["latency_ms"][0, 0, 2] == pytest.approx(5 + 4 + 5 + 20)
    direct = LINK | {"to": "cloud", "rtt_ms": 1.0}
    p = problem(model, chain(nodes=[DEVICE, EDGE, cloud], links=[LINK, onward, direct]))
    assert p.crossing["latency_ms"][0, 0, 2] == pytest.approx(5 + 1)


@pytest.mark.parametrize("objective", ["latency", "energy", "carbon", "balance", "green"])
def test_every_objective_gives_a_table_and_json(call, tmp_path, objective):
    out = tmp_path / "p.json"
    result = call("--objective", objective, "--json", str(out))
    assert result.exit_code == 0, result.output
    assert f"best {objective}" in result.output
    assert "all on device" in result.output
    assert "all on edge" in result.output
    told = json.loads(out.read_text())
    assert told["schema"] == "carbonpilot/partition/1"
    assert [cut["cut"] for cut in told["cuts"]] == [f"cut-{n:03d}" for n in range(1, 6)]
    shares = [cut["cost_share_before"] for cut in told["cuts"]]
    assert shares == sorted(shares)
    best = told["plans"]["best"]
    wholes = [told["plans"]["whole-device"], told["plans"]["whole-edge"]]
    name = {"latency": "latency_ms", "energy": "energy_j", "carbon": "carbon_mg"}.get(objective)
    if name is not None:
        assert best[name] <= min(plan[name] for plan in wholes)
    else:
        assert [part["node"] for part in best["stretches"]] == ["device", "edge"]


def test_a_limit_on_latency_is_kept_or_refused(call, tmp_path):
    """The edge is the cleanest and, for its link, the slowest."""
    slow = chain(links=[LINK | {"rate_mbps": 0.1}])
    free = call("--objective", "carbon", nodes=slow)
    assert "best carbon: all on edge" in free.output or "then edge" in free.output
    kept = call("--objective", "carbon", "--slo-ms", "81", "--json", str(tmp_path / "p.json"), nodes=slow)
    assert kept.exit_code == 0, kept.output
    assert json.loads((tmp_path / "p.json").read_text())["plans"]["best"]["latency_ms"] <= 81
    refused = call("--objective", "carbon", nodes=slow | {"slo_ms": 3.0})
    assert isinstance(refused.exception, CarbonPilotError)
    assert re.match(r"No plan keeps 3 ms: the quickest takes [\d.]+ ms", str(refused.exception))
    assert refused.exception.exit_code == 1
    senseless = call("--slo-ms", "81")
    assert "goes with --objective energy or carbon" in str(senseless.exception)


def test_cuts_are_listed_without_nodes(model):
    result = CliRunner().invoke(app, ["partition", str(model), "--cuts"])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines() if line.startswith("cut-")]
    assert [line[1] for line in lines] == ["stem", "stem_relu", "block_add", "pool", "flat"]
    assert lines[2][2:7] == ["Add", "4", "x", "8", "x"]


def test_a_plot_is_drawn(call, tmp_path):
    result = call("--plot", str(tmp_path / "p.png"), "--objective", "balance")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_measured_costs_go_with_speeds(call, tmp_path):
    fast = {key: value for key, value in EDGE.items() if key != "whole_model_ms"} | {"speed": 1e9}
    here = {key: value for key, value in DEVICE.items() if key != "whole_model_ms"} | {"speed": 1.0}
    result = call(
        "--costs",
        "measured",
        "--json",
        str(tmp_path / "p.json"),
        nodes=chain(nodes=[here, fast], payload_kb=0.001),
    )
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "p.json").read_text())
    assert told["plans"]["whole-device"]["latency_ms"] == pytest.approx(told["costs"]["total"])
    refused = call(nodes=chain(nodes=[here, fast]))
    assert "device has a speed, which goes with --costs measured, and the costs are macs" in str(
        refused.exception
    )


def test_macs_go_with_rates(model):
    node = {key: value for key, value in DEVICE.items() if key != "whole_model_ms"} | {"gmac_per_s": 0.001}
    p = problem(model, chain(nodes=[node], links=[]))
    assert p.block["latency_ms"].sum() == pytest.approx((3 * 9216 + 20) / 1e6 * 1000)


def test_an_operator_that_a_node_cannot_run_is_told_and_planned_around(call, tmp_path):
    no_gemm = EDGE | {"operators": ["Conv", "Relu", "Add", "GlobalAveragePool", "Flatten"]}
    result = call("--json", str(tmp_path / "p.json"), nodes=chain(nodes=[DEVICE, no_gemm]))
    assert result.exit_code == 0, result.output
    assert "edge cannot run Gemm (/y/Gemm)" in result.output
    plans = json.loads((tmp_path / "p.json").read_text())["plans"]
    assert plans["whole-edge"]["latency_ms"] is None
    assert plans["best"]["what"] == "all on device"
    old = EDGE | {"max_opset": 11}
    assert "edge cannot run opset 17, it knows up to 11" in call(nodes=chain(nodes=[DEVICE, old])).output


def test_nodes_none_of_which_can_finish_are_refused(call):
    neither = [node | {"operators": ["Conv"]} for node in (DEVICE, EDGE)]
    result = call(nodes=chain(nodes=neither))
    assert isinstance(result.exception, InputError)
    assert "No node can finish what comes to it: device cannot run Relu" in str(result.exception)
    unlinked = call("--objective", "balance", nodes=chain(links=[]))
    assert "Not all of device, edge can have a part (there is no link" in str(unlinked.exception)


def test_an_operator_of_another_domain_needs_a_node_that_has_it(tmp_path, call):
    net = Network()
    net.add("Relu", ["x"], "a")
    net.add("Gelu", ["a"], "b", domain="com.example")
    net.add("Neg", ["b"], "y")
    file = net.save(
        tmp_path / "c.onnx", [("x", TensorProto.FLOAT, [1, 4])], [("y", TensorProto.FLOAT, [1, 4])]
    )
    graph = read_graph(file)
    assert [cut.tensor for cut in cut_points(graph)] == ["a"]  # behind it ONNX knows no shape
    refused = call(file=file)
    assert "All operations cost 0" in str(refused.exception)


def test_splits_for_a_scenario_take_its_own_numbers(tmp_path):
    """Heads and tails of each placement add up to the whole in time and energy; a scenario takes them."""
    file = residual(tmp_path / "efficientnet-b0.onnx")
    out = tmp_path / "placements.yaml"
    arguments = [
        "--scenario",
        "split",
        "--wire",
        "uint8",
        "--placements",
        str(out),
        "--cut",
        "stem",
        "--cut",
        "cut-003",
    ]
    result = CliRunner().invoke(app, ["partition", str(file), *arguments])
    assert result.exit_code == 0, result.output
    rows = [Placement.model_validate(row) for row in yaml.safe_load(out.read_text())["placements"]]
    names = ["local", "edge", "north", "edge-cut-001", "edge-cut-003", "north-cut-001", "north-cut-003"]
    assert [row.name for row in rows] == names
    whole = {row.node: row for row in rows if row.split is None}
    macs = 3 * 9216 + 20
    for row in rows[3:]:
        assert row.split is not None
        share = {"cut-001": 9216, "cut-003": 3 * 9216}[row.split.cut] / macs
        assert mean_ms(row.split.service) == pytest.approx(share * mean_ms(whole["local"].service), rel=1e-3)
        assert row.split.active_energy_j == pytest.approx(share * whole["local"].active_energy_j, rel=1e-3)
        assert mean_ms(row.service) == pytest.approx(
            (1 - share) * mean_ms(whole[row.node].service), rel=1e-3, abs=1e-3
        )
        assert row.split.activation_kb == 0.264
        assert row.split.service.distribution == "lognormal"
    content = yaml.safe_load(out.read_text())
    site = tmp_path / "mine.yaml"
    site.write_text(yaml.safe_dump({"extends": "split", "name": "mine", "description": "mine"} | content))
    assert [p.name for p in load_scenario(site).placements] == names


def test_placements_from_a_nodes_file_need_the_accuracy(call, tmp_path):
    out = tmp_path / "placements.yaml"
    refused = call("--placements", str(out))
    assert "needs --accuracy PERCENT" in str(refused.exception)
    assert not out.exists()
    assert call("--placements", str(out), "--accuracy", "70", "--objective", "energy").exit_code == 0
    rows = [Placement.model_validate(row) for row in yaml.safe_load(out.read_text())["placements"]]
    assert [row.name for row in rows[:2]] == ["local", "edge"]
    assert rows[0].service.mean_ms == 80.0
    assert rows[2].split is not None
    costless = call("--placements", str(out), "--accuracy", "70", "--cut", "flat")
    assert costless.exit_code == 0
    by_eq5 = call("--placements", str(out), "--accuracy", "70", "--cut", "flat", "--costs", "eq5")
    assert by_eq5.exit_code == 0


def test_a_part_that_costs_nothing_has_no_placement(tmp_path, call):
    file = masks(tmp_path / "masks.onnx")
    refused = call("--placements", str(tmp_path / "p.yaml"), "--accuracy", "70", "--cut", "pixels", file=file)
    assert "The head of cut-001 costs nothing by these costs" in str(refused.exception)


def test_a_scenarios_nodes_and_links_are_its_middle():
    site = load_scenario("khan-emu-a")
    made = chain_of_scenario(site, "segformer-b0") if _serves(site, "segformer-b0") else None
    middle = conditions(site, None)
    (link,) = site.links.values()
    (phase,) = link.source.phases  # type: ignore[union-attr]
    assert middle.rtt_ms == {next(iter(site.links)): pytest.approx(phase.rtt_ms)}
    assert made is None or made.links[0].rate_mbps == pytest.approx(phase.rate_mbps)
    split = chain_of_scenario(load_scenario("split"), "efficientnet-b0")
    assert [node.name for node in split.nodes] == ["device", "edge", "north"]
    assert 8 < split.links[0].rate_mbps < 40
    assert split.links[1].rtt_ms == pytest.approx(split.links[0].rtt_ms + 12)
    assert split.payload_kb == 150.5
    device = split.nodes[0]
    assert device.active_power_w * device.whole_model_ms / 1000 == pytest.approx(13.4)


def _serves(site, model: str) -> bool:
    return {"local"} < {p.node for p in site.placements if p.model == model}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nodes": [DEVICE | {"speed": 2.0}, EDGE]}, "give one of speed, whole_model_ms, gmac_per_s, got"),
        ({"nodes": [DEVICE, DEVICE]}, "names must differ"),
        ({"links": [LINK | {"to": "egde"}]}, r"links.0.to: 'egde' is not defined. Did you mean 'edge'"),
        ({"links": [LINK | {"from": "edge", "to": "device"}]}, "requests go one way"),
        ({"links": [LINK, LINK]}, "one for a pair"),
        ({"nodes": [DEVICE | {"pue": 0.9}, EDGE]}, r"nodes.0.pue: must be >= 1"),
        ({"nodes": [DEVICE | {"active_power": 1}, EDGE]}, r"active_power: unknown key"),
        ({"payload": 5}, "payload: unknown key. Did you mean|payload: unknown key. The keys"),
        ({"schema": "carbonpilot/nodes/2"}, "schema"),
    ],
)
def test_nodes_files_that_cannot_be(tmp_path, change, said):
    path = tmp_path / "nodes.yaml"
    path.write_text(yaml.safe_dump(chain(**change)))
    with pytest.raises(ScenarioError, match=said):
        read_chain(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --nodes FILE or --scenario NAME"),
        (["--scenario", "split"], r"Unknown model of scenario split \(--as\) 'm'.*Known: efficientnet-b0"),
        (["--scenario", "spilt"], "Did you mean 'split'"),
        (["--nodes", "nowhere.yaml"], "There is no file"),
        (["--cuts", "--plot", "/"], "this is a folder"),
    ],
)
def test_calls_that_cannot_be(model, arguments, said):
    result = CliRunner().invoke(app, ["partition", str(model), *arguments])
    assert isinstance(result.exception, InputError), result.output
    assert re.search(said, str(result.exception))


def test_models_that_cannot_be_planned(tmp_path, call):
    assert "has no valid cut" in str(call(file=tangled(tmp_path / "t.onnx")).exception)
    few = Network()
    few.add("MatMul", ["x", few.constant("w", weights(4, 4))], "a")
    few.add("Relu", ["a"], "y")
    file = few.save(
        tmp_path / "few.onnx", [("x", TensorProto.FLOAT, [1, 4])], [("y", TensorProto.FLOAT, [1, 4])]
    )
    cloud = EDGE | {"name": "cloud"}
    onward = LINK | {"from": "edge", "to": "cloud"}
    three = chain(nodes=[DEVICE, EDGE, cloud], links=[LINK, onward])
    assert "3 nodes are to have a part each, and 1 cuts make 2 parts" in str(
        call("--objective", "balance", file=file, nodes=three).exception
    )
