"""CarbonEdge, AMP4EC and Monolithic as policies: the protocol on every site, what they read, their parameters."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents.carbonedge_policy import MODES, NAMES, TUNABLES, CarbonEdge, make
from carbonpilot.agents.carbonedge_score import AMP4EC_WEIGHTS, TABLE_I, Limits, Weights
from carbonpilot.agents.carbonedge_view import Beliefs, NodeView
from carbonpilot.agents.policy import Policy
from carbonpilot.agents.rollout import run_policy
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.observation import build_table
from carbonpilot.envs.scenario import load_scenario, shipped_scenarios
from carbonpilot.envs.tape import evaluation_seeds

SITES = {name: load_scenario(name) for name in shipped_scenarios()}
PAPER, METRO = SITES["carbonedge"], SITES["metro"]
ALL_NAMES = [*NAMES, "carbonedge-green-kwh", "carbonedge-balanced-minmax"]


def observations(scenario, batch, seed=0):
    """Observations uniform over the Box (B, F)."""
    table = build_table(scenario)
    return np.random.default_rng(seed).uniform(table.low, table.high, (batch, len(table))).astype(np.float32)


def masks(scenario, batch, seed=0):
    """Random masks (B, P) that always allow local."""
    mask = np.random.default_rng(seed).random((batch, len(scenario.placements))) < 0.6
    mask[:, 0] = True
    return mask


def seen(scenario, **raw):
    """One observation in which all nodes are idle, quick and on 500 g/kWh, with some features set."""
    table = build_table(scenario)
    values = dict.fromkeys(table.names, 0.0)
    values.update({name: 500.0 for name in table.names if name.endswith("carbon_g_per_kwh")})
    values.update({f"{p.name}_latency_ms": 100.0 for p in scenario.placements})
    return table.encode({**values, **raw})


def everything(scenario):
    return np.ones(len(scenario.placements), dtype=bool)


def index(scenario, name):
    return [p.name for p in scenario.placements].index(name)


# -- the protocol -------------------------------------------------------------------------------------


def test_names_are_those_of_the_contract():
    assert NAMES == (
        "carbonedge-performance",
        "carbonedge-balanced",
        "carbonedge-green",
        "amp4ec",
        "monolithic",
    )
    assert set(TUNABLES) == set(NAMES)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_site_batch_equals_single_and_masks_hold(site, name):
    scenario = SITES[site]
    policy, alone = make(name, scenario), make(name, scenario)
    assert isinstance(policy, Policy)
    assert policy.name == name
    steps = [(observations(scenario, 6, s), masks(scenario, 6, s)) for s in range(12)]
    policy.reset(6)
    together = np.array([policy.decide(o, m) for o, m in steps])
    assert together.dtype == np.int64
    for (_, mask), choice in zip(steps, together, strict=True):
        assert mask[np.arange(6), choice].all()
    for column in range(6):
        alone.reset(1)
        single = [alone.decide(o[column], m[column]) for o, m in steps]
        assert single == together[:, column].tolist()
        assert isinstance(single[0], int)


@pytest.mark.parametrize("site", [s for s in SITES if SITES[s].split != "traces"])
def test_green_emits_least_in_the_simulator(site):
    """Green below Balanced below Performance, or equal, on the same tapes."""
    short = SITES[site].episode.model_copy(update={"requests": min(SITES[site].episode.requests, 200)})
    scenario = SITES[site].model_copy(update={"episode": short})
    carbon = [
        run_policy(make(name, scenario), scenario, evaluation_seeds(5, 8)).carbon_mg.mean()
        for name in ("carbonedge-performance", "carbonedge-balanced", "carbonedge-green")
    ]
    assert carbon[1] <= carbon[0] * 1.01
    assert carbon[2] <= carbon[1] * 1.01


def test_reset_forgets():
    policy = make("amp4ec", PAPER)
    first = []
    for _ in range(2):
        policy.reset(1)
        first.append([policy.decide(seen(PAPER), everything(PAPER)) for _ in range(7)])
    assert first[0] == first[1]


# -- what decides -------------------------------------------------------------------------------------


def test_green_goes_where_the_grid_is_clean():
    """All else equal the cleanest grid wins, under every form of S_C, and Monolithic does not care."""
    clean = seen(PAPER, green_carbon_g_per_kwh=100.0)
    for name in ("carbonedge-green", "carbonedge-green-kwh", "carbonedge-green-minmax"):
        assert make(name, PAPER).decide(clean, everything(PAPER)) == index(PAPER, "green")
    assert make("monolithic", PAPER).decide(clean, everything(PAPER)) == 0


def test_modes_trade_speed_for_carbon():
    """A dirty quick node against a clean slow one."""
    raw = {f"{p.name}_latency_ms": 280.0 for p in PAPER.placements}
    raw.update(high_latency_ms=10.0, high_carbon_g_per_kwh=520.0)
    choice = {name: make(name, PAPER).decide(seen(PAPER, **raw), everything(PAPER)) for name in MODES}
    assert choice["carbonedge-performance"] == index(PAPER, "high")
    raw.update(high_carbon_g_per_kwh=900.0, green_carbon_g_per_kwh=50.0)
    assert make("carbonedge-green", PAPER).decide(seen(PAPER, **raw), everything(PAPER)) == index(
        PAPER, "green"
    )


def test_a_forbidden_node_is_not_scored():
    """The mask comes before the choice: the second best wins, not the device."""
    raw = {"green_carbon_g_per_kwh": 100.0, "medium_carbon_g_per_kwh": 200.0}
    mask = everything(PAPER)
    mask[index(PAPER, "green")] = False
    assert make("carbonedge-green", PAPER).decide(seen(PAPER, **raw), mask) == index(PAPER, "medium")


def test_an_overloaded_node_is_passed_over():
    raw = {f"{p.name}_latency_ms": 20.0 for p in METRO.placements if p.node == "north"}
    clean = {"north_carbon_g_per_kwh": 20.0, **raw}
    north = index(METRO, "north-b0")
    green = make("carbonedge-green", METRO, {"carbon_weight": 1.0})
    assert green.decide(seen(METRO, north_load=0.79, **clean), everything(METRO)) == north
    assert green.decide(seen(METRO, north_load=0.81, **clean), everything(METRO)) != north
    patient = make("carbonedge-green", METRO, {"carbon_weight": 1.0, "overload": 0.9})
    assert patient.decide(seen(METRO, north_load=0.81, **clean), everything(METRO)) == north


def test_a_slow_node_is_passed_over_and_nobody_means_the_device():
    late = {f"{p.name}_latency_ms": METRO.slo.latency_ms + 1 for p in METRO.placements}
    late["north_carbon_g_per_kwh"] = 10.0
    assert make("carbonedge-green", METRO).decide(seen(METRO, **late), everything(METRO)) == 0
    lenient = make("carbonedge-green", METRO, {"latency_limit_slo": 1.5})
    assert METRO.placements[lenient.decide(seen(METRO, **late), everything(METRO))].node == "north"


def test_an_unanswered_request_counts_as_a_task():
    """S_B: 1 of an idle node against 1/3 of one that has ours."""
    view = NodeView(PAPER)
    waiting = seen(PAPER, high_outstanding_ms=70.0, device_backlog_ms=300.0)[None]
    assert view.records(waiting).task_count.tolist() == [[2.0, 1.0, 0.0, 0.0]]  # 300 ms are two of 254.85
    far = seen(PAPER, high_outstanding_ms=1e9)[None]
    assert view.records(far).task_count[0, 1] == 1.0
    busy = seen(PAPER, high_outstanding_ms=70.0, high_latency_ms=99.9)
    assert make("carbonedge-performance", PAPER).decide(busy, everything(PAPER)) != index(PAPER, "high")


def test_records_of_a_site():
    """Intensities, loads and energies stand where they belong."""
    raw = {
        "south_carbon_g_per_kwh": 123.0,
        "edge_load": 0.4,
        "device_heat": 0.3,
        "device_carbon_g_per_kwh": 7.0,
    }
    records = NodeView(METRO).records(seen(METRO, **raw)[None])
    at = {p.name: i for i, p in enumerate(METRO.placements)}
    assert records.carbon_g_per_kwh[0, at["south-b0"]] == pytest.approx(123.0)
    assert records.carbon_g_per_kwh[0, 0] == pytest.approx(7.0)
    assert records.load[0, [0, at["edge-b0"], at["edge-b4"]]] == pytest.approx([0.3, 0.4, 0.4])
    assert records.free[0, at["edge-b0"]] == pytest.approx(0.6)
    beliefs = Beliefs.of(METRO)
    for i, p in enumerate(METRO.placements):
        pue = 1.0 if p.node == "local" else METRO.nodes[p.node].pue
        joules = beliefs.power_w[i] * beliefs.execution_ms[i] / 1000
        assert joules == pytest.approx(p.active_energy_j * pue)


def test_no_report_is_no_load():
    """Nodes of the paper's scenario report nothing, whatever stands in the other features."""
    loads = NodeView(PAPER).records(observations(PAPER, 20)).load
    assert (loads[:, 1:] == 0).all()


