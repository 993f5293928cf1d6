"""Settings of a training run: one strict YAML file per algorithm, with overrides per scenario.

``configs/train/ALGO.yaml`` holds a complete ``default`` section and, under ``scenarios``, only what differs
for a scenario or for all scenarios of a family. Every number says in a comment where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..envs.errors import unknown_name
from ..envs.strict_yaml import read_yaml
from ..envs.validation import validated

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "train"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class TrainingConfig(BaseModel):
    """What DQN and PPO have in common.

    Attributes:
        num_envs: environments stepped together.
        learning_rate: step size of Adam at the start.
        learning_rate_end_share: share of it that is left at the last step; it falls linearly.
        gamma: discount per request.
        max_grad_norm: bound of the gradient's norm.
        hidden: units of the hidden layers of the policy (and of PPO's value network).
        activation: what stands between the layers.
        reward_scale: factor on the environment's reward before the agent sees it; metrics are unscaled.
        normalizer_steps: vector steps with random placements from which mean and spread are measured.
        checkpoint_share: a checkpoint at least every this share of the steps ...
        checkpoint_seconds: ... and at least every so many seconds.
        evaluations: number of evaluations on the evaluation tapes, evenly spread.
        evaluation_episodes: tapes of one evaluation.
        evaluation_seed: seed of the first of these tapes.
        country_iso_code: grid (ISO 3166 alpha-3) that the training machine's own energy is counted with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_envs: Count
    learning_rate: Positive
    learning_rate_end_share: Fraction
    gamma: Annotated[float, Field(ge=0, lt=1)]
    max_grad_norm: Positive
    hidden: Annotated[list[Count], Field(min_length=1)]
    activation: Literal["tanh", "relu"]
    reward_scale: Positive
    normalizer_steps: Count
    checkpoint_share: Annotated[float, Field(gt=0, le=1)]
    checkpoint_seconds: Positive
    evaluations: Count
    evaluation_episodes: Count
    evaluation_seed: Annotated[int, Field(ge=0)]
    country_iso_code: Annotated[str, Field(pattern="^[A-Z]{3}$")]


class PpoConfig(TrainingConfig):
    """Proximal policy optimisation (Schulman et al. 2017), names as in stable-baselines3."""

    n_steps: Count
    batch_size: Count
    n_epochs: Count
    gae_lambda: Fraction
    clip_range: Positive
    ent_coef: NonNegative
    vf_coef: NonNegative

    @model_validator(mode="after")
    def _whole_batches(self) -> PpoConfig:
        rollout = self.n_steps * self.num_envs
        if rollout % self.batch_size:
            raise ValueError(
                f"batch_size ({self.batch_size}) must divide num_envs x n_steps ({rollout}): "
                "otherwise the last minibatch of every epoch is cut short"
            )
        return self


class DqnConfig(TrainingConfig):
    """Deep Q-learning (Mnih et al. 2015). Steps count single environments' steps.

    Attributes:
        updates_per_vector_step: gradient steps after each step of all environments.
        target_update_steps: environment steps between copies to the target network.
        exploration_share: share of the training over which epsilon falls to ``exploration_final``.
    """

    batch_size: Count
    updates_per_vector_step: Count
    buffer_size: Count
    learning_starts: Count
    target_update_steps: Count
    exploration_share: Annotated[float, Field(gt=0, le=1)]
    exploration_final: Fraction

    @model_validator(mode="after")
    def _target(self) -> DqnConfig:
        if self.target_update_steps < self.num_envs:
            raise ValueError(
                "target_update_steps must be at least num_envs: one vector step is the finest grain"
            )
        return self


class PpoFile(BaseModel):
    """``configs/train/ppo.yaml``; each section of ``scenarios`` is complete once laid over ``default``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Annotated[Literal["carbonpilot/train/1"], Field(alias="schema")]
    algorithm: Literal["ppo"]
    default: PpoConfig
    scenarios: dict[str, PpoConfig]


class DqnFile(BaseModel):
    """``configs/train/dqn.yaml``; each section of ``scenarios`` is complete once laid over ``default``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Annotated[Literal["carbonpilot/train/1"], Field(alias="schema")]
    algorithm: Literal["dqn"]
    default: DqnConfig
    scenarios: dict[str, DqnConfig]


_FILES: dict[str, type[PpoFile] | type[DqnFile]] = {"dqn": DqnFile, "ppo": PpoFile}


def load_training_config(
    algo: str,
    scenario_name: str,
    family: str,
    file: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[PpoConfig | DqnConfig, str]:
    """Read the settings of an algorithm for a scenario.

    Args:
        algo: "dqn" or "ppo".
        scenario_name: section looked for first.
        family: section looked for next; without either, ``default`` alone holds.
        file: another file than the shipped one.
        changes: values that replace those of the file (a command line's options); None values are skipped.

    Returns:
        The settings and the name of the section that they come from.

    Raises:
        InputError: unknown algorithm, misspelt, missing or impossible key, with its dotted path.
    """
    if algo not in _FILES:
        raise unknown_name("algorithm", algo, _FILES)
    path = Path(file) if file is not None else CONFIGS / f"{algo}.yaml"
    settings = _read(_FILES[algo], path)
    section = next((name for name in (scenario_name, family) if name in settings.scenarios), "default")
    found = settings.scenarios.get(section, settings.default)
    changes = {key: value for key, value in (changes or {}).items() if value is not None}
    return validated(type(found), {**found.model_dump(), **changes}, "training options"), section


def _read(kind: type[PpoFile] | type[DqnFile], path: Path) -> PpoFile | DqnFile:
    """Check ``default`` by itself first, so that a mistake there is reported once, then all sections."""
    content = read_yaml(path)
    sections = content.get("scenarios")
    if not isinstance(sections, dict):
        return validated(kind, content, str(path))
    default = validated(kind, {**content, "scenarios": {}}, str(path)).default.model_dump()
    merged = {
        name: {**default, **over} if isinstance(over, dict) else over for name, over in sections.items()
    }
    return validated(kind, {**content, "scenarios": merged}, str(path))
