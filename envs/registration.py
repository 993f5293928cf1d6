"""Gymnasium ids: ``carbonpilot/Placement-v0`` and one id per shipped scenario."""

from __future__ import annotations

import gymnasium as gym

from .scenario import shipped_scenarios

NAMESPACE, VERSION = "carbonpilot", "v0"
GENERAL_ID = f"{NAMESPACE}/Placement-{VERSION}"


def scenario_id(name: str) -> str:
    """Id of a shipped scenario: metro-mild -> carbonpilot/MetroMild-v0."""
    return f"{NAMESPACE}/{''.join(part.capitalize() for part in name.split('-'))}-{VERSION}"


def register_all() -> None:
    """Register every id that is not registered yet."""
    ids = {GENERAL_ID: {}} | {scenario_id(name): {"scenario": name} for name in shipped_scenarios()}
    for env_id, kwargs in ids.items():
        if env_id not in gym.registry:
            gym.register(
                id=env_id,
                entry_point="carbonpilot.envs.placement_env:PlacementEnv",
                vector_entry_point="carbonpilot.envs.placement_vector_env:make_vector_env",
                kwargs=kwargs,
            )
