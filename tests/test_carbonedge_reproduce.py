"""`carbonpilot reproduce carbonedge`: the contract, the figures, the switch, and that no figure is typed in."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path

import pytest

from carbonpilot.agents import carbonedge, carbonedge_cells, carbonedge_runs
from carbonpilot.agents import carbonedge_notes as notes
from carbonpilot.agents import carbonedge_paper as paper
from carbonpilot.agents.carbonedge_cell import OTHER, cell
from carbonpilot.agents.carbonedge_runs import CALIBRATED, PRINTED_RANGES, READINGS, Key
from carbonpilot.agents.carbonedge_score import TABLE_I, total_score, with_carbon_weight
from carbonpilot.agents.carbonedge_sweep import WEIGHTS_C, exact_switch, idle_scores, score_range, sweep
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.units import J_PER_KWH

DOCS = Path(__file__).resolve().parent.parent / "docs" / "reproduce-carbonedge.md"
CELL_KEYS = ["table", "row", "column", "unit", "paper", "ours", "relative_error", "kind", "note"]
V2 = paper.MOBILENET_V2


@pytest.fixture(scope="module")
def runs():
    return carbonedge_runs.play_all(seed=3)


@pytest.fixture(scope="module")
def sweeps():
    site = carbonedge_runs.model_scenario(V2)
    return [sweep(site, reading, seed=3) for reading in READINGS]


@pytest.fixture(scope="module")
def scores():
    site = carbonedge_runs.model_scenario(V2)
    return {reading.name: idle_scores(site, reading) for reading in READINGS}


@pytest.fixture(scope="module")
def cells(runs, sweeps, scores):
    return carbonedge_cells.all_cells(runs, sweeps, scores, (0.05, 0.001))


def one(cells, table, row, column):
    (found,) = [c for c in cells if (c.table, c.row, c.column) == (table, row, column)]
    return found


# -- the contract -------------------------------------------------------------------------------------


def test_files(runs, cells, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(carbonedge, "play_all", lambda seed: runs)
    monkeypatch.setattr(carbonedge, "decision_ms", lambda batch: 0.05)
    file, folder = tmp_path / "cells.json", tmp_path / "plots"
    assert carbonedge.reproduce(file, folder) == 0
    content = json.loads(file.read_text())
    assert set(content) == {"schema", "carbonpilot_version", "scenario", "scenario_sha256", "seed", "cells"}
    assert content["scenario"] == "carbonedge"
    assert len(set(content["scenario_sha256"].values())) == 3
    assert len(content["cells"]) == len(cells)
    for record in content["cells"]:
        assert list(record) == CELL_KEYS
        assert record["kind"] in ("fitted", "predicted", "not_reproducible")
    picture = (folder / "carbonedge-sweep.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", picture[16:24])
    assert width > 1000
    assert height > 800
    printed = " ".join(capsys.readouterr().out.split())
    assert "P [W] x T [ms] / 3 600 000 is Wh" in printed
    assert "MobileNetV4 27.2 % (printed 14.8)" in printed
    assert "printed ranges 0.5;" in printed


def test_outputs_that_cannot_be_written_stop_before_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(carbonedge, "play_all", lambda *_: pytest.fail("ran first"))
    monkeypatch.setattr(carbonedge, "sweep", lambda *_: pytest.fail("ran first"))
    with pytest.raises(InputError, match="folder"):
        carbonedge.reproduce(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, not a folder"):
        carbonedge.reproduce(None, tmp_path / "file")


def test_every_printed_cell_is_there_once(cells):
    places = [(c.table, c.row, c.column) for c in cells]
    assert len(set(places)) == len(places)
    by_table = {table: sum(c.table == table for c in cells) for table in dict.fromkeys(p[0] for p in places)}
    printed = {table: count for table, count in by_table.items() if not table.endswith(OTHER)}
    assert printed == {
        "Table II": 5 * 3 + 4, "Section IV-C": 5, "Section V-A": 1, "Table IV": 6 * 2 + 3, "Table V": 9,
        "Section IV-F": 3, "Fig. 3": 1,
    }  # fmt: skip


def test_printed_figures_are_the_papers(cells):
    """Spot checks typed from the paper, not from our record of it."""
    assert one(cells, "Table II", "CE-Performance", "carbon").paper == 0.0067
    assert one(cells, "Table II", "AMP4EC", "reduction").paper == -6.7
    assert one(cells, "Table II", "CE-Balanced", "throughput").paper == 3.70
    assert one(cells, "Table IV", "EfficientNet-B0, CE-Green", "carbon").paper == 0.00134
    assert one(cells, "Table IV", "MobileNetV4, Monolithic", "latency").paper == 82.96
    assert one(cells, "Section IV-C", "CE-Green", "inferences per gram").paper == 245.8
    assert one(cells, "Section IV-C", "Monolithic", "inferences per gram").paper == 189.5
    assert one(cells, "Section IV-F", "one task", "scheduling").paper == 0.03


# -- the figures --------------------------------------------------------------------------------------


def test_only_monolithic_carbon_is_fitted(cells):
    """Latencies are the scenario's service times; of the carbons only the monolithic rows were used."""
    for c in cells:
        if c.kind == "fitted":
            assert abs(c.relative_error) < 0.01, c
            assert (
                c.column == "latency" or "Monolithic" in c.row or c.column.startswith(("range", "latency o"))
            )
        if c.column in ("carbon", "reduction") and "Monolithic" not in c.row:
            assert c.kind != "fitted", c
        if c.kind == "predicted":
            assert abs(c.relative_error) <= 0.10, c
        if c.kind == "not_reproducible":
            assert len(c.note) > 40, c


