"""The scenarios of the three papers hold what the papers print and what follows from it."""

from __future__ import annotations

import numpy as np
import pytest

from carbonpilot.agents import khan_fit, khan_paper
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.units import J_PER_KWH

KHAN = ("khan-lan", "khan-emu-a", "khan-emu-b", "khan-mixed")


def service_ms(scenario: Scenario, placement: str) -> float:
    found = next(p for p in scenario.placements if p.name == placement)
    assert found.service.mean_ms is not None
    return found.service.mean_ms


def simulate(scenario: Scenario, placement: int, episodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Issue times (s), latencies (ms) and marginal carbon (mg) of a static placement, (N, B) each."""
    simulator = Simulator(scenario, episodes, part="evaluation")
    simulator.reset(np.arange(episodes))
    kept = []
    for _ in range(scenario.episode.requests):
        outcome = simulator.step(np.full(episodes, placement)).outcome
        kept.append((outcome.issued_ms / 1000, outcome.latency_ms, outcome.carbon_mg_marginal))
    issued_s, latency_ms, carbon_mg = (np.array(column) for column in zip(*kept, strict=True))
    return issued_s, latency_ms, carbon_mg


# -- Khan et al. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KHAN)
def test_khan_common_numbers(name):
    scenario = load_scenario(name)
    assert (scenario.slo.latency_ms, scenario.slo.quantile) == (khan_paper.SLO_MS, 0.95)
    assert scenario.arrivals.kind == "closed_loop"
    assert scenario.episode.requests == 1000
    assert scenario.account == "marginal"
    assert [z.carbon_g_per_kwh for z in scenario.zones.values()] == [khan_paper.CARBON_G_PER_KWH]
    assert [p.name for p in scenario.placements] == ["local-b0", "edge-b4"]
    for placement in scenario.placements:
        printed = khan_paper.TABLE_2[placement.name]
        assert (placement.active_energy_j, placement.accuracy_miou) == (printed.energy_j, printed.miou_pct)


@pytest.mark.parametrize("name", khan_paper.TABLE_1)
def test_khan_local_service_is_table_1(name):
    local, printed = load_scenario(name).placements[0].service, khan_paper.TABLE_1[name].local
    assert (local.p50_ms, local.p95_ms) == (printed.p50_ms, printed.p95_ms)


@pytest.mark.parametrize("name", KHAN)
def test_khan_fitted_server_numbers(name):
    scenario = load_scenario(name)
    offload, edge = scenario.placements[1], scenario.nodes["edge"]
    assert (offload.service.p50_ms, offload.service.p95_ms) == pytest.approx(
        khan_fit.server_service(), abs=0.01
    )
    assert edge.batching is not None
    assert edge.batching.marginal_service_share == pytest.approx(khan_fit.batch_share(), abs=1e-4)
    assert offload.batched_energy_j == pytest.approx(
        khan_fit.batch_share() * offload.active_energy_j, abs=0.01
    )
    idle = (scenario.device.idle_power_w, edge.idle_power_w)
    assert idle == pytest.approx(khan_fit.idle_powers_w(), abs=0.06)


@pytest.mark.parametrize("name", ["khan-emu-a", "khan-emu-b"])
def test_khan_jitter_tables_are_the_fit(name):
    link = load_scenario(name).links["lan"]
    phase = link.source.phases[0]
    rtt_ms = phase.rtt_ms + phase.jitter_ms * np.array(link.transfer.jitter_quantiles)
    assert rtt_ms == pytest.approx(khan_fit.rtt_quantiles(name), abs=0.012)
    assert np.all(np.diff(rtt_ms) > 0)
    assert rtt_ms[0] == khan_paper.TABLE_1[name].shortest_rtt_ms


def test_khan_fit_follows_the_printed_row():
    """A fit that ignored its row would not move with it; here the quantiles come back from the table."""
    rng = np.random.default_rng(1)
    quantiles = khan_fit.rtt_quantiles("khan-emu-b")
    network = np.interp(rng.uniform(size=200_000), np.linspace(0, 1, quantiles.size), quantiles)
    p50, p95 = khan_fit.server_service()
    service = p50 * np.exp(np.log(p95 / p50) / khan_fit.Z95 * rng.normal(size=network.size))
    total = khan_fit.UPLOAD_MS + network + service
    assert np.quantile(total, [0.5, 0.95]) == pytest.approx([119, 183], rel=0.01)


def test_khan_mixed_changes_the_network_after_500_requests():
    scenario = load_scenario("khan-mixed")
    assert scenario.world_clock == "request"
    _, latency_ms, _ = simulate(scenario, 1, episodes=32)
    first, second = latency_ms[:500].ravel(), latency_ms[500:].ravel()
    assert np.quantile(first, [0.5, 0.95]) == pytest.approx([60, 70], rel=0.02)
    assert np.quantile(second, [0.5, 0.95]) == pytest.approx([119, 183], rel=0.02)
    assert latency_ms[499].mean() < 75  # the 500th request still has the LAN
    assert latency_ms[500].mean() > 100


# -- CarbonEdge ---------------------------------------------------------------------------------------

TABLE_II = {"monolithic": (254.85, 5.3), "high": (271.38, 6.7), "green": (272.02, 4.1)}  # ms, mg


@pytest.mark.parametrize("name", TABLE_II)
def test_carbonedge_rows(name):
    """Calibrated on the Monolithic row only; the other carbon cells are predictions (printed to 0.1 mg)."""
    scenario = load_scenario("carbonedge")
    placement = [p.name for p in scenario.placements].index(name)
    _, latency_ms, carbon_mg = simulate(scenario, placement, episodes=2)
    printed_ms, printed_mg = TABLE_II[name]
    assert latency_ms.mean() == pytest.approx(printed_ms, rel=1e-4)
    assert carbon_mg.mean() == pytest.approx(printed_mg, rel=0.002 if name == "monolithic" else 0.02)


def test_carbonedge_energies_are_one_host_power():
    """Energy goes with latency at the power that the Monolithic row gives."""
    scenario = load_scenario("carbonedge")
    mono = scenario.placements[0]
    watts = mono.active_energy_j / service_ms(scenario, "monolithic")
    bridge_ms = 0.1 + 602 * 8 / 10_000
    for placement in scenario.placements[1:]:
        ms = service_ms(scenario, placement.name) + bridge_ms
        assert placement.active_energy_j == pytest.approx(watts * ms, abs=0.02)
    grids = [scenario.zones[scenario.nodes[n].zone].carbon_g_per_kwh for n in ("high", "medium", "green")]
    assert grids == [620, 530, 380]
    assert mono.active_energy_j * 530 / J_PER_KWH == pytest.approx(0.0053, rel=1e-3)


# -- Ng et al. ----------------------------------------------------------------------------------------


def md1_ms(per_ms: float, service: float) -> float:
    """Mean wait of an M/D/1 queue, eq (6)."""
    rate = 1 / service
    return 0.5 * (1 / (rate - per_ms) - 1 / rate) if per_ms < rate else np.inf


def mm1_ms(per_ms: float, service: float) -> float:
    """Mean wait of an M/M/1 queue, eq (7)."""
    rate = 1 / service
    return 1 / (rate - per_ms) - 1 / rate if per_ms < rate else np.inf


def device_ms(service: float, per_s: float) -> float:
    """Predicted on-device latency, eq (2)."""
    return service + md1_ms(per_s / 1000, service)


def offload_ms(kb: float, mbps: float, service: float, own_per_s: float, server_per_s: float) -> float:
    """Predicted offloading latency, eq (1); the reply is part of the payload."""
    upload = 8 * kb / mbps
    return upload + mm1_ms(own_per_s / 1000, upload) + service + md1_ms(server_per_s / 1000, service)


TX2_GPU_MHZ = (1300.5, 1236.75, 1122.0, 1032.75, 930.75, 854.25, 726.75)  # its fastest clocks


def test_ng_network_choices():
    """Offload, offload, local (45 ms against 21), offload: section 5.2."""
    scenario = load_scenario("ng-network")
    kb, device, server = scenario.payload.low_kb, service_ms(scenario, "local"), service_ms(scenario, "e1")
    local = device_ms(device, 10)
    phases = scenario.links["wireless"].source.phases
    assert [p.until for p in phases] == [20, 40, 60, None]
    away = [offload_ms(kb, p.rate_mbps, server, 10, 10) for p in phases]
    assert ["offload" if t < local else "local" for t in away] == ["offload", "offload", "local", "offload"]
    assert local == pytest.approx(21, abs=0.05)
    assert away[2] == pytest.approx(45, abs=0.05)


def test_ng_network_agrees_with_figure_4b():
    """At 5 Mbit/s and 2 a second the TX2 wins on its top three frequency levels, and on no other."""
    scenario = load_scenario("ng-network")
    away = offload_ms(scenario.payload.low_kb, 5, service_ms(scenario, "e1"), 2, 2)
    device = service_ms(scenario, "local")
    wins = [device_ms(device * TX2_GPU_MHZ[0] / mhz, 2) < away for mhz in TX2_GPU_MHZ]
    assert wins == [True] * 3 + [False] * 4


def test_ng_tenants_agrees_with_figure_2e():
    """At 5 Mbit/s and 2 a second the TX2 wins YOLOv8n on its top six frequency levels, and on no other."""
    scenario = load_scenario("ng-tenants")
    away = offload_ms(scenario.payload.low_kb, 5, service_ms(scenario, "e1"), 2, 2)
    device = service_ms(scenario, "local")
    wins = [device_ms(device * TX2_GPU_MHZ[0] / mhz, 2) < away for mhz in TX2_GPU_MHZ]
    assert wins == [True] * 6 + [False]


@pytest.mark.parametrize("own_per_s", [0, 10], ids=["printed rates hold our own", "ours come on top"])
def test_ng_tenants_choices(own_per_s):
    """E1, then E2, then local: section 5.3, in both readings of its rates."""
    scenario = load_scenario("ng-tenants")
    kb, device = scenario.payload.low_kb, service_ms(scenario, "local")
    rate_mbps = scenario.links["wireless"].source.phases[0].rate_mbps
    chosen = []
    for at_s in (40, 120, 200):
        predicted = {"local": device_ms(device, 10)}
        for name in ("e1", "e2"):
            background = scenario.nodes[name].background
            phase = next(p for p in background.phases if p.until is None or at_s < p.until)
            tenants = 1000 * phase.load / background.service_ms
            predicted[name] = offload_ms(kb, rate_mbps, service_ms(scenario, name), 10, tenants + own_per_s)
        chosen.append(min(predicted, key=predicted.__getitem__))
    assert chosen == ["e1", "e2", "local"]


def test_ng_tenants_rates():
    nodes = load_scenario("ng-tenants").nodes
    rates = {
        n: [1000 * p.load / nodes[n].background.service_ms for p in nodes[n].background.phases] for n in nodes
    }
    assert rates["e1"] == pytest.approx([10, 50])
    assert rates["e2"] == pytest.approx([30, 50])
    assert [p.until for p in nodes["e1"].background.phases] == [80, None]
    assert [p.until for p in nodes["e2"].background.phases] == [160, None]


def test_ng_network_simulated_means():
    """The simulator's means against the forms; its link is M/D/1, because the payload does not vary."""
    scenario = load_scenario("ng-network")
    kb, device, server = scenario.payload.low_kb, service_ms(scenario, "local"), service_ms(scenario, "e1")
    issued_s, local, _ = simulate(scenario, 0, episodes=32)
    assert local.mean() == pytest.approx(device_ms(device, 10), rel=0.03)
    assert np.quantile(local, 0.95) < scenario.slo.latency_ms  # the device alone keeps the SLO
    issued_s, away, _ = simulate(scenario, 1, episodes=32)
    for start, phase in zip((0, 20, 40), scenario.links["wireless"].source.phases, strict=False):
        within = (issued_s > start + 1) & (issued_s < start + 19)
        upload = 8 * kb / phase.rate_mbps
        # Behind a constant link arrivals at the server are spaced out, so its own wait is at most M/D/1's.
        low = upload + md1_ms(0.01, upload) + server
        high = low + md1_ms(0.01, server)
        assert 0.97 * low < away[within].mean() < 1.03 * high


def test_ng_tenants_simulated_choice():
    """The best fixed placement of each stretch is the paper's choice."""
    scenario = load_scenario("ng-tenants")
    means = []
    for placement in range(3):
        issued_s, latency_ms, _ = simulate(scenario, placement, episodes=4)
        means.append([latency_ms[(issued_s > a + 5) & (issued_s < a + 80)].mean() for a in (0, 80, 160)])
    assert np.argmin(np.array(means), axis=0).tolist() == [1, 2, 0]
