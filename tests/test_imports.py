"""No import runs against the direction of the rooms, and the light rooms load without the heavy packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("envs", "agents", "oracle", "real", "configs")

# The Gymnasium layer: the only modules of envs that know gymnasium (and one of them SB3).
GYM_LAYER = {
    "envs",  # registers the ids where gymnasium is installed
    "envs.masked_space",
    "envs.placement_env",
    "envs.placement_vector_env",
    "envs.registration",
    "envs.sb3_vec_env",
}
HEAVY = {
    "gymnasium",
    "torch",
    "stable_baselines3",
    "sb3_contrib",
    "tensorboard",
    "codecarbon",
    "optuna",
    "ray",
}
# Who may ask the oracle: what evaluates, compares and imitates.
ASK_ORACLE = {
    "agents.benchmark",
    "agents.benchmark_coupled",
    "agents.evaluation",
    "agents.teach.baseline",
    "agents.teach.cost_to_go",
    "agents.teach.hindsight",
    "agents.train",  # prints where the site breaks even before it trains on it
    "agents.shift_report",  # judges policies where hindsight keeps the objective
    "agents.policy_registry",  # finds the oracle by its name, for benchmark and the evaluation in training
}
# What the device runtime may use of agents; the rest of agents may need torch.
FOR_DEVICE = {
    "agents.policy",
    "agents.frozen",
    "agents.folding",
    "agents.frozen_risk",
    "agents.risk_terms",
    "agents.written_out",
    "agents.bundle",
    "agents.bundle_arrays",
    "agents.compatibility",
    "agents.shipped",
    "agents.dial_knowledge",
    "agents.partition",
    "agents.partition.cuts",
    "agents.partition.graph",
    "agents.shield_guards",
    "agents.shield_settings",
    "agents.shield_sight",
    "agents.shield_tracker",
    "agents.host_tracker",  # of a whole machine, for cross-checks; loads codecarbon when it is used
}
# Code that Triton's Python backend runs, in an environment of its own.
IN_SERVER = ("real.testbed.repository.model_", "real.segments.model_")


@dataclass(frozen=True)
class Arrow:
    """An import: ``source`` is a module below the package ('' is its root), ``target`` as well or foreign."""

    source: str
    target: str
    ours: bool
    line: int


def modules(root: Path) -> dict[str, Path]:
    """The package's modules by dotted name below its root."""
    files = [p for p in root.glob("*.py") if p.stem != "conftest"]
    files += [p for room in ROOMS for p in (root / room).rglob("*.py")]
    named = {}
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def arrows(root: Path) -> list[Arrow]:
    """Every import of every module, also those inside functions."""
    known = modules(root)
    found = []
    for source, path in known.items():
        package = source if path.stem == "__init__" else source.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                found += [Arrow(source, name.name, False, node.lineno) for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.append(Arrow(source, node.module or "", False, node.lineno))
            elif isinstance(node, ast.ImportFrom):
                parents = package.split(".") if package else []
                base = ".".join([*parents[: len(parents) - node.level + 1], *(node.module or "").split(".")])
                base = base.strip(".")
                for name in node.names:
                    full = f"{base}.{name.name}".strip(".")
                    found.append(Arrow(source, full if full in known else base, True, node.lineno))
    return found


def broken_rules(root: Path) -> list[str]:
    """Every import that runs back, as 'module:line: what is wrong'."""
    return [
        f"{arrow.source or '__init__'}:{arrow.line}: {problem}"
        for arrow in arrows(root)
        if (problem := _problem(arrow))
    ]


def _problem(arrow: Arrow) -> str | None:
    source, target = arrow.source, arrow.target
    room = source.split(".")[0]
    if not arrow.ours:
        return _foreign_problem(source, room, target.split(".")[0])
    other = target.split(".")[0]
    if room in ("cli", "__main__") or other in ("", room):
        own_gym_layer = room == "envs" and target in GYM_LAYER - {"envs"} and source not in GYM_LAYER
        return f"physics imports the Gymnasium layer ({target})" if own_gym_layer else None
    allowed = {
        "envs": False,
        "agents": other == "envs" or (other == "oracle" and source in ASK_ORACLE),
        "oracle": other == "envs" and target not in GYM_LAYER - {"envs"},
        "real": (other == "envs" and target not in GYM_LAYER - {"envs"}) or target in FOR_DEVICE,
    }.get(room, False)
    return None if allowed else f"{room or 'the root'} must not import {target}"


def _foreign_problem(source: str, room: str, package: str) -> str | None:
    if package == "carbonpilot":
        return "inside the package imports are relative"
    if package in ROOMS:
        return f"import of '{package}' as a top-level package"
    light = room in ("oracle", "real") or (room == "envs" and source not in GYM_LAYER)
    return f"{source} must load without {package}" if light and package in HEAVY else None


def test_no_arrow_runs_back():
    assert broken_rules(ROOT) == []


def test_the_walk_sees_the_package():
    """The check above would also pass if it found nothing."""
    names = modules(ROOT)
    assert {"", "cli", "envs", "envs.schema", "agents.policy", "oracle", "real"} <= set(names)
    ours = {(a.source, a.target) for a in arrows(ROOT) if a.ours}
    assert ("envs.scenario", "envs.schema") in ours
    assert ("envs.scenario", "envs.errors") in ours
    assert any(source == "cli" and target.startswith("agents") for source, target in ours)


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("envs/bad.py", "from ..agents.policy import Policy", "envs must not import agents.policy"),
        ("envs/deep/bad.py", "from ...oracle import solver", "envs must not import oracle"),
        ("envs/bad.py", "def f():\n    from ..real import log", "envs must not import real"),
        ("envs/bad.py", "import gymnasium", "must load without gymnasium"),
        ("envs/bad.py", "from gymnasium.spaces import Box", "must load without gymnasium"),
        ("envs/bad.py", "from .placement_env import PlacementEnv", "physics imports the Gymnasium layer"),
        ("envs/bad.py", "from . import placement_env", "physics imports the Gymnasium layer"),
        ("envs/bad.py", "from carbonpilot.envs import errors", "imports are relative"),
        ("envs/bad.py", "import carbonpilot", "imports are relative"),
        ("envs/bad.py", "from agents import policy", "top-level package"),
        ("oracle/bad.py", "from ..agents import policy", "oracle must not import agents.policy"),
        ("oracle/bad.py", "from ..envs.placement_env import X", "oracle must not import envs.placement_env"),
        ("oracle/bad.py", "import torch", "must load without torch"),
        ("agents/bad.py", "from ..oracle import per_request", "agents must not import oracle"),
        ("agents/bad.py", "from ..real import log", "agents must not import real"),
        ("agents/bad.py", "from .. import cli", "agents must not import cli"),
        ("real/bad.py", "from ..agents import train", "real must not import agents"),
        ("real/bad.py", "from ..agents.policy_registry import resolve", "real must not import agents"),
        ("agents/benchmark_bad.py", "from ..oracle import per_request", "agents must not import oracle"),
        ("real/bad.py", "from stable_baselines3 import PPO", "must load without stable_baselines3"),
        ("configs/bad.py", "from ..envs import errors", "configs must not import envs"),
        ("__init__.py", "from . import envs", "the root must not import envs"),
    ],
)
def test_a_bad_arrow_is_caught(tmp_path, module, line, message):
    for path in (f"{room}/__init__.py" for room in ROOMS):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    for path in ("envs/errors.py", "envs/placement_env.py", "agents/policy.py", "cli.py"):
        (tmp_path / path).write_text("")
    assert broken_rules(tmp_path) == []
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(line + "\n")
    (problem,) = broken_rules(tmp_path)
    assert message in problem


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("agents/benchmark.py", "from ..oracle import per_request"),
        ("agents/good.py", "from ..envs.placement_env import X"),
        ("agents/good.py", "import torch"),
        ("envs/placement_env.py", "import gymnasium"),
        ("real/good.py", "from ..agents.frozen import FrozenPolicy"),
        ("cli.py", "def f():\n    from .real import doctor"),
        ("real/good.py", "from .. import __version__"),
    ],
)
def test_a_good_arrow_passes(tmp_path, module, line):
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(line + "\n")
    assert broken_rules(tmp_path) == []