def test_table_ii_carbon_and_reduction(cells):
    """C = 141.3 W x latency x the node's grid, and the reduction of the grids' ratio."""
    mono_g, mono_ms = 0.0053, 254.85
    for row, grid, latency_ms in (("CE-Performance", 620, 271.38), ("CE-Green", 380, 272.02)):
        carbon = mono_g * grid / 530 * latency_ms / mono_ms
        ours = one(cells, "Table II", row, "carbon")
        assert ours.ours == pytest.approx(carbon, rel=1e-3)
        assert ours.kind == "predicted"
        assert one(cells, "Table II", row, "reduction").ours == pytest.approx(
            100 * (1 - carbon / mono_g), abs=0.1
        )
    for c in cells:
        if c.table == "Table II" and c.column == "throughput":
            assert c.kind == "predicted"
            assert c.ours == pytest.approx(1000 / one(cells, "Table II", c.row, "latency").ours)


@pytest.mark.parametrize(
    ("model", "ours_pct", "kind"),
    [(V2, 23.5, "predicted"), ("MobileNetV4", 27.1, "not_reproducible"), ("EfficientNet-B0", 26.5, "not_reproducible")],
)  # fmt: skip
def test_table_iv_is_the_ratio_of_the_grids(cells, model, ours_pct, kind):
    reduction = one(cells, "Table IV", f"{model}, CE-Green", "reduction")
    assert reduction.ours == pytest.approx(ours_pct, abs=0.1)
    assert reduction.ours == pytest.approx(notes.grid_ratio_pct(model), abs=0.02)
    assert reduction.kind == kind
    assert "380/530" in reduction.note
    green = one(cells, "Table IV", f"{model}, CE-Green", "carbon")
    assert green.paper == pytest.approx(green.ours * notes.power_factor(model), rel=1e-3)


def test_models_are_calibrated_on_their_monolithic_row():
    for model, (mono, green) in paper.TABLE_IV.items():
        site = carbonedge_runs.model_scenario(model)
        local, *nodes = site.placements
        assert local.active_energy_j * 530 / J_PER_KWH == pytest.approx(mono.carbon_g, rel=1e-3)
        watts = local.active_energy_j / local.service.mean_ms
        bridge = carbonedge_runs.bridge_ms(site)
        for node in nodes:
            assert node.active_energy_j / (node.service.mean_ms + bridge) == pytest.approx(watts, rel=1e-3)
        assert nodes[-1].service.mean_ms + bridge == pytest.approx(green.latency_ms, abs=0.01)


def test_table_v(cells):
    assert {c.kind for c in cells if c.table == "Table V"} == {"predicted"}
    for c in cells:
        if c.table == "Table V":
            assert c.ours == c.paper


def test_other_readings_send_modes_elsewhere(runs):
    """Table II's own latencies make every mode green; true kWh makes Green dirty; min-max Balanced green."""
    green = {key.reading: runs[key].share_pct["green"] for key in runs if key.configuration == paper.GREEN}
    assert green["true kWh"] == 0
    assert runs[Key(V2, "Table II's latencies", paper.PERFORMANCE)].share_pct["green"] == 100
    assert runs[Key(V2, "min-max", paper.BALANCED)].share_pct["green"] == 100
    assert runs[Key(V2, PRINTED_RANGES.name, paper.BALANCED)].share_pct["high"] == 100


def test_amp4ec_spreads_and_carbonedge_does_not(runs):
    shares = runs[Key(V2, CALIBRATED.name, paper.AMP4EC)].share_pct
    assert shares["monolithic"] == 0
    assert min(shares[node] for node in paper.NODES) > 10
    even = runs[Key(V2, "Table II's latencies", paper.AMP4EC)].share_pct
    assert all(even[node] == pytest.approx(100 / 3, abs=1.5) for node in paper.NODES)


# -- the switch ---------------------------------------------------------------------------------------


