"""The executors and frames that a calibration works with, built from the deployment."""

from __future__ import annotations

from pathlib import Path

from ...envs.scenario import scenario_dict
from ...envs.schema import Scenario
from ...envs.validation import validated
from ..executors.make import frames_jpeg_quality, make_executors
from ..interfaces import Executor
from ..site_file import Deployment, SiteFile


def draft_site(base: Scenario, deployment: Deployment, where: str) -> SiteFile:
    """Base and deployment as a site file without provenance, so that names are checked before anything is measured.

    Raises:
        ScenarioError: a placement, node, link or zone of the base has no place in the deployment, or the other way
            round.
    """
    content = {
        "schema": "carbonpilot/site/1",
        "scenario": scenario_dict(base),
        "deployment": deployment.model_dump(mode="json", exclude_none=True),
        "provenance": {"measured_utc": "", "carbonpilot_version": "", "numbers": {}, "node_levels": {}},
    }
    return validated(SiteFile, content, where)


def executors_of(draft: SiteFile, folder: Path) -> dict[str, Executor]:
    """An executor for each placement, not yet started."""
    return make_executors(draft, folder)


__all__ = ["draft_site", "executors_of", "frames_jpeg_quality"]
