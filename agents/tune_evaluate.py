"""Many settings of a rule on the same tapes at once: each tape is laid out once per setting, one batch for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError
from ..envs.schema import Scenario
from ..envs.simulator import Simulator
from ..envs.tape import TAPE_ARRAYS, Part, Tape, draw_tape
from .policy import Policy
from .rule_parameters import RULE_NAMES, make_rule

BATCH = 1600  # episodes stepped together: large enough for few Python calls, small enough for the caches

F64 = npt.NDArray[np.float64]
Parameters = Mapping[str, float]
# A rule by name, or what makes a policy from a scenario and parameters, each of them one value per episode (B,).
Rule = str | Callable[[Scenario, Mapping[str, Any]], Policy]


@dataclass(frozen=True)
class Scores:
    """What settings did on tapes, each array (C, T) for C settings and T tapes.

    Attributes:
        carbon_mg: CO2 per request of the episode, mg.
        misses: requests that missed the SLO.
        allowed: misses that the SLO's quantile allows in the episode.
    """

    carbon_mg: F64
    misses: F64
    allowed: F64

    @property
    def compliance(self) -> F64:
        """Share of the tapes that meet the SLO, by setting (C,)."""
        return (self.misses <= self.allowed).mean(axis=1)

    @property
    def mean_carbon_mg(self) -> F64:
        """Mean CO2 per request by setting (C,), mg."""
        return self.carbon_mg.mean(axis=1)


class TuningTapes:
    """Tapes of the training part on which settings are compared.

    Args:
        scenario: the site.
        seeds: one per tape (T,).
        traces_dir: trace folder of a scenario that reads files.
        part: only "training"; the parameter is here to be refused.
    """

    def __init__(
        self,
        scenario: Scenario,
        seeds: npt.NDArray[np.int64],
        traces_dir: str | None = None,
        part: Part = "training",
    ) -> None:
        """Draw the tapes; they are laid out once for each setting that plays at the same time."""
        if part != "training":
            raise InputError(
                f"Rules are tuned on training tapes only, got part '{part}'. The evaluation part is for "
                "`carbonpilot benchmark`; a rule tuned on it would be compared on tapes that it has seen."
            )
        self.scenario, self.tapes = scenario, len(seeds)
        self.together = max(1, BATCH // len(seeds))
        self._traces_dir = traces_dir
        self._layouts: dict[int, tuple[Simulator, Tape]] = {}
        simulator = Simulator(scenario, len(seeds), part=part, traces_dir=traces_dir)
        self._tape = draw_tape(simulator.site, seeds, part, simulator.traces_dir)

    @property
    def requests(self) -> int:
        """Simulated requests that one setting costs."""
        return self.tapes * self.scenario.episode.requests

    def score(self, rule: Rule, settings: Sequence[Parameters]) -> Scores:
        """Play a rule with each of some settings on every tape."""
        parts = [
            self._score_batch(rule, settings[i : i + self.together])
            for i in range(0, len(settings), self.together)
        ]
        return Scores(
            **{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Scores)}
        )

    def _layout(self, settings: int) -> tuple[Simulator, Tape]:
        """A simulator and the tapes for so many settings; there are two or three widths in a search."""
        if settings not in self._layouts:
            simulator = Simulator(
                self.scenario, settings * self.tapes, part="training", traces_dir=self._traces_dir
            )
            self._layouts[settings] = simulator, _laid_out(self._tape, settings)
        return self._layouts[settings]

    def _score_batch(self, rule: Rule, settings: Sequence[Parameters]) -> Scores:
        policy = self._policy(rule, settings)
        simulator, tape = self._layout(len(settings))
        observation = simulator.reset_tape(tape)
        batch = len(observation)
        policy.reset(batch)
        carbon, misses, requests = np.zeros(batch), np.zeros(batch), np.zeros(batch)
        running = np.ones(batch, dtype=bool)
        while running.any():
            result = simulator.step(policy.decide(observation, simulator.masks()))
            carbon += np.where(running, result.outcome.carbon_mg, 0.0)
            misses += np.where(running, result.outcome.missed, 0)
            requests += running
            observation = result.observation
            running &= ~result.truncated
        carbon, misses, requests = (a.reshape(len(settings), -1) for a in (carbon, misses, requests))
        # As agents.metrics.latency_quantiles: the quantile is the ceil(q n)-th smallest latency.
        allowed = requests - np.ceil(self.scenario.slo.quantile * requests - 1e-9)
        return Scores(carbon / requests, misses, allowed)

    def _policy(self, rule: Rule, settings: Sequence[Parameters]) -> Policy:
        """One policy for the whole batch, each setting on its own T columns."""
        if not isinstance(rule, str) or rule in RULE_NAMES:  # these take one value per episode
            columns = {name: np.repeat([s[name] for s in settings], self.tapes) for name in settings[0]}
            make = partial(make_rule, rule) if isinstance(rule, str) else rule
            return make(self.scenario, columns)
        return _SideBySide([make_rule(rule, self.scenario, s) for s in settings], self.tapes)


class _SideBySide:
    """Policies that each decide for their own stretch of the batch."""

    def __init__(self, policies: Sequence[Policy], episodes: int) -> None:
        """Give each policy ``episodes`` columns."""
        self.name, self._policies, self._episodes = policies[0].name, policies, episodes

    def reset(self, batch: int) -> None:
        """Start fresh episodes."""
        for policy in self._policies:
            policy.reset(self._episodes)

    def decide(self, observation: npt.NDArray, mask: npt.NDArray) -> npt.NDArray[np.int64]:
        """Ask each for its columns."""
        step = self._episodes
        return np.concatenate(
            [
                np.asarray(
                    policy.decide(observation[i * step : (i + 1) * step], mask[i * step : (i + 1) * step])
                )
                for i, policy in enumerate(self._policies)
            ]
        )


def _laid_out(tape: Tape, times: int) -> Tape:
    """A tape of T episodes as one of times x T, the whole set repeated."""
    columns = {name: getattr(tape, name) for name in TAPE_ARRAYS}
    repeated: Any = {
        name: None if value is None else np.concatenate([value] * times, axis=-1)
        for name, value in columns.items()
    }
    return replace(tape, **repeated)
