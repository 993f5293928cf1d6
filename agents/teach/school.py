"""Teaches a model stage by stage, scores every stage, and can go on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...envs.errors import InputError
from ...envs.observation import build_table
from ..metrics import episode_metrics
from ..policy import Policy
from ..policy_registry import resolve
from ..rollout import run_policy
from ..sb3_policy import Sb3Policy
from ..training_plan import Plan
from .cost_to_go import Act, CostToGo
from .costs import LabelUnit, MissPrice
from .danger import budget_spent, danger_share
from .hindsight import Hindsight, hindsight
from .learning import Fitted, learn
from .lessons import Collected, Collector, Lessons, joined
from .settings import CloneStage, DaggerStage, StageConfig, TeacherConfig
from .stage_book import RL, StageBook
from .students import Student, student_of
from .tapes import TeachingTapes

SCORES = ("carbon_mg_per_request", "slo_miss_rate", "episodes_meeting_slo", "latency_p95_ms")
REFERENCES = ("slo-predictive-budget", "learned-risk")  # what stood there before anything was taught
UNTAUGHT = "untaught"
Log = Callable[[Mapping[str, float], int], None]


class School:
    """Teaches the model of a training run.

    Args:
        plan: of the run; its settings have a ``teacher``.
        book: of the run's stages.
        multiplier: of the SLO's constraint at its start, None without one.
        log: takes scores by TensorBoard tag and the number of the round of lessons, counted from 1.
        say: takes lines for people.
        pause: called between rounds; raises where the run is to stop.
    """

    def __init__(
        self,
        plan: Plan,
        book: StageBook,
        multiplier: float | None,
        log: Log,
        say: Callable[[str], None],
        pause: Callable[[], None],
    ) -> None:
        """Prepare; nothing is played yet."""
        assert plan.settings.teacher is not None, "there is nobody to teach"
        self._plan, self._teacher, self._book = plan, plan.settings.teacher, book
        self._log, self._say, self._pause = log, say, pause
        self._tapes = TeachingTapes(plan.scenario, plan.seed, plan.traces_dir)
        self._price = MissPrice(plan.scenario, self._teacher.miss_price)
        self._collector = Collector(
            plan.scenario,
            self._price,
            LabelUnit(plan.scenario, self._teacher.labels_in),
            plan.settings.gamma,
            multiplier,
            getattr(plan.settings, "tape_baseline", False),
        )
        self._round = 0  # rounds of lessons so far, those of earlier sessions included

    def teach(self, model: Any) -> None:
        """Bring a model through all stages that are not done yet."""
        self._refer()
        student = student_of(model, len(build_table(self._plan.scenario)), self._teacher.fit)
        names = [UNTAUGHT, *stage_names(self._teacher)]
        done = [row["name"] for row in self._book.rows]
        if done:
            model.set_parameters(self._book.model_file(len(done) - 1, done[-1]), device=model.device)
            self._price.factor = self._book.rows[-1]["miss_price_factor"]
        for number, name in enumerate(names):
            stage = self._teacher.stages[number - 1] if number else None
            rounds = 0 if stage is None else stage.rounds if isinstance(stage, DaggerStage) else 1
            if name in done:
                self._round += rounds
            elif stage is None:
                self._close(model, name, {"kind": UNTAUGHT, "requests": 0, "seconds": 0.0, "updates": 0})
            else:
                self._close(model, name, self._stage(student, stage, number))

    def conclude(self, model: Any, seconds: float) -> None:
        """Score the model after the RL and close the book.

        Args:
            model: the final model.
            seconds: that the whole run took, teaching included.
        """
        taught = sum(row["seconds"] for row in self._book.rows if row["name"] != RL)
        row = {
            "kind": RL,
            "requests": int(model.num_timesteps),
            "seconds": max(seconds - taught, 0.0),
            "updates": int(model._n_updates),
        }
        self._close(model, RL, row, keep=False)

    def _refer(self) -> None:
        """Score what was there before, once a run."""
        for name in REFERENCES:
            if name not in self._book.references:
                try:
                    policy = resolve(name, self._plan.scenario)
                except InputError:
                    continue  # nothing of that name is shipped for this site
                self._book.refer(name, self._scores(policy))

    def _stage(self, student: Student, stage: CloneStage | DaggerStage, number: int) -> dict[str, Any]:
        """Teach one stage; what it came to, as a row of the book."""
        began, simulated, updates = time.perf_counter(), 0, 0
        fitted, parts = None, []
        for r in range(stage.rounds if isinstance(stage, DaggerStage) else 1):
            self._pause()
            rng = np.random.default_rng(np.random.SeedSequence([self._plan.seed, number, r]))
            collected = self._collect(student, stage, rng)
            parts = [*parts, collected.lessons][-getattr(stage, "kept_rounds", 1) :]
            fitted = self._learn(student, parts, stage, rng)
            self._note(collected, fitted)
            if isinstance(stage, DaggerStage):
                self._price.adapt(collected.miss_rate, self._plan.scenario.slo.quantile)
            simulated, updates = simulated + collected.simulated, updates + fitted.updates
        assert fitted is not None, "a stage has a round"
        return {
            "kind": stage.kind,
            "requests": simulated,
            "seconds": time.perf_counter() - began,
            "updates": updates,
            "lessons": sum(len(part) for part in parts),
            "loss": fitted.loss,
            "agreement": fitted.agreement,
            "regret_mg": fitted.regret_mg,
        }

    def _collect(
        self, student: Student, stage: CloneStage | DaggerStage, rng: np.random.Generator
    ) -> Collected:
        scenario = self._plan.scenario
        tape = self._tapes.draw(self._round, stage.tapes)
        self._round += 1
        clone = isinstance(stage, CloneStage)
        by_plan = clone or (stage.follow == "plan" and stage.lookahead > 0)
        known: Hindsight | None = None
        if by_plan or self._teacher.miss_price.source == "oracle":
            known = hindsight(scenario, tape, self._teacher.oracle)
        learner: Act = lambda n, observation, mask: student.choose(observation, mask)  # noqa: E731
        follow = _planned(known, len(scenario.placements)) if by_plan else learner
        label = CostToGo(scenario, tape, stage.lookahead, follow)
        act = _planned(known, 1) if clone else learner
        dual = None if known is None else known.dual_mg
        settings, danger, before = self._teacher.miss_price.danger, None, 0
        if settings is not None:
            spent = budget_spent(scenario, tape, act)
            danger, before = danger_share(spent.share, settings), spent.played
        done = self._collector.collect(tape, act, label, dual, stage.every, stage.explore, rng, danger)
        return replace(done, simulated=done.simulated + before)

    def _learn(
        self, student: Student, parts: list[Lessons], stage: StageConfig, rng: np.random.Generator
    ) -> Fitted:
        settings, weight = self._plan.settings, self._plan.scenario.reward.carbon_per_mg
        return learn(student, joined(parts), weight, settings.reward_scale, self._teacher.fit, stage, rng)

    def _note(self, collected: Collected, fitted: Fitted) -> None:
        values = {
            "teach/loss": fitted.loss,
            "teach/agreement": fitted.agreement,
            "teach/regret_mg": fitted.regret_mg,
            "teach/lessons_miss_rate": collected.miss_rate,
            "teach/miss_price_factor": self._price.factor,
        }
        self._log(values, self._round)

    def _close(self, model: Any, name: str, row: dict[str, Any], keep: bool = True) -> None:
        """Score a stage, write its row, and tell."""
        scores = self._scores(Sb3Policy(model, name))
        row = {"name": name, **row, "miss_price_factor": self._price.factor, **scores}
        self._book.add(row, model if keep else None)
        self._log({f"teach/{key}": value for key, value in scores.items()}, self._round)
        self._say(f"{name}: {stage_line(row)}")

    def _scores(self, policy: Policy) -> dict[str, float]:
        plan = self._plan
        seeds = self._tapes.held_back(self._teacher.held_back)
        record = run_policy(policy, plan.scenario, seeds, self._tapes.part, plan.traces_dir)
        metrics = episode_metrics(record, plan.scenario.slo)
        return {name: float(np.mean(metrics[name])) for name in SCORES}


def stage_names(teacher: TeacherConfig) -> list[str]:
    """Names of the stages of teaching: their kind, numbered where it comes more than once."""
    kinds = [stage.kind for stage in teacher.stages]
    return [
        kind if kinds.count(kind) == 1 else f"{kind}-{kinds[: i + 1].count(kind)}"
        for i, kind in enumerate(kinds)
    ]


def stage_line(row: Mapping[str, Any]) -> str:
    """One line for people about a row of the book."""
    words = f"{row['carbon_mg_per_request']:.3f} mg a request, {row['slo_miss_rate']:.1%} missed, "
    words += f"SLO met in {row['episodes_meeting_slo']:.0%} of held-back training episodes"
    return f"{words} ({row['seconds']:.0f} s)" if row.get("seconds") else words


def _planned(known: Hindsight | None, copies: int) -> Act:
    """Places requests as the oracle's plan does, in every copy of the episodes."""
    assert known is not None, "there is a plan where one is followed"
    return lambda n, observation, mask: np.tile(known.plan[n], copies)
