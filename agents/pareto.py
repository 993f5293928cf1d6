"""One policy at many positions of the dial on the same tapes: the front that it draws, and whether it is monotone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..envs.console import Progress
from ..envs.dial import WISHES, scenario_at
from ..envs.errors import InputError
from ..envs.schema import Scenario, Wishes
from ..envs.tape import Part, evaluation_seeds
from .baselines import static_names
from .benchmark import summarise
from .dial_knowledge import knows_dial
from .dial_lines import PRESET_LINE, SITE, Key, Position, key_of, positions
from .policy_registry import Contestant, contestant, contestants
from .policy_result import CARBON, COMPLIANT_SHARE, MET, PolicyResult
from .rollout import run_policy
from .rule_parameters import RULE_NAMES, TunedRules, tuned_rules
from .statistics import Estimate, PairedBootstrap, wilson

MISSES, P95, ACCURACY = "slo_miss_rate", "latency_p95_ms", "accuracy_miou"
METRICS = (CARBON, P95, MISSES, ACCURACY)
# Where a wish rises: the metric that follows it, and in which direction.
FOLLOWS = {"carbon": (CARBON, -1), "latency": (MISSES, -1), "accuracy": (ACCURACY, +1)}


@dataclass(frozen=True)
class Turn:
    """What turning the dial along a line did to a metric, from the first position to the last.

    Attributes:
        line: which.
        metric: which.
        direction: +1 where it must not fall, -1 where it must not rise.
        change: last position minus first, paired by tape.
        steps: the same between neighbours.
    """

    line: str
    metric: str
    direction: int
    change: Estimate
    steps: tuple[Estimate, ...]

    @property
    def monotone(self) -> bool:
        """Whether no step goes the wrong way by more than the tapes' own noise."""
        return not any(_against(step, self.direction) for step in self.steps)


@dataclass(frozen=True, eq=False)
class ParetoResult:
    """A policy at many positions, and others that do not know the dial, on the same tapes.

    Attributes:
        scenario: the site at its own position.
        policy: name of the policy.
        seed, episodes, part: the tapes.
        positions: every line's positions in order; a position may lie on several lines.
        played: by `Position.key`.
        others: static placements and rules.
    """

    scenario: Scenario
    policy: str
    seed: int
    episodes: int
    part: Part
    positions: tuple[Position, ...]
    played: Mapping[Key, PolicyResult]
    others: tuple[PolicyResult, ...]

    @cached_property
    def bootstrap(self) -> PairedBootstrap:
        """The resamples that every interval is made from."""
        return PairedBootstrap(self.episodes, self.seed)

    def estimates(self, result: PolicyResult) -> dict[str, Estimate]:
        """Metrics with their intervals over the tapes."""
        found = {name: self.bootstrap.mean(result.metrics[name]) for name in METRICS}
        return {**found, MET: wilson(result.metrics[MET])}

    def shares(self, result: PolicyResult) -> dict[str, Estimate]:
        """Share of each placement with its interval."""
        names = [p.name for p in self.scenario.placements]
        return {n: self.bootstrap.mean(s) for n, s in zip(names, result.shares, strict=True)}

    def line(self, name: str) -> list[Position]:
        """Positions of a line in order."""
        return [p for p in self.positions if p.line == name]

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """What each wish did alone, and what the presets do to carbon and accuracy."""
        wanted = [(wish, *FOLLOWS[wish]) for wish in WISHES]
        # From green to performance the wish for carbon falls and that for accuracy rises. Misses may go either way: the
        # more accurate model is the slower one.
        wanted += [(PRESET_LINE, metric, +1) for metric in (CARBON, ACCURACY)]
        return tuple(self._turn(*one) for one in wanted)

    def _turn(self, line: str, metric: str, direction: int) -> Turn:
        values = [self.played[p.key].metrics[metric] for p in self.line(line)]
        steps = tuple(self.bootstrap.difference(b, a) for a, b in itertools.pairwise(values))
        return Turn(line, metric, direction, self.bootstrap.difference(values[-1], values[0]), steps)

    @property
    def failing(self) -> list[Position]:
        """Positions at which the objective is met in too few episodes, each once."""
        found = {p.key: p for p in self.positions if not self.played[p.key].complies}
        return list(found.values())

    @property
    def holds(self) -> bool:
        """Whether the objective holds at every position and no wish works against itself."""
        return not self.failing and all(turn.monotone for turn in self.turns)


