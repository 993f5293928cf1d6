"""A search space of a small PPO, as a file that tests may change."""

from __future__ import annotations

import pytest
import yaml

SPACE = {
    "schema": "carbonpilot/space/1",
    "algorithm": "ppo",
    "space": {
        "learning_rate": {"kind": "float", "low": 0.0005, "high": 0.02, "log": True},
        "n_epochs": {"kind": "int", "low": 1, "high": 2},
        "hidden": {"kind": "choice", "values": [[64, 64], [16]]},
        "constraint.ki": {"kind": "float", "low": 0.05, "high": 0.2},
    },
}


@pytest.fixture
def space_file(tmp_path):
    def write(**changes):
        content = {**SPACE, "space": {**SPACE["space"], **changes}}
        file = tmp_path / "space.yaml"
        file.write_text(
            yaml.safe_dump({**content, "space": {k: v for k, v in content["space"].items() if v}})
        )
        return file

    return write