def test_score_ranges(scores):
    """Section IV-F: 0.054 and 0.166; about 0.07 in Wh and 0.002 in kWh from the calibrated energies."""
    assert score_range(scores["calibrated"], "carbon") == pytest.approx(0.07, abs=0.005)
    assert score_range(scores["true kWh"], "carbon") == pytest.approx(0.0025, abs=0.0003)
    assert score_range(scores["printed ranges"], "carbon") == pytest.approx(0.054)
    assert score_range(scores["printed ranges"], "performance") == pytest.approx(0.166, abs=0.001)


def test_energies_of_a_range():
    for joules in carbonedge_runs.energy_of_range_j(0.054):
        wh = joules / 3600
        assert 1 / (1 + 380 * wh) - 1 / (1 + 620 * wh) == pytest.approx(0.054)


def test_the_switch_at_half(sweeps):
    """At w_C >= 0.50 where S_C and S_P span what is printed, one step early from the calibrated energies."""
    switch = {s.reading: s.switch for s in sweeps}
    assert switch["printed ranges"] == 0.50
    assert switch["calibrated"] == 0.45
    assert switch["true kWh"] == 1.0
    assert switch["Table II's latencies"] == 0.05


def test_the_switch_follows_the_scores(sweeps, scores):
    """What is played equals eq (3) worked out: the first step beyond the exact switch, and never back."""
    for made in sweeps[:4]:  # under min-max the nodes tie at 0.05
        ranges = [score_range(scores[made.reading], c) for c in ("carbon", "performance")]
        exact = exact_switch(*ranges, TABLE_I["performance"])
        assert made.switch == pytest.approx(math.ceil(exact / 0.05) * 0.05)
        for weight, figures in zip(WEIGHTS_C, made.figures, strict=True):
            weights = with_carbon_weight(TABLE_I["performance"], weight)
            totals = {node: float(total_score(s, weights)) for node, s in scores[made.reading].items()}
            assert figures.share_pct[max(totals, key=totals.__getitem__)] == 100.0
        green = [f.share_pct["green"] for f in made.figures]
        assert green == sorted(green)


def test_proportions_decide_where_it_switches():
    """By hand from the printed ranges: 0.3/0.95 x 0.166 / (0.3/0.95 x 0.166 + 0.054)."""
    assert exact_switch(0.054, 0.166, TABLE_I["performance"]) == pytest.approx(
        0.0524211 / 0.1064211, rel=1e-5
    )
    assert exact_switch(0.054, 0.166, TABLE_I["green"]) == pytest.approx(0.0332 / 0.0872)


# -- where the figures come from ----------------------------------------------------------------------


def test_every_figure_follows_its_run(runs, sweeps, scores, cells):
    """Double what the runs show: each carbon and latency of ours moves with them, none is typed in."""
    doubled = {
        key: dataclasses.replace(f, latency_ms=2 * f.latency_ms, carbon_g=2 * f.carbon_g)
        for key, f in runs.items()
    }
    again = carbonedge_cells.all_cells(doubled, sweeps, scores, (0.1, 0.002))
    for before, after in zip(cells, again, strict=True):
        if before.column in ("latency", "carbon", "scheduling"):
            assert after.ours == pytest.approx(2 * before.ours), before
        elif before.column in ("throughput", "inferences per gram"):
            assert after.ours == pytest.approx(before.ours / 2), before


def test_a_cell_of_zero():
    """A printed 0 % has no relative error; it is predicted only where ours is 0 as well."""
    place = ("Table V", "r", "c", "%")
    assert (cell(place, 0.0, 0.0).relative_error, cell(place, 0.0, 0.0).kind) == (0.0, "predicted")
    assert (cell(place, 0.0, 5.0).relative_error, cell(place, 0.0, 5.0).kind) == (None, "not_reproducible")


def test_scheduling_is_measured():
    assert 0 < carbonedge_runs.decision_ms(0, repeats=2, decisions=5) < 50
    assert 0 < carbonedge_runs.decision_ms(8, repeats=2, decisions=5) < 50


# -- the page -----------------------------------------------------------------------------------------


def test_page_shows_what_the_command_prints(cells):
    """Same cells in the same order, same kinds and figures; what is timed differs from machine to machine."""
    rows = [
        [part.strip() for part in line.strip().strip("|").split("|")]
        for line in DOCS.read_text().splitlines()
        if line.startswith(("| Table II", "| Table IV", "| Table V", "| Section", "| Fig."))
    ]
    assert [row[:4] for row in rows] == [[c.table, c.row, c.column, c.unit] for c in cells]
    for row, c in zip(rows, cells, strict=True):
        assert float(row[4]) == pytest.approx(c.paper)
        assert row[7] == c.kind.replace("_", " ")
        if c.column != "scheduling":
            assert float(row[5]) == pytest.approx(c.ours, rel=0.001, abs=1e-5), c
