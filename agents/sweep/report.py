"""From a sweep's folder to one result per site: who was played, what it scored, and what a reader should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...envs.console import Progress, part_of
from ...envs.errors import InputError
from ...envs.scenario import load_scenario, scenario_sha256
from ...envs.schema import Scenario
from ..benchmark_result import LEAST_ROOM
from ..comparison import unlearned
from ..policy_result import CARBON, COMPLIANT_SHARE, PolicyResult
from ..rule_parameters import tuned_rules
from ..run_dir import RunDir
from ..seed_levels import LEARNED_RISK
from ..statistics import Estimate
from ..words import listed, percent
from .field import Field, Game, play_field
from .folder import SweepFolder
from .report_heads import Added, heads_of

SEEDS_ASKED = 5  # training seeds behind a figure that is published


@dataclass(frozen=True)
class SiteReport:
    """One site of a sweep.

    Attributes:
        field: all policies on the same tapes.
        notes: what a reader should know, as sentences.
        trained_on: name of the scenario that the agents were trained on.
        over_heads: what agents add to the risk heads that they are laid over.
    """

    field: Field
    notes: list[str]
    trained_on: str
    over_heads: tuple[Added, ...] = ()

    @property
    def name(self) -> str:
        """The scenario's name, and on which one was trained if that is another."""
        name = self.field.result.scenario.name
        return name if name == self.trained_on else f"{name}, trained on {self.trained_on}"

    @property
    def rule(self) -> PolicyResult | None:
        """The cleanest complying policy without any learned part: where the gap to hindsight begins."""
        found = [
            r for r in unlearned(self.field.result) if r.complies and not r.name.startswith(LEARNED_RISK)
        ]
        return min(found, key=lambda r: r.carbon_mg, default=None)

    def gap_closed(self, policy: PolicyResult) -> Estimate:
        """Share of the carbon between that rule and hindsight that a policy saves; it may be negative."""
        result, rule = self.field.result, self.rule
        oracle = result.oracle
        if rule is None or oracle is None or rule.carbon_mg - oracle.carbon_mg <= LEAST_ROOM * rule.carbon_mg:
            return Estimate(None)
        return result.of_means(lambda own, r, o: (r - own) / (r - o), CARBON, policy, rule, oracle)

    def saving_share(self, policy: PolicyResult) -> Estimate:
        """Share of hindsight's saving over always-local that a policy saves."""
        result = self.field.result
        local, oracle = result.results[0], result.oracle
        if oracle is None or local.carbon_mg - oracle.carbon_mg <= LEAST_ROOM * local.carbon_mg:
            return Estimate(None)
        return result.of_means(lambda own, r, o: (r - own) / (r - o), CARBON, policy, local, oracle)

    def rows(self) -> list[PolicyResult]:
        """Policies and agents as the table shows them; seeds of an agent stand in it together."""
        grouped = {name for group in self.field.result.groups for name in group.members}
        return [r for r in self.field.result.ranked() if r.name not in grouped]


def sweep_report(
    path: Path,
    episodes: int,
    seed: int,
    tuned: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    on: Sequence[str] = (),
    traces: Path | None = None,
) -> list[SiteReport]:
    """Play all finished runs of a sweep, and everybody else, on the same evaluation tapes.

    Args:
        path: the sweep's folder.
        episodes: evaluation tapes for each site.
        seed: the tapes follow from it.
        tuned: parameters of the rules, instead of the shipped ones.
        jobs: processes.
        progress: called with what was played, policies done and policies in all, over all sites.
        on: scenarios to play instead of those that the agents were trained on.
        traces: trace folder; takes the form of each scenario that reads files.

    Raises:
        InputError: no sweep, no finished run, or a run was trained on another version of its scenario.
    """
    folder = SweepFolder.existing(path)
    sites = dict.fromkeys(record["scenario"] for record in folder.trials.values())
    cases = [(site, place) for site in sites for place in on or [None]]
    found = []
    for number, (site, place) in enumerate(cases):
        told = part_of(progress, number, len(cases), place or site)
        found.append(_site(folder, site, place, episodes, seed, tuned, traces, jobs, told))
    reports = [report for report in found if report is not None]
    if not reports:
        raise InputError(f"{path} has no finished run yet: carbonpilot sweep run ... --out {path}")
    return reports


