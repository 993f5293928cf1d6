"""At every tipping value the simulator's own physics give the two placements the same carbon or latency."""

import numpy as np
import pytest

from carbonpilot.envs.scenario import merge
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.validation import validated
from carbonpilot.oracle.breakeven import break_even
from carbonpilot.oracle.breakeven_costs import ACCOUNTS
from carbonpilot.oracle.breakeven_forms import (
    intensity_ratio,
    radio_energy_j,
    server_energy_j,
    tipping_batch,
    tipping_payload_kb,
    tipping_rate_mbps,
)

RADIO = {"transmit_power_w": 2.0, "tail_power_w": 1.2, "tail_s": 4.0}


@pytest.fixture
def site(tiny):
    """A function that builds the tiny site without chance: even arrivals, fixed service, constant link and grids."""
    plain = {
        "arrivals": {"kind": "periodic", "low_per_s": 10, "high_per_s": 10, "jitter_fraction": 0.0},
        "payload": {"low_kb": 50, "high_kb": 50},
        "links": {
            "uplink": {
                "source": {
                    "kind": "phases",
                    "phases": [{"rtt_ms": 20, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": 40}],
                },
                "transfer": {"model": "empirical", "congestion_control": None},
            }
        },
        "nodes": {"edge": {"background": None, "batching": None}},
    }
    tiny["placements"][0]["service"] = {"distribution": "deterministic", "mean_ms": 60}
    tiny["placements"][1]["batched_energy_j"] = None

    def build(**changes) -> Scenario:
        return validated(Scenario, merge(merge(tiny, plain), changes), "site")

    return build


def outcomes(scenario, played=0, steps=4, batch=1):
    """Outcomes of every placement after some requests of one of them."""
    simulator = Simulator(scenario, batch)
    simulator.reset(np.arange(batch))
    for _ in range(steps):
        simulator.step(np.full(batch, played))
    return simulator.preview()


def tip(scenario, *what, pair=("local", "edge-b0")):
    found = break_even(scenario).pair(*pair).tip(*what)
    assert found is not None
    return found


def zones(ratio, home=400.0):
    return {
        "home": {"kind": "constant", "carbon_g_per_kwh": home},
        "away": {"kind": "constant", "carbon_g_per_kwh": home * ratio},
    }


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize("radio", [None, "awake", "asleep"])
def test_intensity_ratio(site, account, radio):
    device = {"radio": RADIO} if radio else {}
    # Enough energy at home that offloading can pay for the radio's tail.
    dear = site(device=device, zones=zones(1.0)).model_dump(by_alias=True)
    dear["placements"][0]["active_energy_j"] = 9.0
    value = tip(Scenario.model_validate(dear), "carbon", "intensity_ratio", account, radio or "awake").value
    assert value is not None
    dear["zones"] = zones(value)
    offloading = 1 if radio == "awake" else 0
    local, edge = outcomes(Scenario.model_validate(dear), played=offloading)
    here, there = (getattr(o, f"carbon_mg_{account}")[0] for o in (local, edge))
    assert there == pytest.approx(here, rel=1e-5)
    dear["zones"] = zones(0.9 * value)
    local, edge = outcomes(Scenario.model_validate(dear), played=offloading)
    assert getattr(edge, f"carbon_mg_{account}")[0] < getattr(local, f"carbon_mg_{account}")[0]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_zone_against_zone_with_more_distance(site, tiny, account):
    far = {**site().model_dump(by_alias=True)["nodes"]["edge"], "zone": "far", "extra_rtt_ms": 30, "pue": 1.5}
    placement = {**tiny["placements"][1], "name": "far-b0", "node": "far", "batched_energy_j": None}
    three = {**zones(0.5), "far": {"kind": "constant", "carbon_g_per_kwh": 100}}
    data = site(zones=three, device={"radio": RADIO}).model_dump(by_alias=True)
    data["nodes"]["far"] = far
    data["placements"].append(placement)
    value = tip(
        Scenario.model_validate(data),
        "carbon",
        "intensity_ratio",
        account,
        "awake",
        pair=("edge-b0", "far-b0"),
    ).value
    assert value == pytest.approx(1.2 / 1.5 if account == "marginal" else value)
    data["zones"]["far"]["carbon_g_per_kwh"] = 200 * value
    _, edge, there = outcomes(Scenario.model_validate(data), played=1)
    assert getattr(there, f"carbon_mg_{account}")[0] == pytest.approx(
        getattr(edge, f"carbon_mg_{account}")[0], rel=1e-5
    )


@pytest.mark.parametrize(("quantity", "key"), [("payload_kb", None), ("rate_mbps", "rate_mbps")])
def test_payload_and_rate(site, quantity, key):
    changes = {"device": {"radio": RADIO}, "zones": zones(0.35)}
    found = tip(site(**changes), "carbon", quantity, "marginal", "awake")
    assert found.value is not None
    if key is None:
        changes["payload"] = {"low_kb": found.value, "high_kb": found.value}
        assert found.below == "edge-b0"
    else:
        phase = {"rtt_ms": 20, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": found.value}
        changes["links"] = {"uplink": {"source": {"phases": [phase]}}}
        assert found.above == "edge-b0"
    local, edge = outcomes(site(**changes), played=1, steps=12)
    assert edge.carbon_mg_marginal[0] == pytest.approx(local.carbon_mg_marginal[0], rel=1e-4)


def test_a_tip_where_the_link_is_full(site):
    """Beyond the link's rate the radio never pauses: the tip is where the bent line is zero."""
    found = tip(site(device={"radio": RADIO}, zones=zones(0.3)), "carbon", "rate_mbps", "marginal", "awake")
    assert found.value is not None
    assert found.value < 50 * 8 * 10 / 1000  # 4 Mbit/s arrive
    assert (found.below, found.above) == ("local", "edge-b0")


def shared(load, distribution="deterministic", **batching):
    background = {
        "service_ms": 18, "service_distribution": distribution, "phases": [{"load": load}],
        **dict.fromkeys(("mean_low_load", "mean_high_load", "ar1_per_s", "sigma_load")),
    }  # fmt: skip
    return {"edge": {"background": background, "batching": batching or None}}


def batched(site, load, ratio):
    batching = {"max_batch": 8, "queue_delay_ms": 2, "marginal_service_share": 0.3}
    data = site().model_dump(by_alias=True)
    data["placements"][1]["batched_energy_j"] = 0.5
    data["nodes"] = merge(data["nodes"], shared(load, **batching))
    data["zones"] = zones(ratio)
    return Scenario.model_validate(data)


def test_ratio_at_the_mean_batch_of_a_load(site):
    """Averaged over many moments of the node's history, one at a time."""
    value = tip(batched(site, 0.6, 1.0), "carbon", "intensity_ratio", "marginal", "awake").value
    local, edge = outcomes(batched(site, 0.6, value), batch=4096, steps=1)
    error = edge.carbon_mg_marginal.std() / 64 / local.carbon_mg_marginal.mean()
    assert edge.carbon_mg_marginal.mean() == pytest.approx(
        local.carbon_mg_marginal.mean(), rel=0.01 + 3 * error
    )


def test_the_tipping_batch_is_the_batch_that_tips(site):
    alone, more, network = 1.2 * 2.0, 1.2 * 0.5, 50 * 8e3 * 10e-9
    ratio = (1.0 - network) / ((alone - more) / 3 + more)  # at a batch of 3
    scenario = batched(site, 0.7, ratio)
    found = tip(scenario, "carbon", "batch", "marginal", "awake")
    assert found.value == pytest.approx(3.0, rel=1e-6)
    assert (found.below, found.above) == ("local", "edge-b0")
    local, edge = outcomes(scenario, batch=512, steps=1)
    batch = (alone - more) / (edge.server_energy_j - more)
    threes = np.isclose(batch, 3.0)
    assert threes.any()
    np.testing.assert_allclose(edge.carbon_mg_marginal[threes], local.carbon_mg_marginal[threes], rtol=1e-5)
    assert (edge.carbon_mg_marginal[batch > 3.5] < local.carbon_mg_marginal[batch > 3.5]).all()
    assert (edge.carbon_mg_marginal[batch < 2.5] > local.carbon_mg_marginal[batch < 2.5]).all()


def test_the_formulas_of_the_page_are_what_the_pairs_use(site):
    """docs/breakeven.md prints the solved forms; the pairs find the same roots on their straight lines."""
    scenario = merge(batched(site, 0.6, 0.44).model_dump(by_alias=True), {"device": {"radio": RADIO}})
    result = break_even(Scenario.model_validate(scenario))
    pair, here = result.pair("local", "edge-b0"), result.site
    terms, batch = here.terms["edge-b0"], here.batch("edge")
    server_j, sending_ms = server_energy_j(terms.shared_j, terms.own_j, batch), 50 * 8 / 40
    network_j, radio_j = 50 * 8e3 * 10e-9, radio_energy_j(sending_ms, 100 - sending_ms, 2.0, 1.2, 4000.0)
    # A kB more of sending costs transmit power and spares tail power.
    values = {
        "intensity_ratio": intensity_ratio(1.0, network_j + radio_j, server_j),
        "batch": tipping_batch(1.0, network_j + radio_j, terms.shared_j, terms.own_j, 0.44),
        "payload_kb": tipping_payload_kb(1.0 - 0.12, server_j, 0.44, 8e3 * 10e-9, 2.0 - 1.2, 40.0),
        "rate_mbps": tipping_rate_mbps(1.0, server_j, 0.44, network_j + 0.12, 50.0, 2.0 - 1.2),
    }
    for quantity, value in values.items():
        found = pair.tip("carbon", quantity, "marginal", "awake")
        assert found.value == pytest.approx(float(value), rel=1e-6), quantity


def test_the_share_is_what_the_simulator_finds(site):
    scenario = batched(site, 0.7, 0.8)
    local, edge = outcomes(scenario, batch=4096, steps=1)
    found = (edge.carbon_mg_marginal < local.carbon_mg_marginal).mean()
    assert break_even(scenario).pair("local", "edge-b0").share_b_greener == pytest.approx(found, abs=0.03)


def test_carbon_over_load(tiny_scenario):
    """More tenants make larger batches: greener from the load up whose mean of 1 / batch is the tipping batch's."""
    # Sending costs 0.004 J, a batch of 2 another 1.5 J x 1.2 / 2 + 0.6 J at the server.
    scenario = tiny_scenario(zones=zones(0.7), payload={"low_kb": 50, "high_kb": 50})
    result = break_even(scenario)
    load, batch = (
        result.pair("local", "edge-b0").tip("carbon", q, "marginal", "awake") for q in ("load", "batch")
    )
    assert load.above == batch.above == "edge-b0"
    inverse = result.site.curves["edge"].at("inverse_batch", load.value)
    assert 1 / inverse == pytest.approx(batch.value, rel=0.01)  # straight lines between the levels
    assert load.low < load.value < 0.96


@pytest.mark.parametrize("quantity", ["round_trip_ms", "rate_mbps"])
def test_latency_without_chance(site, quantity):
    found = tip(site(), "mean_latency", quantity)
    phase = {"rtt_ms": 20.0, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": 40.0}
    phase[{"round_trip_ms": "rtt_ms"}.get(quantity, quantity)] = found.value
    local, edge = outcomes(site(links={"uplink": {"source": {"phases": [phase]}}}), played=1)
    assert edge.latency_ms[0] == pytest.approx(local.latency_ms[0], rel=1e-5)
    assert found.share_below in (0.0, 1.0)


def mean_latency(scenario, placement, batch=96, requests=300, skip=100):
    simulator = Simulator(scenario, batch)
    simulator.reset(np.arange(batch))
    seen = [simulator.step(np.full(batch, placement)).outcome.latency_ms for _ in range(requests)]
    return np.array(seen[skip:])


def test_arrival_rate_against_played_queues(site):
    """M/D/1 on the device against M/D/1 and the link: the faster one changes at the tipping rate."""

    def poisson(rate):
        arrivals = {"kind": "poisson", "low_per_s": rate, "high_per_s": rate}
        phase = {"rtt_ms": 60, "jitter_ms": 0, "loss_pct": 0, "rate_mbps": 40}
        return site(
            arrivals=arrivals, episode={"requests": 300}, links={"uplink": {"source": {"phases": [phase]}}}
        )

    found = tip(poisson(5), "mean_latency", "arrival_per_s")
    assert (found.below, found.above) == ("local", "edge-b0")
    there = poisson(found.value)
    local, edge = (mean_latency(there, p).mean() for p in (0, 1))
    assert edge == pytest.approx(local, rel=0.04)


def test_load_against_played_queues(site):
    """M/D/1 shared with tenants, Ng et al. eq (11)."""
    quiet = {"arrivals": {"low_per_s": 2, "high_per_s": 2}, "episode": {"requests": 300}}
    found = tip(site(nodes=shared(0.3), **quiet), "mean_latency", "load")
    assert found.below == "edge-b0"
    there = site(nodes=shared(found.value), **quiet)
    local, edge = (mean_latency(there, p).mean() for p in (0, 1))
    assert edge == pytest.approx(local, rel=0.05)


def test_the_objective_against_played_queues(site):
    quiet = {
        "arrivals": {"low_per_s": 2, "high_per_s": 2},
        "episode": {"requests": 300},
        "slo": {"latency_ms": 90},
    }
    result = break_even(site(nodes=shared(0.3, "exponential"), **quiet))
    limit = next(t for t in result.slo["edge-b0"] if t.quantity == "load")
    assert (limit.below, limit.above) == ("met", "missed")
    there = site(nodes=shared(limit.value, "exponential"), **quiet)
    assert np.quantile(mean_latency(there, 1), 0.95) == pytest.approx(90.0, rel=0.08)
