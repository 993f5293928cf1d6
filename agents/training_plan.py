"""What a training run is to do, resolved and checked before anything starts, and the folder it belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.dial import scenario_at
from ..envs.errors import InputError
from ..envs.observation import build_table
from ..envs.scenario import load_scenario, refuse_held_out, scenario_dict, scenario_sha256
from ..envs.schema import Scenario
from ..envs.simulator import Simulator
from ..envs.tape import Part
from . import provenance
from .algorithms import rollout_steps
from .compatibility import table_differences
from .constraint_start import check_start
from .host_tracker import grid_intensity
from .normalizer import measure
from .risk.folder import read_risk, read_risk_for
from .risk_parts import check_no_memory, risk_parts
from .run_dir import Checkpoint, RunDir, risk_hashes
from .teach.checks import check_something_to_do, check_teachable
from .training_config import load_training_config
from .training_settings import TrainingConfig

TABLE = "table_sha256"
# A moved trace folder is still the same run; its fingerprint tells whether the files are the same.
_MAY_DIFFER = {"traces.folder", "section"}
_NORMALIZER_BATCH = 64


@dataclass(frozen=True)
class Plan:
    """A run as it was asked for.

    Attributes:
        scenario: resolved scenario.
        algo: name of the algorithm.
        steps: environment steps in all sessions together, whole rollouts.
        seed: seed of the run.
        traces_dir: trace folder, or None.
        settings: of the algorithm.
        section: section of the settings file that they come from.
        evaluation_part: where the tapes of the evaluations beside the training come from.
        risk: folder of the frozen risk head and price that the policy is laid over, or None.
    """

    scenario: Scenario
    algo: str
    steps: int
    seed: int
    traces_dir: str | None
    settings: TrainingConfig
    section: str
    evaluation_part: Part = "evaluation"
    risk: Path | None = None

    def record(self) -> dict[str, Any]:
        """Content of ``config.yaml``: all that a session that resumes the run must have in common with it."""
        folder = self.traces_dir
        traces = folder and {"folder": folder, "fingerprint": provenance.trace_fingerprint(Path(folder))}
        return {
            "scenario": self.scenario.name,
            "family": self.scenario.family,
            "algorithm": self.algo,
            "section": self.section,
            TABLE: build_table(self.scenario).sha256,
            "traces": traces,
            "settings": self.settings.model_dump(),
            **({} if self.risk is None else {"risk": risk_hashes(self.risk)}),
        }


def make_plan(
    scenario: str | Path,
    algo: str,
    steps: int,
    seed: int,
    traces: str | Path | None,
    settings_file: str | Path | None,
    changes: Mapping[str, Any],
    wish: str | None = None,
    risk: str | Path | None = None,
    risk_later: bool = False,
) -> Plan:
    """Resolve a call of `train`; see there for the arguments.

    With ``risk_later`` the policy is to be laid over a risk head that is not known yet; what can be checked without it
    is.

    Raises:
        InputError: naming what is wrong.
    """
    if steps < 0 or seed < 0:
        raise InputError(f"Expected --steps and --seed of at least 0, got {steps} and {seed}.")
    resolved = load_scenario(scenario, traces=traces is not None)
    refuse_held_out(resolved)
    resolved = resolved if wish is None else scenario_at(resolved, wish)
    if resolved.split == "traces" and traces is None:
        raise InputError(
            f"Scenario '{resolved.name}' reads recorded files: give their folder with --traces DIR."
        )
    if traces is not None and not Path(traces).is_dir():
        raise InputError(f"Trace folder {traces} does not exist.")
    settings, section = load_training_config(algo, resolved.name, resolved.family, settings_file, changes)
    grid_intensity(settings.country_iso_code)  # refuses a country that is not known
    check_teachable(algo, settings, resolved)
    check_something_to_do(steps, settings)
    if settings.constraint is not None:
        check_start(settings.constraint, resolved, risk is not None or risk_later)
    if risk_later:
        check_no_memory(algo, settings)
    if risk is not None:
        risk_parts(algo, settings, resolved, read_risk_for(risk, resolved))  # refuses what does not fit
    whole = rollout_steps(settings)
    rounded = math.ceil(steps / whole) * whole
    folder = None if traces is None else str(traces)
    head = None if risk is None else Path(risk)
    return Plan(resolved, algo, rounded, seed, folder, settings, section, risk=head)


def open_run(plan: Plan, out: Path, resume: bool) -> tuple[RunDir, Checkpoint | None]:
    """Create the run folder, or open the one to resume after checking that it is the same run.

    Returns:
        The folder, and the newest checkpoint (None to start from the first step).

    Raises:
        InputError: the folder is taken, is no run, or holds a run of something else.
    """
    if not resume:
        if out.is_dir() and (out / "config.yaml").is_file():
            raise InputError(
                f"{out} holds a run already. Give a new --out, or --resume to continue that run."
            )
        mean, std = measure_normalizer(plan)
        made = RunDir.create(
            out, plan.record(), plan.scenario, plan.seed, provenance.commit(), mean, std, plan.risk
        )
        return made, None
    run = RunDir(out)
    _check_same(run, plan)
    _ = run.risk  # its own copy must be whole
    run.clean()
    checkpoints = run.checkpoints()
    if run.finished and not checkpoints:
        raise InputError(
            f"{out} is finished and its checkpoints are gone, so it cannot be extended. Train anew."
        )
    return run, checkpoints[-1] if checkpoints else None


def session_seed(seed: int, steps: int) -> int:
    """Seed of a session's random streams: a resumed session must not see the same tapes again."""
    return int(np.random.SeedSequence([seed, steps]).generate_state(1)[0] >> 1)


