from types import SimpleNamespace

import pytest

from carbonpilot.agents.compatibility import check_compatible
from carbonpilot.envs.errors import BundleError
from carbonpilot.envs.observation import Feature, ObservationTable

ACTIONS = ["local-b0", "edge-b0"]


def table(**changes):
    """A table of three features, some of them changed, removed (None) or added."""
    rows = {
        "rtt_ms": Feature("rtt_ms", "ms", 0, 2000, 100, "probed round-trip time", "second"),
        "load": Feature("load", "1", 0, 2, 1, "reported load", "second"),
        "payload_kb": Feature("payload_kb", "kB", 0, 10_000, 100, "size of the request", "request"),
    }
    rows.update(changes)
    return ObservationTable([row for row in rows.values() if row is not None])


def site(family="metro", actions=ACTIONS):
    placements = [SimpleNamespace(name=name) for name in actions]
    return SimpleNamespace(name="metro-here", family=family, placements=placements)


def card(**changes):
    observation = {"sha256": table().sha256, "features": table().records()}
    made_for = {
        "scenario": "metro",
        "scenario_family": "metro",
        "actions": ACTIONS,
        "observation": observation,
    }
    return {**made_for, **changes}


def test_the_site_of_the_training_is_accepted():
    check_compatible(card(), site(), table())


RESCALED = Feature("rtt_ms", "ms", 0, 2000, 50, "probed round-trip time", "second")
SURPLUS = Feature("heat", "1", 0, 2, 1, "heat", "request")


@pytest.mark.parametrize(
    ("scenario", "other", "message"),
    [
        (site(family="drive"), table(), r"trained for scenario family 'metro' .*, not for 'drive'"),
        (site(actions=["local-b0", "edge-b4"]), table(), r"chooses among .*'metro-here' offers .*edge-b4"),
        (site(actions=ACTIONS[::-1]), table(), "chooses among"),
        (site(), table(rtt_ms=RESCALED), "'rtt_ms' has scale 50, in training 100"),
        (site(), table(load=None), "'load' is missing here"),
        (site(), table(heat=SURPLUS), "'heat' was unknown in training"),
        (site(), ObservationTable(list(table().features)[::-1]), "the order is .*payload_kb"),
    ],
)
def test_another_site_is_refused_with_what_differs(scenario, other, message):
    with pytest.raises(BundleError, match=message):
        check_compatible(card(), scenario, other)


def test_another_version_of_the_same_rows_is_refused():
    older = card(observation={"sha256": "abc", "features": table().records()})
    with pytest.raises(BundleError, match="its SHA-256 is abc"):
        check_compatible(older, site(), table())
