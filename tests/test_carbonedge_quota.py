"""CarbonEdge's node quotas: the paper's accounting, Algorithm 1 on measured times, and quotas of the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carbonpilot.agents import carbonedge_paper as paper
from carbonpilot.agents import carbonedge_quota as quota
from carbonpilot.envs.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
CPU_ONLY = quota.HostPower(100.0, 0.0)
BY_QUOTA = {name: 20.0 / node.cpus for name, node in paper.NODES.items()} | {quota.MONOLITHIC: 20.0}
MODES = (paper.PERFORMANCE, paper.BALANCED, paper.GREEN)


def test_the_hosts_power_is_shared_without_rest():
    host = quota.HostPower(100.0, 40.0)
    shared = quota.node_power_w(host)
    assert sum(shared[name] for name in paper.NODES) == pytest.approx(100.0 + 40 * 0.375)
    assert shared["green"] == pytest.approx(100 * 0.4 / 2.0 + 15 * 0.5 / 2.0)
    assert shared[quota.MONOLITHIC] == shared["high"]
    assert set(quota.node_power_w(host, "host").values()) == {115.0}


def test_carbon_is_eq_2():
    power = quota.node_power_w(CPU_ONLY)
    # 100 W x 0.4 / 2.0 for 50 ms at 380 g/kWh
    assert quota.inference_g("green", 50.0, power) == pytest.approx(20 * 0.05 / 3.6e6 * 380)


def test_a_quota_that_is_kept_costs_time_and_no_energy():
    """Times inverse to quotas: an inference takes the same energy everywhere, and saves what the grid saves."""
    power = quota.node_power_w(CPU_ONLY)
    joules = [power[name] * BY_QUOTA[name] for name in paper.NODES]
    assert joules == pytest.approx([joules[0]] * 3)
    assert quota.reduction_pct(BY_QUOTA, power) == pytest.approx(100 * (1 - 380 / 530))


def test_the_papers_latencies_and_its_apportioning_exclude_each_other():
    """Equal latencies under quotas of 1.0 and 0.4 would save 69 %, not the printed 22.9; the whole host's fits."""
    mono, green = paper.TABLE_IV[paper.MOBILENET_V2]
    printed = {quota.MONOLITHIC: mono.latency_ms, "green": green.latency_ms}
    by_quota = quota.reduction_pct(printed, quota.node_power_w(CPU_ONLY))
    assert by_quota == pytest.approx(100 * (1 - 0.4 * 380 * 272.02 / (530 * 254.85)))
    assert by_quota > 3 * 22.9
    assert quota.reduction_pct(printed, quota.node_power_w(CPU_ONLY, "host")) == pytest.approx(22.9, rel=0.03)
    high, low = (
        quota.printed_energy_j(paper.PERFORMANCE, "high"),
        quota.printed_energy_j(paper.GREEN, "green"),
    )
    assert high == pytest.approx(low, rel=0.01)
    assert quota.printed_power_w() == pytest.approx(141.3, abs=0.1)


def test_choices_follow_the_weights():
    """Where the times differ and the grids do not count, the fastest wins; with true carbon only, the greenest."""
    power = quota.node_power_w(quota.HostPower(quota.printed_power_w(), 0.0))
    assert quota.choose(paper.PERFORMANCE, BY_QUOTA, power) == "high"
    assert quota.choose(paper.GREEN, BY_QUOTA, power, "minmax") == "green"
    same = dict.fromkeys(BY_QUOTA, 20.0)
    assert {quota.choose(mode, same, quota.node_power_w(CPU_ONLY, "host")) for mode in MODES} == {"green"}


def test_the_power_at_which_green_turns_green():
    low, high = quota.green_powers(BY_QUOTA) or (0.0, 0.0)
    assert 1.0 <= low < high <= 1000.0
    assert quota.choose(paper.GREEN, BY_QUOTA, quota.node_power_w(quota.HostPower(low, 0.0))) == "green"
    if low > 1.1:
        below = quota.node_power_w(quota.HostPower(0.9 * low, 0.0))
        assert quota.choose(paper.GREEN, BY_QUOTA, below) != "green"
    slow = {**BY_QUOTA, "green": 1e6}
    assert quota.green_powers(slow) is None


def test_bad_input():
    with pytest.raises(InputError, match="cpu_w"):
        quota.node_power_w(quota.HostPower(-1.0, 1.0))
    with pytest.raises(InputError, match="form of S_C"):
        quota.choose(paper.GREEN, BY_QUOTA, quota.node_power_w(CPU_ONLY), "minmaxx")
    with pytest.raises(InputError, match="energy_j"):
        quota.inference_g("green", -1.0, quota.node_power_w(CPU_ONLY))


# -- quotas of the kernel --------------------------------------------------------------------------------


@pytest.fixture
def cpu_quota(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cpu_quota

    return cpu_quota


def test_which_cgroups_are_there(cpu_quota, tmp_path):
    assert cpu_quota.version(tmp_path) is None
    with pytest.raises(SystemExit, match="No cgroup under"):
        cpu_quota.CpuQuota("node", 0.4, tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpuset memory\n")
    assert cpu_quota.version(tmp_path) is None
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory\n")
    assert cpu_quota.version(tmp_path) == "v2"
    group = cpu_quota.CpuQuota("node", 0.4, tmp_path).__enter__()
    assert (tmp_path / "node" / "cpu.max").read_text() == "40000 100000"
    (tmp_path / "node" / "cpu.stat").write_text("usage_usec 7\nthrottled_usec 2500000\n")
    assert group.throttled_s() == 2.5


def test_a_quota_holds_a_process_back_and_lets_it_go(cpu_quota):
    if cpu_quota.version() is None:
        pytest.skip("no cgroup whose CPU quota may be set here (needs root)")
    busy = "import time\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy], start_new_session=True) as process:
        try:
            assert process.pid in cpu_quota.session_of(process.pid)
            with cpu_quota.CpuQuota(f"carbonpilot-test-{os.getpid()}", 0.2) as group:
                group.add(cpu_quota.session_of(process.pid))
                until = time.monotonic() + 20
                while group.throttled_s() == 0 and time.monotonic() < until:
                    time.sleep(0.1)
                assert group.throttled_s() > 0
                assert str(process.pid) in (group.folder / "cgroup.procs").read_text().split()
            assert not group.folder.exists()
            assert process.poll() is None
        finally:
            process.kill()