BLOCKED_IMPORT = """
import importlib, sys

for name in {heavy!r}:
    sys.modules[name] = None  # import raises ModuleNotFoundError, find_spec says that it is not there
for name in {names!r}:
    importlib.import_module(name)
print("imported", len({names!r}))
"""


def blocked_import(names: list[str], heavy: list[str]) -> subprocess.CompletedProcess[str]:
    code = BLOCKED_IMPORT.format(heavy=heavy, names=names)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


def light_modules() -> list[str]:
    light = [
        name
        for name in modules(ROOT)
        if name.split(".")[0] in ("oracle", "real", "configs")
        or (name.startswith("envs") and name not in GYM_LAYER - {"envs"})
        or name in FOR_DEVICE | {"cli"}
    ]
    light = [name for name in light if not name.startswith(IN_SERVER)]
    return [f"carbonpilot.{name}" for name in sorted(light)]


def test_light_rooms_import_without_torch_sb3_and_gymnasium():
    names = light_modules()
    assert {"carbonpilot.envs.schema", "carbonpilot.agents.frozen", "carbonpilot.real"} <= set(names)
    done = blocked_import(names, sorted(HEAVY))
    assert done.stderr == ""
    assert done.stdout.split() == ["imported", str(len(names))]


def test_the_block_blocks():
    done = blocked_import(["carbonpilot.envs.schema"], ["pydantic"])
    assert "import of pydantic halted" in done.stderr
    assert done.returncode != 0
