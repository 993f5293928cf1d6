"""The two case studies of Ng et al. as time lines: what the resource manager predicts, chooses and gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..envs import queueing as q
from ..envs.scenario import load_scenario
from ..envs.schema import PhasedLink, Scenario
from ..envs.service import mean_ms
from ..envs.simulator import Simulator
from ..envs.tape import evaluation_seeds
from .ng_policy import ResourceManager
from .ng_prediction import believed_rate_per_s

F64 = npt.NDArray[np.float64]
EPISODES = 64
BIN_S = 1.0
SETTLED_S = 5.0  # what follows a change is left out of a stretch's simulated means


@dataclass(frozen=True)
class Stretch:
    """A stretch of constant conditions.

    Attributes:
        start_s, end_s: when.
        condition: what distinguishes it.
        expected: placement that the paper prints.
        forms_ms: eqs (1) and (2) of every placement at the true conditions (P,).
        simulated_ms: mean latency of every placement if all requests go there (P,).
        reached_s: mean time at which the manager is at ``expected``.
        share: share of the requests at ``expected`` from then on.
    """

    start_s: float
    end_s: float
    condition: str
    expected: str
    forms_ms: tuple[float, ...]
    simulated_ms: tuple[float, ...]
    reached_s: float
    share: float


@dataclass(frozen=True)
class Timeline:
    """A case study.

    Attributes:
        scenario: its name.
        placements: names (P,).
        stretches: in order.
        changes: changes of placement in an episode, mean.
        time_s: middles of the bins (T,).
        shares: share of every placement (T, P).
        predicted_ms: mean prediction of every placement (T, P).
        latency_ms: mean latency of what was chosen (T,).
    """

    scenario: str
    placements: tuple[str, ...]
    stretches: tuple[Stretch, ...]
    changes: float
    time_s: F64
    shares: F64
    predicted_ms: F64
    latency_ms: F64


@dataclass(frozen=True)
class _Run:
    """Requests of a run (N, B), and what the manager predicted for each (N, B, P), None without a manager."""

    issued_s: F64
    latency_ms: F64
    placement: npt.NDArray[np.int64]
    predicted_ms: F64 | None = None


CASES = {
    "ng-network": (
        ("20 Mbit/s", "e1"), ("10 Mbit/s", "e1"), ("2 Mbit/s", "local"), ("20 Mbit/s", "e1"),
    ),
    "ng-tenants": (("E1 10, E2 30 RPS", "e1"), ("E1 50, E2 30 RPS", "e2"), ("E1 50, E2 50 RPS", "local")),
}  # fmt: skip


def play(name: str, seed: int, episodes: int = EPISODES) -> Timeline:
    """Play a case study with the resource manager and with every fixed placement.

    Args:
        name: "ng-network" or "ng-tenants".
        seed: seed of the evaluation tapes.
        episodes: how many.
    """
    scenario = load_scenario(name)
    managed = _play(scenario, seed, episodes, None)
    fixed = [_play(scenario, seed, episodes, i) for i in range(len(scenario.placements))]
    names = tuple(p.name for p in scenario.placements)
    edges = change_times_s(scenario)
    stretches = [
        _stretch(scenario, managed, fixed, names, *span, *told)
        for span, told in zip(pairwise(edges), CASES[name], strict=True)
    ]
    placement = managed.placement
    changes = float((placement[1:] != placement[:-1]).sum(axis=0).mean())
    return Timeline(name, names, tuple(stretches), changes, *_binned(managed, edges[-1], len(names)))


def form_errors(timelines: Iterable[Timeline]) -> F64:
    """(predicted - simulated) / simulated over every stretch and placement whose queues are stable."""
    pairs = [
        (form, got)
        for timeline in timelines
        for s in timeline.stretches
        for form, got in zip(s.forms_ms, s.simulated_ms, strict=True)
        if np.isfinite(form)
    ]
    return np.array([form / got - 1 for form, got in pairs])


def change_times_s(scenario: Scenario) -> list[float]:
    """When link or tenants change, with start and end."""
    times = {0.0, scenario.episode.requests / believed_rate_per_s(scenario)}
    for link in scenario.links.values():
        assert isinstance(link.source, PhasedLink)
        times |= {p.until for p in link.source.phases if p.until is not None}
    for node in scenario.nodes.values():
        if node.background is not None and node.background.phases is not None:
            times |= {p.until for p in node.background.phases if p.until is not None}
    return sorted(times)


def forms_ms(scenario: Scenario, at_s: float) -> tuple[float, ...]:
    """Mean latencies of eqs (1) and (2) at the true conditions of a time, if all requests went to one placement.

    The device's requests come on top of the tenants', as in the scenario; whether the paper's rates hold them
    already is open, and makes no difference to what is fastest (tests/test_paper_scenarios.py).
    """
    rate, found = believed_rate_per_s(scenario), []
    for p in scenario.placements:
        service = mean_ms(p.service)
        if p.node == "local":
            found.append(float(q.device_latency_ms(service, rate)))
            continue
        node = scenario.nodes[p.node]
        source = scenario.links[node.link].source
        assert isinstance(source, PhasedLink)
        upload = q.transmission_ms(scenario.payload.low_kb, _now(source.phases, at_s).rate_mbps)
        total = rate
        if node.background is not None and node.background.phases is not None:
            total += 1000 * _now(node.background.phases, at_s).load / node.background.service_ms
        server = q.mixture(np.array([total]), service)
        found.append(float(q.offload_latency_ms(upload, 0.0, rate, service, server)))
    return tuple(found)


def _now(phases, at_s: float):
    return next(p for p in phases if p.until is None or at_s < p.until)


def _play(scenario: Scenario, seed: int, episodes: int, fixed: int | None) -> _Run:
    simulator = Simulator(scenario, episodes, "evaluation")
    observation = simulator.reset(evaluation_seeds(seed, episodes))
    manager = ResourceManager(scenario) if fixed is None else None
    if manager is not None:
        manager.reset(episodes)
    kept, predicted = [], []
    for _ in range(scenario.episode.requests):
        if manager is None:
            action = np.full(episodes, fixed)
        else:
            action = np.asarray(manager.decide(observation, simulator.masks()))
            predicted.append(manager.predicted_ms.copy())
        step = simulator.step(action)
        observation = step.observation
        kept.append((step.outcome.issued_ms / 1000, step.outcome.latency_ms, action))
    issued, latency, placement = (np.array(column) for column in zip(*kept, strict=True))
    return _Run(issued, latency, placement, np.array(predicted) if predicted else None)


def _stretch(
    scenario: Scenario, managed: _Run, fixed: list[_Run], names: tuple[str, ...],
    start: float, end: float, condition: str, expected: str,
) -> Stretch:  # fmt: skip
    wanted = managed.placement == names.index(expected)
    after = managed.issued_s >= start
    first = (wanted & after).argmax(axis=0)  # of every episode
    reached = np.take_along_axis(managed.issued_s, first[None], axis=0)[0]
    since = (managed.issued_s >= reached) & (managed.issued_s < end)
    simulated = []
    for run in fixed:
        settled = (run.issued_s >= start + SETTLED_S) & (run.issued_s < end)
        simulated.append(float(run.latency_ms[settled].mean()))
    return Stretch(
        start, end, condition, expected, forms_ms(scenario, (start + end) / 2), tuple(simulated),
        reached_s=float(reached.mean()), share=float(wanted[since].mean()),
    )  # fmt: skip


def _binned(run: _Run, end_s: float, placements: int) -> tuple[F64, F64, F64, F64]:
    assert run.predicted_ms is not None
    bins = int(np.ceil(end_s / BIN_S))
    at = np.minimum((run.issued_s / BIN_S).astype(int), bins).ravel()  # what is later goes to a last bin
    count = np.maximum(np.bincount(at, minlength=bins + 1), 1)

    def mean(values: npt.NDArray) -> F64:
        total = np.bincount(at, weights=values.ravel(), minlength=bins + 1)
        return np.asarray(total / count, dtype=np.float64)[:bins]

    shares = np.stack([mean(run.placement == i) for i in range(placements)], axis=1)
    predicted = np.stack([mean(run.predicted_ms[..., i]) for i in range(placements)], axis=1)
    return np.linspace(0.5, bins - 0.5, bins) * BIN_S, shares, predicted, mean(run.latency_ms)