def _against(step: Estimate, direction: int) -> bool:
    """Whether a change goes the wrong way with an interval clear of zero."""
    if step.low is None or step.high is None:
        return step.mean is not None and direction * step.mean < 0
    return step.high < 0 if direction > 0 else step.low > 0


def pareto(
    scenario: Scenario,
    policy: str | Contestant,
    points: int = 5,
    episodes: int = 100,
    seed: int = 0,
    traces_dir: str | None = None,
    progress: Progress | None = None,
    tuned: TunedRules | None = None,
    part: Part = "evaluation",
) -> ParetoResult:
    """Play a policy along the lines of the dial, and what does not know the dial beside it.

    Args:
        scenario: the site.
        policy: one that knows the dial: its name or folder, or itself.
        points: positions on each line.
        episodes: number of tapes.
        seed: the tapes follow from it; they are those of `carbonpilot benchmark`.
        traces_dir: trace folder of a scenario that reads files.
        progress: called with what is played, requests done and requests in all.
        tuned: parameters of the rules; None: those that are shipped for the scenario.
        part: evaluation tapes, or training tapes for choosing what a wish shall mean.

    Raises:
        InputError: the policy does not exist, does not fit or does not know the dial.
        PolicyError: it failed while it was played.
    """
    if episodes < 1:
        raise InputError(f"--episodes must be at least 1, got {episodes}.")
    tuned = tuned or tuned_rules(scenario)
    scenario = scenario_at(scenario, None)
    entry = policy if isinstance(policy, Contestant) else contestant(policy, scenario, seed, tuned)
    if not knows_dial(entry.policy):
        raise InputError(
            f"'{entry.name}' does not know the dial, it plays the same at every position. Expected learned-risk, or an "
            f"agent of: carbonpilot train {scenario.name} --wish sampled --out RUN_DIR"
        )
    wanted = positions(points)
    unique = {p.key: p.wishes for p in wanted}
    unique.setdefault(key_of(scenario.wishes), scenario.wishes)
    wanted = (*wanted, Position(SITE, 0.0, scenario.wishes))
    others = contestants([*static_names(scenario), *RULE_NAMES], scenario, seed, tuned)
    play = _Player(
        scenario, evaluation_seeds(seed, episodes), part, traces_dir, progress, len(unique) + len(others)
    )
    played = {key: play(entry, wishes) for key, wishes in unique.items()}
    beside = tuple(play(other, scenario.wishes) for other in others)
    return ParetoResult(scenario, entry.name, seed, episodes, part, wanted, played, beside)


class _Player:
    """Plays policies one after the other on the same tapes."""

    def __init__(
        self, scenario: Scenario, seeds: np.ndarray, part: Part, traces_dir: str | None, progress: Progress | None,
        runs: int,
    ) -> None:  # fmt: skip
        self._scenario, self._seeds, self._traces_dir = scenario, seeds, traces_dir
        self._part: Part = part
        self._progress, self._done = progress, 0
        self._total = runs * len(seeds) * scenario.episode.requests

    def __call__(self, entry: Contestant, wishes: Wishes) -> PolicyResult:
        site, started = scenario_at(self._scenario, wishes), time.perf_counter()
        record = run_policy(
            entry.policy, site, self._seeds, self._part, self._traces_dir, progress=self._report(entry.name)
        )
        return summarise(entry.name, entry.kind, record, site, entry.policy, started)

    def _report(self, name: str) -> Callable[[int], None]:
        def more(requests: int) -> None:
            self._done += requests
            if self._progress is not None:
                self._progress(name, self._done, self._total)

        return more


def front(results: Sequence[PolicyResult]) -> list[PolicyResult]:
    """Those that comply and than which no other has both less carbon and more accuracy, by carbon."""
    kept: list[PolicyResult] = []
    complying = [r for r in results if r.compliance >= COMPLIANT_SHARE]
    for result in sorted(complying, key=lambda r: (r.carbon_mg, -float(r.metrics[ACCURACY].mean()))):
        if not kept or result.metrics[ACCURACY].mean() > kept[-1].metrics[ACCURACY].mean():
            kept.append(result)
    return kept
