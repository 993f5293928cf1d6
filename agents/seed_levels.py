"""Which of the given runs, bundles and risk folders are one agent trained with several seeds.

Two trainings belong together when everything about them is the same but the seed: scenario, algorithm, settings and
steps. A run says so in its ``config.yaml``, a bundle in its ``card.json``, a risk head in its ``price.json``.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..envs.errors import InputError
from .bundle import CARD_FILE, WEIGHTS_FILE
from .risk.folder import CARD_FILE as RISK_CARD
from .risk.folder import HEAD_FILE, is_risk_folder, read_risk

LEARNED_RISK = "learned-risk"
# Options of `train` that do not change what is trained, with the number of words after each.
# A risk head's folder is none either: each seed may have one of its own, and how that was made is compared beside it.
_NOT_SETTINGS = {"--seed": 1, "--out": 1, "--resume": 0, "--risk": 1}


@dataclass(frozen=True)
class Training:
    """Where a learned policy comes from.

    Attributes:
        folder: the run, bundle or risk folder as it was given.
        algorithm: e.g. "ppo"; of a risk head `LEARNED_RISK`.
        seed: training seed.
        settings: text that is the same for trainings that differ in their seed only.
        sha256: hash of the weights.
    """

    folder: str
    algorithm: str
    seed: int
    settings: str
    sha256: str


@dataclass(frozen=True)
class Siblings:
    """One agent trained with several seeds.

    Attributes:
        name: name of the group in tables and JSON, e.g. "dqn x3 seeds".
        members: names of its policies.
        seeds: their training seeds, in the same order.
    """

    name: str
    members: tuple[str, ...]
    seeds: tuple[int, ...]


def read_training(folder: Path) -> Training:
    """Read where the policy in a folder comes from; the folder has been loaded before."""
    if (folder / CARD_FILE).is_file():
        return _of_bundle(folder)
    return _of_risk(folder) if is_risk_folder(folder) else _of_run(folder)


def siblings(trainings: Mapping[str, Training]) -> list[Siblings]:
    """Group policies (name -> training) whose trainings differ in their seed only; groups of two or more.

    The same seed twice is the same training twice and no second draw: only the first one counts.
    """
    families: dict[str, dict[int, str]] = {}
    for name, training in trainings.items():
        families.setdefault(training.settings, {}).setdefault(training.seed, name)
    groups = [(trainings[next(iter(m.values()))].algorithm, m) for m in families.values() if len(m) > 1]
    names = _distinct(f"{algorithm} x{len(members)} seeds" for algorithm, members in groups)
    return [
        Siblings(name, tuple(members.values()), tuple(members))
        for name, (_, members) in zip(names, groups, strict=True)
    ]


def _distinct(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} (group {seen[name]})")
    return found


def _of_bundle(folder: Path) -> Training:
    card = json.loads((folder / CARD_FILE).read_text())
    training = card["training"]
    same = {
        **{key: card[key] for key in ("algorithm", "output", "network", "scenario_sha256")},
        "table": card["observation"].get("sha256"),
        "steps": training.get("steps"),
        "risk": (((card.get("risk") or {}).get("made") or {}).get("training") or {}).get("settings"),
        "commands": sorted({_settings_of(c) for c in str(training.get("command", "")).split(" && ")}),
    }
    sha256 = card["files"][WEIGHTS_FILE]
    return Training(str(folder), card["algorithm"], card["seed"], _text("bundle", same), sha256)


def _of_risk(folder: Path) -> Training:
    card = read_risk(folder).card
    seed = card.training.get("seed")
    if not isinstance(seed, int):
        raise InputError(
            f"{folder / RISK_CARD}: training.seed: expected the seed of its training, got {seed!r}."
        )
    same = {
        **{key: getattr(card, key) for key in ("scenario_sha256", "table_sha256", "actions")},
        "settings": card.training.get("settings"),
    }
    return Training(str(folder), LEARNED_RISK, seed, _text("risk", same), card.files[HEAD_FILE])


def _of_run(folder: Path) -> Training:
    from .run_dir import RISK_FOLDER, RunDir

    run = RunDir(folder)
    file, steps = run.model_file()
    scenario = (folder / "scenario_sha256").read_text().strip()
    config = dict(run.config)
    if config.get("risk") is not None:
        config["risk"] = _of_risk(folder / RISK_FOLDER).settings
    same = {"config": config, "scenario_sha256": scenario, "steps": steps}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return Training(str(folder), run.config["algorithm"], run.seed, _text("run", same), sha256)


def _text(kind: str, same: Mapping[str, Any]) -> str:
    return kind + json.dumps(same, sort_keys=True, default=str)


def _settings_of(command: str) -> str:
    """A training command without the options that do not change what is trained."""
    kept, skip = [], 0
    try:
        words = shlex.split(command)
    except ValueError:  # an unbalanced quote; the card is for people
        words = command.split()
    for word in words:
        if skip:
            skip -= 1
            continue
        option, _, value = word.partition("=")
        if option in _NOT_SETTINGS:
            skip = 0 if value else _NOT_SETTINGS[option]
            continue
        kept.append(word)
    return shlex.join(kept)
