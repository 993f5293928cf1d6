"""The test bed's server: how exact the stand-ins' times are, what load the probe finds, how long requests wait.

The waits are compared with the simulator's for the same node, with Triton's queue delay and without. Needs the Triton
environment (`make triton`), no root. Takes two minutes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

from carbonpilot.envs.node_bank import bank_for
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema_nodes import Batching
from carbonpilot.real.clock import SystemClock
from carbonpilot.real.probes.triton_http import triton_load_from_metrics
from carbonpilot.real.testbed.repository.settings import ModelSet, ServedModel
from carbonpilot.real.testbed.repository.write import write_repository
from carbonpilot.real.testbed.server import Ports, TritonServer
from carbonpilot.real.testbed.server_environment import find_environment, unavailable
from carbonpilot.real.testbed.tenants import Tenants, capacity, for_load

MODEL, SERVICE_MS = "segformer-b0-uint8", 18.0
BATCHES, REPEATS = (1, 2, 4, 8), 60
LOADS, DELAYS_MS, SPAN_S = (0.16, 0.44, 0.76), (0.0, 2.0), 15.0


def main() -> None:
    """Measure and print."""
    reason = unavailable()
    if reason is not None:
        print(f"left out: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder:
        models = _models(0.0)
        with _server(models, Path(folder, "times")) as server:
            _times(server, models)
        for delay_ms in DELAYS_MS:
            models = _models(delay_ms)
            with _server(models, Path(folder, f"delay-{delay_ms:g}")) as server:
                for load in LOADS:
                    _load(server, models, load, Path(folder, "report.json"))


def _models(delay_ms: float) -> ModelSet:
    return ModelSet(models=[ServedModel(name="segformer-b0", service_ms=SERVICE_MS, queue_delay_ms=delay_ms)])


def _simulated_wait_ms(models: ModelSet, load: float) -> float:
    """Mean wait at the edge node of the scenario metro with these models' batching."""
    node = load_scenario("metro").nodes["edge"]
    (model,) = models.models
    batching = Batching(
        max_batch=model.max_batch,
        queue_delay_ms=model.queue_delay_ms,
        marginal_service_share=model.marginal_service_share,
    )
    bank = bank_for(node.model_copy(update={"batching": batching}))
    return float(bank.mean_wait_ms[bank.level_of(np.array(load))])


def _server(models: ModelSet, folder: Path) -> TritonServer:
    return TritonServer(
        find_environment(), write_repository(folder, models), folder / "log", ports=Ports(18001, 18000, 18002)
    )


def _times(server: TritonServer, models: ModelSet) -> None:
    share = models.models[0].marginal_service_share
    with triton.InferenceServerClient(server.grpc) as client:
        for batch in BATCHES:
            given = triton.InferInput("IMAGE", [batch, 256, 512, 3], "UINT8")
            given.set_data_from_numpy(np.zeros((batch, 256, 512, 3), np.uint8))
            client.infer(MODEL, [given])
            before = _compute_ms(client)
            took_ms = []
            for _ in range(REPEATS):
                start_s = time.perf_counter()
                client.infer(MODEL, [given])
                took_ms.append(1e3 * (time.perf_counter() - start_s))
            computed_ms = (_compute_ms(client) - before) / REPEATS
            ordered_ms = SERVICE_MS * (1 + share * (batch - 1))
            p50, p95 = np.quantile(took_ms, (0.5, 0.95))
            print(
                f"batch {batch}: ordered {ordered_ms:.1f} ms, computed {computed_ms:.2f} ms by Triton's count, "
                f"client's p50 {p50:.1f} ms, p95 {p95:.1f} ms"
            )


def _compute_ms(client: triton.InferenceServerClient) -> float:
    """Triton's computing time of the model so far, all together."""
    statistics = client.get_inference_statistics(MODEL, as_json=True)["model_stats"][0]["inference_stats"]
    return int(statistics["compute_infer"]["ns"]) / 1e6


def _load(server: TritonServer, models: ModelSet, load: float, report: Path) -> None:
    model = "segformer-b0-jpeg"
    full = capacity(models.model(model))
    probe = triton_load_from_metrics(server.metrics, {model: full}, SystemClock(), 5.0)
    with Tenants(server.grpc, for_load(models, model, load), report) as tenants:
        before = _cpu_s(server)
        time.sleep(1.0)
        probe.probe()
        time.sleep(SPAN_S)
        state = probe.probe()
        used = (_cpu_s(server) - before) / (SPAN_S + 1.0)
        counts = tenants.stop()
    probe.close()
    offered = counts["sent"] / counts["seconds"] / full
    simulated_ms = _simulated_wait_ms(models, load)
    print(
        f"queue delay {models.models[0].queue_delay_ms:g} ms, load {load:.2f}: {offered:.3f} sent, {state.load:.3f} "
        f"found by the probe; wait {state.queue_wait_ms:.1f} ms, simulated {simulated_ms:.1f} ms; mean batch "
        f"{state.mean_batch:.2f}; tenants {100 * counts['cpu_share']:.0f} %, server {100 * used:.0f} % of a processor"
    )


def _cpu_s(server: TritonServer) -> float:
    """Processor time of the server and its models so far."""
    tasks = [file.read_text().split() for file in Path(f"/proc/{server.pid}/task").glob("*/children")]
    pids = [server.pid, *(child for children in tasks for child in children)]
    ticks = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids]
    return sum(int(user) + int(system) for user, system in ticks) / 100.0


if __name__ == "__main__":
    main()
