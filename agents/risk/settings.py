"""Settings of `carbonpilot risk train`: ``configs/train/risk.yaml``, strict, with overrides per scenario or family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ...envs.schema_base import Fraction, Positive, Strict
from ...envs.strict_yaml import read_yaml
from ...envs.validation import validated

SCHEMA = "carbonpilot/risk-train/1"
FILE = Path(__file__).resolve().parents[2] / "configs" / "train" / "risk.yaml"

Count = Annotated[int, Field(ge=1)]


class RiskSettings(Strict):
    """How a risk head and its price are made.

    Attributes:
        rounds: rollouts with a head of the round before, after a first one with a rule.
        episodes: training tapes of a rollout.
        share: share of their requests that are labelled.
        exploration: share of their requests that go to a random placement.
        price_spread: standard deviation of the logarithm of a factor on each tape's price of a miss, so that the head
            also knows what bolder and more careful prices come to.
        held_out: share of the tapes that the fit does not see; they tell when to stop.
        hidden: units of the head's hidden layers.
        epochs, batch_size, learning_rate, weight_decay: of the fit; the rate follows one cycle.
        quick_trials, quick_tapes: settings and tapes of the searches for a price between the rounds.
        trials: settings of the search for the final price; None: as many as a rule of as many numbers gets.
        search_tapes, selection_tapes: tapes of that search, and fresh ones for the final choice.
        aim: share of fresh tapes that shall meet the SLO.
        price_on: scenario of the same family whose tapes the final price is searched on; None: that of the head.
        calibration_tapes: fresh tapes on which predicted and observed misses are compared.
        country_iso_code: grid (ISO 3166 alpha-3) that the machine's own energy is counted with.
    """

    rounds: Annotated[int, Field(ge=0)]
    episodes: Annotated[int, Field(ge=2)]
    share: Annotated[float, Field(gt=0, le=1)]
    exploration: Fraction
    price_spread: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    held_out: Annotated[float, Field(gt=0, lt=1)]
    hidden: Annotated[list[Count], Field(min_length=1)]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    quick_trials: Count
    quick_tapes: Count
    trials: Count | None
    search_tapes: Count
    selection_tapes: Count
    aim: Annotated[float, Field(gt=0, le=1)]
    price_on: str | None
    calibration_tapes: Annotated[int, Field(ge=2)]
    country_iso_code: Annotated[str, Field(pattern="^[A-Z]{3}$")]


class RiskFile(Strict):
    """``configs/train/risk.yaml``; each section of ``scenarios`` is complete once laid over ``default``."""

    schema_version: Annotated[Literal["carbonpilot/risk-train/1"], Field(alias="schema")]
    default: RiskSettings
    scenarios: dict[str, RiskSettings]


def load_risk_settings(
    scenario: str, family: str, file: str | Path | None = None, changes: Mapping[str, Any] | None = None
) -> RiskSettings:
    """Read the settings for a scenario.

    Args:
        scenario: section looked for first.
        family: section looked for next; without either, ``default`` alone holds.
        file: another file than the shipped one.
        changes: values that replace those of the file; None values are skipped.

    Raises:
        InputError: misspelt, missing or impossible key, with its dotted path.
    """
    path = FILE if file is None else Path(file)
    content = read_yaml(path)
    # ``default`` by itself first, so that a mistake there is reported once.
    default = validated(RiskFile, {**content, "scenarios": {}}, str(path)).default.model_dump()
    sections = content.get("scenarios")
    if isinstance(sections, dict):
        sections = {k: {**default, **v} if isinstance(v, dict) else v for k, v in sections.items()}
    settings = validated(RiskFile, {**content, "scenarios": sections}, str(path))
    found = next(
        (settings.scenarios[n] for n in (scenario, family) if n in settings.scenarios), settings.default
    )
    changed = {key: value for key, value in (changes or {}).items() if value is not None}
    return validated(RiskSettings, {**found.model_dump(), **changed}, "risk options")
