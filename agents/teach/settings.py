"""The settings under ``teacher`` of a training run: what is labelled, at what price of a miss, in which stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...envs.schema_base import Fraction, NonNegative, Positive, Strict

Count = Annotated[int, Field(ge=1)]
LossName = Literal["regress", "cost", "label"]
OracleName = Literal["oracle-per-request", "oracle-warm-radio", "oracle-budget", "oracle-coupled"]


class DangerConfig(Strict):
    """On which tapes a miss is dear; the tapes of the lessons are played once more for it (`danger`).

    The price is multiplied by least + s((spent - at) / width) s((lost - spent) / width), where s is the logistic
    function and ``spent`` the misses of the whole tape over those that it may have.

    Attributes:
        at: where half of the price is reached.
        width: how far from there it is 0.73 of it; and how fast it falls near ``lost``.
        least: share of the price where there is no danger, and where all is lost.
        lost: beyond this a tape counts as lost.
    """

    at: Positive
    width: Positive
    least: NonNegative
    lost: Positive

    @model_validator(mode="after")
    def _lost_after_danger(self) -> DangerConfig:
        if self.lost <= self.at:
            raise ValueError(f"lost ({self.lost}) must be above at ({self.at}): no tape would be in danger")
        return self


class MissPriceConfig(Strict):
    """What a miss adds to the cost of a label, mg of carbon.

    Attributes:
        source: "oracle": the dual of each tape's own budget of misses under the oracle's plan; where a tape has none,
            the median of the others. "reward": the scenario's ``slo_miss`` over ``carbon_per_mg``.
        factor: on that price. Hindsight misses only on purpose; who must guess also misses by mistake, so that the
            same budget needs a higher price.
        lowest_mg: least price, for tapes on which missing saves nothing.
        budget_gain: a miss costs price x exp(gain x (budget spent - progress)), both as observed; 0: each the same.
        target_share: share of the allowed misses that the learner shall use.
        adapt: after each round of DAgger the factor is multiplied by exp(adapt x (misses / target - 1)), the
            exponent held between -1 and 1; 0: the factor stays.
        danger: by how near the learner brings each tape to breaking the objective; None: all tapes alike.
    """

    source: Literal["oracle", "reward"]
    factor: Positive
    lowest_mg: NonNegative
    budget_gain: NonNegative
    target_share: Annotated[float, Field(gt=0, le=1)]
    adapt: NonNegative
    danger: DangerConfig | None = None  # what settings mean that do not say


class FitConfig(Strict):
    """How lessons are learned, in all stages.

    Attributes:
        batch_size: lessons of one gradient step.
        value_coef: weight of the critic's squared error beside the actor's loss.
        max_grad_norm: bound of the gradient's norm, of actor and critic together.
        temperature: of the loss "regress": cost, in mean spreads of a lesson's costs, that makes one placement e times
            as likely as another.
    """

    batch_size: Count
    value_coef: NonNegative
    max_grad_norm: Positive
    temperature: Positive


class StageConfig(Strict):
    """What all stages have in common.

    Attributes:
        tapes: training tapes that are played (in each round).
        every: every so many requests one gets a label; the others are only played.
        lookahead: requests after it whose costs belong to a label; 0: the request's own outcome alone.
        epochs: times that each lesson is learned (in each round).
        loss: of an actor. "regress": its logits predict the costs, which teaches from any start and is right also where
            the cheapest placement cannot be told from the observation; "cost": the cost expected under its own
            probabilities, which refines an actor that is good already; "label": cross-entropy with the cheapest
            placement. Q-networks always regress.
        learning_rate: step size of Adam at a round's start; it falls linearly to a tenth.
        explore: share of random placements while lessons are collected.
    """

    tapes: Count
    every: Count
    lookahead: Annotated[int, Field(ge=0)]
    epochs: Count
    loss: LossName
    learning_rate: Positive
    explore: Fraction


class CloneStage(StageConfig):
    """Behaviour cloning: lessons along the oracle's own plan."""

    kind: Literal["clone"]


class DaggerStage(StageConfig):
    """DAgger (Ross et al. 2011) with costs (AggreVaTe, Ross and Bagnell 2014): lessons where the learner goes.

    Attributes:
        rounds: of collecting and learning.
        kept_rounds: newest rounds whose lessons are learned; DAgger keeps them all, but costs that follow the
            learner grow old with it.
        follow: who places the requests of ``lookahead``: the oracle's "plan", or the "learner" as it is.
    """

    kind: Literal["dagger"]
    rounds: Count
    kept_rounds: Count
    follow: Literal["plan", "learner"]


Stage = Annotated[CloneStage | DaggerStage, Field(discriminator="kind")]


class TeacherConfig(Strict):
    """What an agent is taught before it learns by itself.

    Attributes:
        oracle: whose plan is cloned and followed.
        labels_in: unit of the labels' costs. "mg": of carbon. "local": of what a local request is believed to emit at
            that moment, the price of a miss too; so lessons on clean grids weigh as much as those on dirty ones. For
            actors alone: Q values are rewards, and these are in mg.
        miss_price: of the labels.
        fit: how lessons are learned.
        stages: in this order.
        held_back: training tapes that nothing is learned from, on which every stage is scored.
        actor_frozen_steps: environment steps at the start of the RL in which only the critic learns.
    """

    oracle: OracleName
    labels_in: Literal["mg", "local"] = "mg"  # what settings mean that do not say
    miss_price: MissPriceConfig
    fit: FitConfig
    stages: Annotated[list[Stage], Field(min_length=1)]
    held_back: Count
    actor_frozen_steps: Annotated[int, Field(ge=0)]
