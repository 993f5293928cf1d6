"""Site files before anything is measured: to check names, and to run frames through the runtime."""

from __future__ import annotations

from collections.abc import Mapping

from ...envs.scenario import scenario_dict
from ...envs.schema import Scenario
from ...envs.validation import validated
from ..observer.levels import node_levels
from ..site_file import Deployment, SiteFile

UNHURRIED_MS = 60_000.0  # assumed: twice as long as a call may take at all (calls.TIMEOUT_S)


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


def for_rehearsals(base: Scenario, deployment: Deployment, sent_kb: Mapping[str, float]) -> SiteFile:
    """The site so far, with an objective that nothing misses: the shield shall leave each frame where it is tried.

    Args:
        base: the base scenario with its assumptions.
        deployment: where everything is.
        sent_kb: what split placements send, by name; the runtime compares it with their segments.
    """
    content = scenario_dict(base)
    content["slo"]["latency_ms"] = UNHURRIED_MS
    for placement in content["placements"]:
        if placement["name"] in sent_kb:
            placement["split"]["activation_kb"] = sent_kb[placement["name"]]
    scenario = validated(Scenario, content, "the site so far")
    draft = draft_site(scenario, deployment, "the site so far")
    provenance = draft.provenance.model_copy(update={"node_levels": node_levels(scenario)})
    return draft.model_copy(update={"provenance": provenance})
