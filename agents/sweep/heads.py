"""Risk heads of a sweep: those that it makes first, a seed each, and those that lie in folders already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...envs.errors import InputError
from ...envs.observation import remote_placements
from ...envs.schema import Scenario
from ..risk.folder import read_risk_for
from ..risk.settings import SCHEMA, RiskSettings, load_risk_settings
from ..seed_levels import LEARNED_RISK
from .spec import HeadSpec

HEAD = "risk-head"  # stands where other trials have their learning algorithm


@dataclass(frozen=True)
class HeadTrial:
    """One risk head with its price; the trainings of the same seed and scenario are laid over it.

    Attributes:
        name: folder below ``heads``.
        scenario: as `carbonpilot risk train` takes it; a path is absolute.
        site: the resolved scenario.
        settings: resolved settings.
        seed: of its training.
        traces_dir: trace folder, or None.
        agent: name that its settings file and its row have.
        steps: of reinforcement learning: none.
        needs: name of the trial that must have finished before: none.
    """

    name: str
    scenario: str
    site: Scenario
    settings: RiskSettings
    seed: int
    traces_dir: str | None
    agent: str = LEARNED_RISK
    steps: int = 0
    needs: str | None = None

    def record(self) -> dict[str, Any]:
        """What must stay the same when a sweep goes on."""
        return {
            "agent": self.agent,
            "scenario": self.site.name,
            "algorithm": HEAD,
            "steps": self.steps,
            "seed": self.seed,
            "options": [],
        }

    @property
    def settings_name(self) -> str:
        """Name of the settings file; seeds share it."""
        return f"{self.site.name}-{self.agent}.yaml"

    def settings_text(self, notes: str) -> str:
        """A settings file that `carbonpilot risk train --settings` takes, with a comment."""
        content = {"schema": SCHEMA, "default": self.settings.model_dump(mode="json"), "scenarios": {}}
        return f"# {notes}\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

    def words(self, out: Path, settings: Path, risk: Path | None) -> tuple[str, ...]:
        """Its command line without the program; a head that was being made is made anew."""
        words = ("risk", "train", self.scenario, "--seed", str(self.seed), "--settings", str(settings))
        traces = () if self.traces_dir is None else ("--traces", self.traces_dir)
        return (*words, *traces, "--out", str(out))


def head_trial(spec: HeadSpec, scenario: str, site: Scenario, traces_dir: str | None) -> HeadTrial:
    """The head of a scenario for seed 0; the others differ in seed and name.

    Raises:
        InputError: a setting does not exist or cannot be, or there is no risk to weigh.
    """
    try:
        settings = load_risk_settings(site.name, site.family, spec.file, spec.settings)
    except InputError as error:
        raise InputError(f"Risk heads of the sweep: {error}") from error
    if not remote_placements(site):
        raise InputError(
            f"Risk heads of the sweep: '{site.name}' has no placement but the device, so there is no risk to weigh."
        )
    return HeadTrial(f"{site.name}-{LEARNED_RISK}", scenario, site, settings, 0, traces_dir)


def given_head(text: str, beside: Path, site: Scenario, seed: int) -> Path:
    """A head's folder as the sweep file gives it; ``{scenario}`` and ``{seed}`` in it stand for the trial's.

    Raises:
        InputError: there is no such head, or it does not fit the scenario.
    """
    written: Mapping[str, str] = {"{scenario}": site.name, "{seed}": str(seed)}
    for word, value in written.items():
        text = text.replace(word, value)
    folder = (beside / text).absolute()
    read_risk_for(folder, site)
    return folder
