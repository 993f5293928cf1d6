"""The records that a file of training settings fills, one for each kind of algorithm."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..envs.schema_base import Fraction, NonNegative, Positive, Strict
from .teach.settings import TeacherConfig

Discount = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class ConstraintConfig(Strict):
    """The SLO as a constraint on the share of missed requests (`constraint.PidLagrangian`).

    The multiplier is in units of reward per missed request, as the weight ``slo_miss`` that it replaces. Errors
    are relative to the target, (measured - target) / target, and the gains act on the multiplier's logarithm: with ki
    0.1 it grows by a tenth in a window whose share is twice the target.

    Attributes:
        target_share: target of the share of misses over what the SLO allows, 1 - quantile; null: over a risk head
            ``target_share_over_head``, else ``target_share_alone``.
        target_share_alone: of an agent that begins with nothing: its misses lie together, so that fewer of them break
            as many episodes.
        target_share_over_head: of an agent that begins as a risk head, which knows where a miss is likely.
        kp: per error of the last window.
        ki: per window and error.
        kd: per growth of the error; its fall counts nothing.
        start: multiplier of the first window; null: over a risk head what its tuned price of a miss comes to
            (`constraint_start`), else ``start_guess``.
        start_guess: multiplier of the first window where nothing better is known.
        lowest: bound of the multiplier ...
        highest: ... and the other one; the integral is held between them too.
        smoothing: weight of the earlier windows in the measured share.
        error_limit: bound of the error, so that one bad window cannot wind the multiplier up.
        update_steps: requests of one window; the multiplier moves at its end. Of a Q-learner only those count that
            were placed in the environments that never explore.
        budget_gain: a miss counts exp(gain x (budget spent - progress)), for the target as for its price, so that
            misses shall lie where an episode can afford them; 0: each counts the same.
    """

    target_share: PositiveShare | None
    target_share_alone: PositiveShare | None = None
    target_share_over_head: PositiveShare | None = None
    kp: NonNegative
    ki: NonNegative
    kd: NonNegative
    start: Positive | None
    start_guess: Positive | None = None
    lowest: Positive
    highest: Positive
    smoothing: Discount
    error_limit: Positive
    update_steps: Count
    budget_gain: NonNegative

    @model_validator(mode="after")
    def _ordered(self) -> ConstraintConfig:
        for name in ("start", "start_guess"):
            value = getattr(self, name)
            if not self.lowest <= (self.lowest if value is None else value) <= self.highest:
                raise ValueError(
                    f"{name} ({value}) must lie between lowest ({self.lowest}) and highest ({self.highest})"
                )
        if self.target_share is None and None in (self.target_share_alone, self.target_share_over_head):
            raise ValueError(
                "target_share: null takes target_share_alone or, over a risk head, target_share_over_head: give both, "
                "or a number"
            )
        return self

    def aim(self, over_head: bool) -> float:
        """The target of the share of misses over what the SLO allows, of an agent with or without a risk head."""
        share = self.target_share
        if share is None:
            share = self.target_share_over_head if over_head else self.target_share_alone
        assert share is not None, "checked"
        return share


class TrainingConfig(Strict):
    """What all algorithms have in common.

    Attributes:
        num_envs: environments stepped together.
        stack: observations that the policy sees at once, the present one and those before it; 1: no memory.
        learning_rate: step size of Adam at the start.
        learning_rate_end_share: share of it that is left at the last step; it falls linearly.
        gamma: discount per request.
        batch_size: requests of one gradient step.
        max_grad_norm: bound of the gradient's norm.
        hidden: units of the hidden layers of the policy (and of PPO's value network).
        activation: what stands between the layers.
        reward_scale: factor on the environment's reward before the agent sees it; metrics are unscaled.
        constraint: the SLO as a constraint; null: the scenario's fixed weight ``slo_miss`` holds.
        teacher: what the agent is taught with hindsight before it learns by itself; null or left out: nothing.
        normalizer_steps: vector steps with random placements from which mean and spread are measured.
        checkpoint_share: a checkpoint at least every this share of the steps ...
        checkpoint_seconds: ... and at least every so many seconds.
        evaluations: number of evaluations on the evaluation tapes, evenly spread.
        evaluation_episodes: tapes of one evaluation.
        evaluation_seed: seed of the first of these tapes.
        country_iso_code: grid (ISO 3166 alpha-3) that the training machine's own energy is counted with.
    """

    num_envs: Count
    stack: Count
    learning_rate: Positive
    learning_rate_end_share: Fraction
    gamma: Discount
    batch_size: Count
    max_grad_norm: Positive
    hidden: Annotated[list[Count], Field(min_length=1)]
    activation: Literal["tanh", "relu"]
    reward_scale: Positive
    constraint: ConstraintConfig | None
    teacher: TeacherConfig | None = None
    normalizer_steps: Count
    checkpoint_share: PositiveShare
    checkpoint_seconds: Positive
    evaluations: Count
    evaluation_episodes: Count
    evaluation_seed: Annotated[int, Field(ge=0)]
    country_iso_code: Annotated[str, Field(pattern="^[A-Z]{3}$")]


class PpoConfig(TrainingConfig):
    """Proximal policy optimisation (Schulman et al. 2017), names as in stable-baselines3.

    Attributes:
        tape_baseline: whether the reward is counted from what hindsight gets on the same tape (`teach.baseline`).
    """

    n_steps: Count
    n_epochs: Count
    gae_lambda: Fraction
    clip_range: Positive
    ent_coef: NonNegative
    vf_coef: NonNegative
    tape_baseline: bool = False

    @model_validator(mode="after")
    def _whole_batches(self) -> PpoConfig:
        rollout = self.n_steps * self.num_envs
        if rollout % self.batch_size:
            raise ValueError(
                f"batch_size ({self.batch_size}) must divide num_envs x n_steps ({rollout}): "
                "otherwise the last minibatch of every epoch is cut short"
            )
        return self


class RecurrentPpoConfig(PpoConfig):
    """PPO with an LSTM before the layers of policy and value network.

    Attributes:
        lstm_hidden: units of the LSTM.
    """

    lstm_hidden: Count


class QConfig(TrainingConfig):
    """What the Q-learners have in common. Steps count single environments' steps.

    Attributes:
        updates_per_vector_step: gradient steps after each step of all environments.
        buffer_size: requests that are remembered.
        learning_starts: requests placed at random before the first gradient step.
        target_update_steps: environment steps between copies to the target network.
        exploration_share: share of the training over which epsilon falls to ``exploration_final``.
        exploration_final: share of random placements after that, in the environments that explore.
        greedy_share: share of the environments that never explore; they alone count for the constraint.
        double: the online network chooses the next placement, the target network judges it.
    """

    updates_per_vector_step: Count
    buffer_size: Count
    learning_starts: Count
    target_update_steps: Count
    exploration_share: PositiveShare
    exploration_final: Fraction
    greedy_share: Fraction
    double: bool

    @model_validator(mode="after")
    def _target(self) -> QConfig:
        if self.target_update_steps < self.num_envs:
            raise ValueError(
                "target_update_steps must be at least num_envs: one vector step is the finest grain"
            )
        return self


class DqnConfig(QConfig):
    """Deep Q-learning (Mnih et al. 2015), double (van Hasselt et al. 2016), dueling (Wang et al. 2016).

    Attributes:
        dueling: one stream for the state's value, one for each placement's advantage over it.
    """

    dueling: bool


class QrDqnConfig(QConfig):
    """Q-learning by quantile regression (Dabney et al. 2018).

    Attributes:
        quantiles: of the return's distribution that are learned for each placement.
    """

    quantiles: Count


SETTINGS: dict[str, type[TrainingConfig]] = {
    "dqn": DqnConfig,
    "qrdqn": QrDqnConfig,
    "ppo": PpoConfig,
    "maskable-ppo": PpoConfig,
    "recurrent-ppo": RecurrentPpoConfig,
}
