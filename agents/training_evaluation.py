"""The evaluation beside a training run: fixed tapes of the evaluation part, deterministic policy.

Its numbers are for watching. Nothing is chosen by them: no checkpoint is picked and no setting changed
during a run, so the benchmark on the same part stays clean.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..envs.dial import scenario_at
from ..envs.schema import Scenario
from ..envs.tape import Part, evaluation_seeds
from .baselines import make_policy
from .metrics import episode_metrics, mean_per_episode
from .policy import Policy
from .policy_registry import oracle_names, resolve
from .rollout import EpisodeRecord, run_policy

CARBON = "carbon_mg_per_request"
# What TensorBoard shows -> metric of the benchmark, and the reward that is trained on.
SHOWN = {
    "eval/carbon_mg_per_request": "carbon_mg_per_request",
    "eval/slo_miss_rate": "slo_miss_rate",
    "eval/episodes_meeting_slo": "episodes_meeting_slo",
    "eval/latency_p95_ms": "latency_p95_ms",
    "eval/reward_per_request": "reward",
}
SAVING = "eval/oracle_saving_share"


class TrainingEvaluation:
    """Plays a policy on the same evaluation tapes each time.

    Attributes:
        local_mg, oracle_mg: CO2 per request of always-local and of the strongest quick oracle on these tapes.
        record: every request of the newest `measure`; None before the first.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        episodes: int,
        traces_dir: str | None,
        part: Part = "evaluation",
    ) -> None:
        """Fix the tapes.

        Args:
            scenario: the site.
            seed: of the evaluation tapes.
            episodes: number of tapes.
            traces_dir: trace folder of a scenario that reads files.
            part: where the tapes come from; a search for settings must not see the evaluation part.
        """
        self._scenario = scenario_at(
            scenario, None
        )  # an agent that is trained all over the dial is watched here
        self._part: Part = part
        self.record: EpisodeRecord | None = None
        self._seeds = evaluation_seeds(seed, episodes)
        self._traces_dir = traces_dir

    def measure(self, policy: Policy) -> dict[str, float]:
        """Scores of a policy by TensorBoard tag, means over the episodes.

        ``eval/oracle_saving_share`` is (always-local - policy) / (always-local - oracle): 0 saves nothing
        against local, 1 as much as the oracle. It is left out where the oracle itself saves nothing.
        """
        self.record = self._record(policy)
        scores = self._scores(self.record)
        shown = {tag: scores[metric] for tag, metric in SHOWN.items()}
        possible = self.local_mg - self.oracle_mg
        if possible > 1e-6 * self.local_mg:
            shown[SAVING] = (self.local_mg - scores[CARBON]) / possible
        return shown

    @cached_property
    def local_mg(self) -> float:
        """CO2 per request of always-local, mg."""
        return self._scores(self._record(make_policy("always-local", self._scenario)))[CARBON]

    @cached_property
    def oracle_mg(self) -> float:
        """CO2 per request of the strongest oracle that needs no search, mg."""
        oracle = resolve(oracle_names(self._scenario)[-1], self._scenario)
        return self._scores(self._record(oracle))[CARBON]

    def _record(self, policy: Policy) -> EpisodeRecord:
        return run_policy(policy, self._scenario, self._seeds, self._part, self._traces_dir)

    def _scores(self, record: EpisodeRecord) -> dict[str, float]:
        scores = episode_metrics(record, self._scenario.slo)
        scores["reward"] = mean_per_episode(record.reward, record.valid)
        return {name: float(np.mean(values)) for name, values in scores.items()}
