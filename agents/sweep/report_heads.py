"""The risk heads under a sweep's agents, as rows of their own: they are what reinforcement learning has to beat.

They are read from the runs, each of which keeps a copy of its head, so a row has the heads that the agents have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..policy_result import CARBON, MET, PolicyResult, SeedGroup
from ..risk.folder import is_risk_folder
from ..run_dir import RISK_FOLDER, risk_hashes
from ..seed_bootstrap import two_level
from ..seed_levels import LEARNED_RISK
from ..statistics import Estimate
from ..words import points, relative
from .field import SweepResult

Folders = dict[int, Path]  # training seed of the agents -> folder


@dataclass(frozen=True)
class Added:
    """What an agent adds to the risk heads under it, each seed to its own head, on the same tapes.

    Attributes:
        agent, heads: names of the rows.
        carbon: difference of carbon, as a share of the heads'.
        met: difference of the share of episodes that meet the SLO.
    """

    agent: str
    heads: str
    carbon: Estimate
    met: Estimate

    def sentence(self) -> str:
        """In words."""
        return (
            f"{self.agent} against the risk heads under it ({self.heads}), paired by seed and tape: "
            f"{relative(self.carbon)} carbon, SLO met {points(self.met)}."
        )

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "heads": self.heads,
            "relative_carbon": self.carbon.as_json(),
            "episodes_meeting_slo": self.met.as_json(),
        }


@dataclass
class Heads:
    """Risk heads by the name of their row.

    Attributes:
        folders: name of the row -> training seed of the agents over it -> a head's folder.
        labels: folder -> name of the single head.
        under: agent -> name of the row.
    """

    folders: dict[str, Folders] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    under: dict[str, str] = field(default_factory=dict)

    def added(self, result: SweepResult) -> list[Added]:
        """What each agent adds to the heads that it is laid over; those that could not be judged are left out."""
        found = []
        for agent, row in self.under.items():
            above, below = result.of_agent(agent), result.of_agent(row)
            if above is not None and below is not None:
                (own, seeds), (head, _) = above, below
                carbon = difference(result, own, head, seeds, CARBON, share=True)
                found.append(Added(own.name, head.name, carbon, difference(result, own, head, seeds, MET)))
        return found


def heads_of(agents: Mapping[str, Folders], site: str) -> Heads:
    """Find the risk heads under the runs of a site.

    Agents over the same heads share a row; where all seeds of an agent share one head, the row has that one.

    Args:
        agents: agent -> training seed -> run folder.
        site: name of the scenario that was trained on.
    """
    found, hashes = Heads(), {}  # name of a row -> training seed -> what its head's folder holds
    for agent, runs in agents.items():
        own = {seed: run / RISK_FOLDER for seed, run in runs.items() if is_risk_folder(run / RISK_FOLDER)}
        if not own:
            continue
        distinct = {str(risk_hashes(folder)): seed for seed, folder in sorted(own.items(), reverse=True)}
        content = {seed: digest for digest, seed in distinct.items()}
        row = next((name for name, held in hashes.items() if _agree(held, content)), None)
        if row is None:
            row = LEARNED_RISK if not hashes else f"{LEARNED_RISK} under {agent}"
        found.under[agent] = row
        hashes.setdefault(row, {}).update(content)
        row_folders = found.folders.setdefault(row, {})
        for seed in sorted(content):
            row_folders.setdefault(seed, own[seed])
            found.labels[str(row_folders[seed])] = f"{site}-{row.replace(' ', '-')}-{seed}"
    return found


def difference(
    result: SweepResult,
    own: PolicyResult,
    head: PolicyResult,
    seeds: tuple[int, ...],
    metric: str,
    share: bool = False,
) -> Estimate:
    """Difference of an agent to the risk heads under it, each seed to its own head, on the same tapes.

    Args:
        result: both of them.
        own: the agent.
        head: the row of its heads, which may have further seeds, or one head for all.
        seeds: of the agent.
        metric: name.
        share: as a share of the heads' mean.
    """
    several = isinstance(own, SeedGroup)
    under = head.metrics[metric]
    if isinstance(head, SeedGroup):
        under = np.stack([head.levels[metric][head.seeds.index(seed)] for seed in seeds])
        under = under if several else under[0]
    more = (own.levels[metric] if several else own.metrics[metric]) - under
    base = under.mean(axis=0) if under.ndim == 2 else under
    statistic = (lambda d, h: d / h) if share else (lambda d, h: d)
    if several:
        return two_level(result.bootstrap, statistic, more, base)
    return result.bootstrap.of_means(statistic, more, base)


def _agree(held: Mapping[int, str], content: Mapping[int, str]) -> bool:
    """Whether two sets of heads are the same as far as they have seeds in common."""
    common = held.keys() & content.keys()
    return bool(common) and all(held[seed] == content[seed] for seed in common)
