"""Is there anything to win in a scenario? The check that every shipped scenario has to pass.

A scenario is worth learning when hindsight keeps the objective nearly always, and no static placement that
keeps it too comes near hindsight's carbon. Learned policies play no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..envs.errors import InputError
from ..envs.files import atomic_write_text
from ..envs.scenario import load_scenario, scenario_sha256, shipped_scenarios
from ..envs.schema import Scenario
from .baselines import static_names
from .benchmark import PolicyResult, best_hindsight, play
from .policy_registry import contestants, oracle_names
from .scoreboard import percent

# Both fixed by issue 2 ("The flagship family").
FEASIBLE_SHARE = 0.99
LEAST_EXCESS = 0.05


@dataclass(frozen=True)
class ScenarioCheck:
    """What the check found on the evaluation tapes of one scenario.

    Attributes:
        scenario: name; sha256 its hash.
        hindsight: the oracle that hindsight is judged by, see `best_hindsight`.
        hindsight_compliance: share of the episodes in which it meets the SLO. It is a lower bound: a plan
            over the whole episode could meet it in more.
        hindsight_mg: its CO2 per request, mg.
        local_compliance: the same share for always-local.
        local_excess: always-local's carbon over hindsight's, minus one.
        best_static: the cleanest static policy that meets the SLO in 99 % of the episodes, None if none does.
        best_static_excess: its carbon over hindsight's, minus one.
        nothing_to_win: the scenario's own word that it is an honest check, else None.
        training_ground: sites are made up at random, with shifts and absent nodes; hindsight need not keep them all.
    """

    scenario: str
    sha256: str
    hindsight: str
    hindsight_compliance: float
    hindsight_mg: float
    local_compliance: float
    local_excess: float
    best_static: str | None
    best_static_excess: float | None
    nothing_to_win: str | None
    training_ground: bool = False

    @property
    def feasible(self) -> bool:
        """Whether hindsight meets the SLO in 99 % of the episodes."""
        return self.hindsight_compliance >= FEASIBLE_SHARE

    @property
    def room(self) -> bool:
        """Whether every static policy that keeps the objective emits over 5 % more than hindsight."""
        return self.best_static_excess is None or self.best_static_excess > LEAST_EXCESS

    @property
    def passes(self) -> bool:
        """Whether the scenario may be shipped."""
        return (self.feasible or self.training_ground) and (self.room or self.nothing_to_win is not None)

    @property
    def words(self) -> str:
        """The verdict in a few words."""
        if not self.feasible:
            return "training ground" if self.training_ground else "NOT FEASIBLE"
        if self.room:
            return "worth learning" if self.nothing_to_win is None else "some room, though it promises none"
        return "nothing to win, and says so" if self.nothing_to_win is not None else "DEGENERATE"


def check_sentence(check: ScenarioCheck) -> str:
    """The check of one scenario in a line or two, for a terminal."""
    static = "no static placement keeps the SLO"
    if check.best_static is not None and check.best_static_excess is not None:
        static = f"best static that keeps the SLO: {check.best_static}, {_signed(check.best_static_excess)}"
    return (
        f"{check.scenario}: {check.words}. Hindsight ({check.hindsight}) {check.hindsight_mg:.3f} mg per "
        f"request, SLO met in {percent(check.hindsight_compliance)}; always-local "
        f"{_signed(check.local_excess)} carbon, SLO met in {percent(check.local_compliance)}; {static}."
    )


def check_scenario(
    scenario: Scenario, episodes: int = 200, seed: int = 0, traces_dir: str | None = None
) -> ScenarioCheck:
    """Play the static placements and hindsight on the same evaluation tapes."""
    entries = contestants([*static_names(scenario), *oracle_names(scenario)], scenario)
    result = play(entries, scenario, episodes, seed, traces_dir)
    hindsight, local = best_hindsight(result.results, FEASIBLE_SHARE), result["always-local"]
    keeping = [r for r in result.results if r.kind == "static" and r.compliance >= FEASIBLE_SHARE]
    best = min(keeping, key=lambda r: r.carbon_mg, default=None)
    return ScenarioCheck(
        scenario=scenario.name,
        sha256=scenario_sha256(scenario),
        hindsight=hindsight.name,
        hindsight_compliance=hindsight.compliance,
        hindsight_mg=hindsight.carbon_mg,
        local_compliance=local.compliance,
        local_excess=_excess(local, hindsight),
        best_static=None if best is None else best.name,
        best_static_excess=None if best is None else _excess(best, hindsight),
        nothing_to_win=scenario.nothing_to_win,
        training_ground=any(node.availability is not None for node in scenario.nodes.values()),
    )


def _excess(policy: PolicyResult, hindsight: PolicyResult) -> float:
    return policy.carbon_mg / hindsight.carbon_mg - 1 if hindsight.carbon_mg > 0 else 0.0


def check_scenarios(
    names: Iterable[str] | None,
    episodes: int = 200,
    seed: int = 0,
    traces_dir: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[ScenarioCheck]:
    """Check several scenarios.

    Args:
        names: shipped names or YAML files; none for every shipped one that can be played.
        episodes: evaluation tapes for each.
        seed: the tapes follow from it.
        traces_dir: trace folder for scenarios that read files.
        progress: called with the name of each scenario before it is played.

    Raises:
        InputError: a scenario does not exist, or reads traces and no folder was given; before any is played.
    """
    scenarios = [load_scenario(name) for name in names or shipped_scenarios()]
    lost = [s.name for s in scenarios if s.split == "traces" and traces_dir is None]
    if not names:
        scenarios = [s for s in scenarios if s.name not in lost]
    elif lost:
        raise InputError(f"{', '.join(lost)} read trace files: give their folder with --traces DIR.")
    found = []
    for scenario in scenarios:
        if progress is not None:
            progress(scenario.name)
        found.append(check_scenario(scenario, episodes, seed, traces_dir))
    return found


HEADINGS = (
    "scenario",
    "hindsight meets the SLO",
    "hindsight, mg/request",
    "always-local meets it",
    "always-local against hindsight",
    "best static that keeps the SLO",
    "it against hindsight",
    "verdict",
)


def check_rows(checks: Iterable[ScenarioCheck]) -> list[list[str]]:
    """The cells of the table, one row per scenario."""
    return [
        [
            c.scenario,
            percent(c.hindsight_compliance),
            f"{c.hindsight_mg:.3f}",
            percent(c.local_compliance),
            _signed(c.local_excess),
            c.best_static or "none",
            "-" if c.best_static_excess is None else _signed(c.best_static_excess),
            c.words,
        ]
        for c in checks
    ]


def _signed(change: float) -> str:
    return f"{100 * change:+.1f} %"


def write_checks_page(
    path: str | Path, checks: list[ScenarioCheck], command: str, episodes: int, seed: int
) -> None:
    """Write the documentation page (Markdown) that shows the figures with the command that made them."""
    atomic_write_text(path, checks_page(checks, command, episodes, seed))


def checks_page(checks: list[ScenarioCheck], command: str, episodes: int, seed: int) -> str:
    """The page's text."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    lines += ["| " + " | ".join(row) + " |" for row in check_rows(checks)]
    reasons = [f"- **{c.scenario}**: {c.nothing_to_win}" for c in checks if c.nothing_to_win is not None]
    hashes = [f"- {c.scenario}: `{c.sha256[:16]}`" for c in checks]
    return "\n".join(
        [
            "# Is there anything to win?",
            "",
            "This page is written by a command; do not edit it.",
            "",
            f"    {command}",
            "",
            f"{episodes} tapes of the evaluation part each, seed {seed}. An episode meets the SLO when the "
            "scenario's latency quantile does. A scenario of the flagship family is shipped when hindsight "
            f"meets the SLO in at least {percent(FEASIBLE_SHARE, 0)} of the episodes and no static placement "
            f"that does so too comes within {percent(LEAST_EXCESS, 0)} of hindsight's carbon; the honest "
            "checks, in which there is next to nothing to win, say so themselves. On a training ground, whose sites "
            "are made up at random, hindsight need not keep every one. Hindsight is the better of "
            "`oracle-per-request` (Khan et al.) and `oracle-warm-radio`; a plan over the whole episode can "
            "do better, so its compliance and its saving are lower bounds. No learned policy plays a "
            "part here.",
            "",
            *lines,
            "",
            *(["## Why there is nothing to win", "", *reasons, ""] if reasons else []),
            "## Which scenarios these were",
            "",
            *hashes,
            "",
        ]
    )