def test_amp4ec_spreads_what_it_gives():
    """Equal nodes take turns, because the count of tasks given is never forgotten."""
    policy = make("amp4ec", PAPER)
    policy.reset(1)
    turns = [policy.decide(seen(PAPER), everything(PAPER)) for _ in range(8)]
    assert sorted(turns[:4]) == sorted(turns[4:]) == [0, 1, 2, 3]
    modes = make("carbonedge-performance", PAPER)
    assert len({modes.decide(seen(PAPER), everything(PAPER)) for _ in range(8)}) == 1


def test_without_the_device_it_only_takes_what_nobody_takes():
    policy = CarbonEdge(PAPER, "x", TABLE_I["performance"], Limits(), device_is_node=False)
    quick = seen(PAPER, monolithic_latency_ms=1.0)
    assert policy.decide(quick, everything(PAPER)) != 0
    only_device = np.array([True, False, False, False])
    assert policy.decide(quick, only_device) == 0


# -- parameters ---------------------------------------------------------------------------------------


def test_defaults_are_the_papers():
    for name, weights in MODES.items():
        assert make(name, METRO).weights == pytest.approx(weights)
        assert make(name, METRO).limits == Limits(0.8, METRO.slo.latency_ms)
        assert make(name, METRO).carbon_form == "as_published"
    assert make("amp4ec", METRO).weights == pytest.approx(AMP4EC_WEIGHTS)


