"""Play a policy on tapes and keep what happened to every request."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.errors import CarbonPilotError
from ..envs.schema import Scenario
from ..envs.simulator import Simulator
from ..envs.tape import Part
from .policy import Policy

MAX_BATCH = 256  # episodes at once: bounds the memory of a tape, and larger batches are hardly faster
REPORT_EVERY = 50  # requests between two calls of the progress callback

F64 = npt.NDArray[np.float64]
Watch = Callable[[int, npt.NDArray[np.float32]], None]


class PolicyError(CarbonPilotError):
    """A policy raised, or answered with something that is no placement; the tapes and the others are fine.

    Attributes:
        policy: its name.
        reason: what it did, and at which request.
    """

    def __init__(self, policy: str, reason: str) -> None:
        """Name the policy and what it did."""
        self.policy, self.reason = policy, reason
        super().__init__(f"Policy {policy} {reason}.")


@dataclass
class EpisodeRecord:
    """What happened to each request: one row per request, one column per episode.

    Attributes:
        placement: chosen placement (N, B).
        latency_ms: end-to-end latency (N, B), ms.
        missed: latency above the SLO (N, B).
        carbon_mg: CO2 in the scenario's account (N, B), mg.
        carbon_mg_marginal, carbon_mg_attributional: CO2 in either account (N, B), mg.
        energy_j: energy in the scenario's account (N, B), J.
        accuracy_miou: expected mIoU (N, B), %.
        reward: reward of the scenario (N, B).
        valid: the episode was still going on (N, B); a trace that ends, ends its episode early.
    """

    placement: npt.NDArray[np.int64]
    latency_ms: F64
    missed: npt.NDArray[np.bool_]
    carbon_mg: F64
    carbon_mg_marginal: F64
    carbon_mg_attributional: F64
    energy_j: F64
    accuracy_miou: F64
    reward: F64
    valid: npt.NDArray[np.bool_]

    @property
    def episodes(self) -> int:
        """Number of episodes B."""
        return self.valid.shape[1]


_FROM_OUTCOME = [f.name for f in fields(EpisodeRecord) if f.name not in ("reward", "valid")]
_DTYPES: dict[str, Any] = {"placement": np.int64, "missed": np.bool_, "valid": np.bool_}


def run_policy(
    policy: Policy,
    scenario: Scenario,
    seeds: Sequence[int] | npt.NDArray[np.int64],
    part: Part = "evaluation",
    traces_dir: str | None = None,
    batch: int = MAX_BATCH,
    progress: Callable[[int], None] | None = None,
    watch: Watch | None = None,
) -> EpisodeRecord:
    """Play one episode per seed.

    Args:
        policy: what decides. One with ``needs_simulator`` is bound to the simulator first.
        scenario: the site.
        seeds: episode seeds (B,); the same seed and part give the same tape to every policy.
        part: "training" or "evaluation" tapes; they never meet.
        traces_dir: trace folder of a scenario that reads files.
        batch: episodes played at once.
        progress: called now and then with the number of requests decided since the last call.
        watch: called before each decision with the number of the request and the observation (B, F); the
            chunks of a large batch come one after the other.

    Raises:
        PolicyError: the policy raised, or answered with something else than one allowed placement per episode.
    """
    seeds = np.asarray(seeds, dtype=np.int64)
    chunks = [seeds[i : i + batch] for i in range(0, len(seeds), batch)]
    records = [_play(policy, scenario, chunk, part, traces_dir, progress, watch) for chunk in chunks]
    return records[0] if len(records) == 1 else _join(records)


def _play(
    policy: Policy,
    scenario: Scenario,
    seeds: npt.NDArray[np.int64],
    part: Part,
    traces_dir: str | None,
    progress: Callable[[int], None] | None,
    watch: Watch | None,
) -> EpisodeRecord:
    batch = len(seeds)
    simulator = Simulator(scenario, batch, part=part, traces_dir=traces_dir)
    with _blaming(policy, "before the first request"):
        if getattr(policy, "needs_simulator", False):
            policy.bind(simulator)  # type: ignore[attr-defined]
        policy.reset(batch)
    record = _empty(scenario.episode.requests, batch)
    observation = simulator.reset(seeds)
    running = np.ones(batch, dtype=bool)
    for n in range(scenario.episode.requests):
        if watch is not None:
            watch(n, observation)
        mask = simulator.masks()
        with _blaming(policy, f"at request {n}"):
            answer = policy.decide(observation, mask)
        result = simulator.step(_placements(policy, answer, mask, n))
        _keep(record, n, result, running)
        observation = result.observation
        running = running & ~result.truncated
        if progress is not None and (n + 1) % REPORT_EVERY == 0:
            progress(REPORT_EVERY * batch)
        if not running.any():
            break
    if progress is not None:  # what the last full report left over, or an early end saved
        progress((scenario.episode.requests - (n + 1) // REPORT_EVERY * REPORT_EVERY) * batch)
    return record


@contextlib.contextmanager
def _blaming(policy: Policy, when: str) -> Iterator[None]:
    """Turn whatever a policy raises into a PolicyError; a user's Ctrl-C is nobody's fault."""
    try:
        yield
    except Exception as error:
        raise PolicyError(policy.name, f"raised {type(error).__name__} {when}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if len(text) <= 200 else text[:197] + "..."


def _placements(
    policy: Policy, answer: Any, mask: npt.NDArray[np.bool_], request: int
) -> npt.NDArray[np.int64]:
    """The answer of a policy, one allowed placement per episode (B,), or a PolicyError."""
    given = np.asarray(answer)
    wrong = _what_is_wrong(given, mask)
    if wrong is not None:
        raise PolicyError(policy.name, f"{wrong} at request {request}")
    return given.astype(np.int64, copy=False)


def _what_is_wrong(given: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> str | None:
    batch, count = mask.shape
    if given.dtype.kind == "f" and np.isnan(given).any():
        return f"answered NaN in {int(np.isnan(given).sum())} of {batch} episodes"
    if given.dtype.kind not in "iu":
        return f"answered {given.dtype} where placements are integers"
    if given.shape != (batch,):
        return f"answered shape {given.shape} where {(batch,)} was asked for, one placement per episode"
    if given.min() < 0 or given.max() >= count:
        return f"answered placements {given.min()} to {given.max()} where 0 to {count - 1} exist"
    allowed = mask[np.arange(batch), given]
    if not allowed.all():
        return f"chose a masked placement in {int((~allowed).sum())} of {batch} episodes"
    return None


def _empty(requests: int, batch: int) -> EpisodeRecord:
    shape = (requests, batch)
    columns: dict[str, Any] = {
        f.name: np.zeros(shape, dtype=_DTYPES.get(f.name, np.float64)) for f in fields(EpisodeRecord)
    }
    return EpisodeRecord(**columns)


def _keep(record: EpisodeRecord, n: int, result: Any, running: npt.NDArray[np.bool_]) -> None:
    for name in _FROM_OUTCOME:
        getattr(record, name)[n] = getattr(result.outcome, name)
    record.reward[n] = result.reward
    record.valid[n] = running


def _join(records: list[EpisodeRecord]) -> EpisodeRecord:
    return EpisodeRecord(
        **{
            f.name: np.concatenate([getattr(r, f.name) for r in records], axis=1)
            for f in fields(EpisodeRecord)
        }
    )