def measure_normalizer(plan: Plan) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and spread of the observation (F,) on training tapes with random allowed placements; a risk head's own."""
    if plan.risk is not None:
        arrays = read_risk(plan.risk).arrays
        return arrays["mean"], arrays["std"]
    simulator = Simulator(plan.scenario, _NORMALIZER_BATCH, part="training", traces_dir=plan.traces_dir)
    rng = np.random.default_rng(np.random.SeedSequence([plan.seed, 0x6E6F726D]))
    seeds = rng.integers(0, 2**31, size=_NORMALIZER_BATCH)
    seen = [simulator.reset(seeds)]
    for _ in range(min(plan.settings.normalizer_steps, plan.scenario.episode.requests) - 1):
        mask = simulator.masks()
        choice = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)
        result = simulator.step(choice)
        if result.truncated.any():  # a trace that ended early: what follows is not part of an episode
            break
        seen.append(result.observation.copy())
    return measure(np.concatenate(seen))


def _check_same(run: RunDir, plan: Plan) -> None:
    """Refuse to resume a run with other settings than it was started with."""
    before, now = _flat({**run.config, "seed": run.seed}), _flat({**plan.record(), "seed": plan.seed})
    before.pop("schema")
    differing = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    lines = [
        f"{key}: the run has {before.get(key)!r}, now {now.get(key)!r}"
        for key in differing
        if key not in _MAY_DIFFER and key != TABLE
    ]
    if scenario_sha256(run.scenario) != scenario_sha256(plan.scenario):
        old, new = _flat(scenario_dict(run.scenario)), _flat(scenario_dict(plan.scenario))
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        lines += [f"scenario {key}: the run has {old.get(key)!r}, now {new.get(key)!r}" for key in keys]
    if TABLE in differing:
        lines += _table_lines(run, plan)
    if lines:
        raise InputError(
            f"Run {run.path} was started with something else, so it cannot be resumed like this:\n  "
            + "\n  ".join(lines)
            + "\nGive the same command as at first, or train into a new folder."
        )


def _table_lines(run: RunDir, plan: Plan) -> list[str]:
    """How the observation table differs from the one that the run learned from."""
    old, new = (build_table(scenario).records() for scenario in (run.scenario, plan.scenario))
    words = table_differences(old, new) or ["it was built by another version of carbonpilot: train again"]
    return [f"observation table: {word}" for word in words]


def _flat(content: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings and lists as dotted path -> value."""
    if isinstance(content, Mapping):
        pairs = content.items()
    elif isinstance(content, list):
        pairs = enumerate(content)
    else:
        return {path: content}
    flat: dict[str, Any] = {}
    for key, value in pairs:
        flat |= _flat(value, f"{path}.{key}" if path else str(key))
    return flat