@pytest.mark.parametrize("name", NAMES)
def test_tunables_have_their_defaults_in_range_and_are_taken(name):
    for tunable in TUNABLES[name]:
        assert tunable.low <= tunable.default <= tunable.high
        assert tunable.meaning
        for value in (tunable.low, tunable.high):
            make(name, METRO, {tunable.name: value})
    defaults = {t.name: t.default for t in TUNABLES[name]}
    o, m = observations(METRO, 50), masks(METRO, 50)
    plain, given = make(name, METRO), make(name, METRO, defaults)
    plain.reset(50)
    given.reset(50)
    assert plain.decide(o, m).tolist() == given.decide(o, m).tolist()


def test_carbon_weight_leaves_the_rest_to_the_others():
    weights = make("carbonedge-performance", METRO, {"carbon_weight": 0.24, "load_weight": 0.55}).weights
    assert weights == pytest.approx(
        Weights(0.152, 0.3344, 0.1824, 0.0912, 0.24)
    )  # 0.25 0.55 0.30 0.15 of 0.76


def test_forms_by_option_and_by_name():
    assert make("carbonedge-green", METRO, {"carbon_form": "kwh"}).carbon_form == "kwh"
    assert make("carbonedge-green-minmax", METRO).carbon_form == "minmax"
    assert make("carbonedge-green-as_published", METRO).carbon_form == "as_published"


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("carbonedge-gren", {}, "Did you mean 'carbonedge-green'"),
        ("amp4ec-kwh", {}, "Unknown CarbonEdge policy"),
        ("carbonedge-green", {"carbon_form": "kw"}, "Unknown form of S_C 'kw'"),
        ("carbonedge-green", {"carbon_wait": 0.1}, "Did you mean 'carbon_weight'"),
        ("carbonedge-green", {"carbon_weight": 1.1}, "carbon_weight of .* must lie in 0 to 1, got 1.1"),
        ("carbonedge-green", {"overload": float("nan")}, "must lie in 0.3 to 1, got nan"),
        ("carbonedge-green", {"overload": "high"}, "got 'high'"),
        ("amp4ec", {"carbon_weight": 0.5}, "Unknown parameter of amp4ec"),
        ("amp4ec", {"carbon_form": "kwh"}, "Unknown parameter of amp4ec"),
        ("monolithic", {"overload": 0.5}, "Unknown parameter of monolithic"),
        ("amp4ec", dict.fromkeys([t.name for t in TUNABLES["amp4ec"][:4]], 0.0), "nothing can share"),
    ],
)
def test_wrong_parameters(name, parameters, text):
    with pytest.raises(InputError, match=text):
        make(name, METRO, parameters)