def _site(
    folder: SweepFolder,
    site: str,
    on: str | None,
    episodes: int,
    seed: int,
    tuned: Path | None,
    traces: Path | None,
    jobs: int,
    progress: Progress | None,
) -> SiteReport | None:
    trials = {name: record for name, record in folder.trials.items() if record["scenario"] == site}
    finished = [name for name in trials if folder.finished(name) and not folder.is_head(name)]
    runs = {name: RunDir(folder.run(name)) for name in finished}
    if not runs:
        return None
    scenario, traces_dir = _common(list(runs.values()))
    if on is not None or traces is not None:
        scenario = load_scenario(on or site, traces=traces is not None)
        traces_dir = None if traces is None else str(traces)
    agents: dict[str, dict[int, Path]] = {}
    for name, run in runs.items():
        agents.setdefault(trials[name]["agent"], {})[run.seed] = run.path
    heads = heads_of(agents, site)
    agents = heads.folders | agents
    rules = tuned_rules(scenario, tuned)
    game = Game(scenario, episodes, seed, traces_dir, rules)
    field = play_field(game, agents, jobs, progress, heads.labels)
    notes = [f"Rules: {rules.source}.", *_seed_notes(agents), *_missing_notes(folder, trials)]
    over = heads.added(field.result)
    notes += [one.sentence() for one in over]
    if not heads.folders and not any(r.name == LEARNED_RISK for r in field.result.results):
        notes.append(f"There is no {LEARNED_RISK} for this site.")
    notes += [f"Left out: {name}: {reason}" for name, reason in field.failed.items()]
    return SiteReport(field, notes, site, tuple(over))


def _common(runs: list[RunDir]) -> tuple[Scenario, str | None]:
    """The site and the traces of runs, which must be the same for all of them."""
    first = runs[0]
    for run in runs[1:]:
        if scenario_sha256(run.scenario) != scenario_sha256(first.scenario):
            raise InputError(
                f"{run.path} and {first.path} were trained on different versions of '{first.scenario.name}'. "
                "Compare runs of one version."
            )
    traces: Any = first.config.get("traces")
    return first.scenario, None if not traces else traces["folder"]


def _seed_notes(agents: dict[str, dict[int, Path]]) -> list[str]:
    """Say plainly where there are fewer seeds than a published figure needs."""
    notes = []
    for agent, runs in agents.items():
        if len(runs) < SEEDS_ASKED:
            seeds = (
                f"{len(runs)} training seed{'s' if len(runs) > 1 else ''} ({listed([str(s) for s in runs])})"
            )
            what = (
                "does not hold the noise of training"
                if len(runs) == 1
                else "says little about the noise of training"
            )
            notes.append(
                f"TOO FEW SEEDS: {agent} has {seeds}, {SEEDS_ASKED} are asked for; its interval {what}."
            )
    return notes


def _missing_notes(folder: SweepFolder, trials: dict[str, dict[str, Any]]) -> list[str]:
    notes = []
    for name, record in trials.items():
        if not folder.finished(name):
            why = f": {record['reason']}" if record["reason"] else ""
            notes.append(f"NOT FINISHED: {name} ({record['status']}{why}).")
    return notes


def explanation(report: SiteReport) -> list[str]:
    """What the columns mean."""
    result, rule = report.field.result, report.rule
    s = result.scenario
    lines = [
        f"{s.name}: {result.episodes} tapes of the evaluation part, seed {result.seed}, {s.episode.requests} requests "
        f"each, the same for every policy. An episode meets the SLO when its p{100 * s.slo.quantile:g} latency is at "
        f"most {s.slo.latency_ms:g} ms; a policy complies (*) when {percent(COMPLIANT_SHARE, 0)} of its episodes do, "
        "a level fixed before any result was seen. Brackets: 95 % intervals over tapes, and over training seeds where "
        "there are several."
    ]
    if rule is not None and result.oracle is not None:
        lines.append(
            f"Gap closed: 0 is {rule.name}, the cleanest complying policy without a learned part, 100 is "
            f"{result.oracle.name}. Saving: 0 is {result.results[0].name}, 100 is {result.oracle.name}. Both mean "
            "something for policies that comply, and are left out for the others."
        )
    else:
        lines.append("No policy without a learned part complies here, so there is no gap to close.")
    return lines
