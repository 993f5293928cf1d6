"""Whether a bundle was made for this site: same observation table, same actions, same scenario family."""

from __future__ import annotations

from typing import Any

from .bundle import refusal


def check_table(card: dict[str, Any], table_sha256: str) -> None:
    """Raise BundleError unless the bundle was trained on the observation table of this hash."""
    trained = card["observation"].get("sha256")
    if trained != table_sha256:
        raise refusal(
            f"The bundle was trained on another observation table: its SHA-256 is {trained}, "
            f"this site's is {table_sha256}. Train on this site and export again."
        )


def check_family(card: dict[str, Any], family: str) -> None:
    """Raise BundleError unless the bundle was trained on a scenario of this family."""
    if card["scenario_family"] != family:
        raise refusal(
            f"The bundle was trained for scenario family '{card['scenario_family']}' "
            f"(scenario '{card['scenario']}'), not for '{family}'. Use a bundle of family '{family}'."
        )


def check_compatible(card: dict[str, Any], scenario: Any, table: Any) -> None:
    """Check a bundle against a scenario before it decides anything there.

    Args:
        card: a bundle's card.
        scenario: the ``Scenario`` it shall run on (its family and placements are read).
        table: that scenario's ``ObservationTable``.

    Raises:
        BundleError: naming the family, the placements or the features that differ.
    """
    check_family(card, scenario.family)
    actions = [placement.name for placement in scenario.placements]
    if card["actions"] != actions:
        raise refusal(
            f"The bundle chooses among {card['actions']}, scenario '{scenario.name}' offers {actions}."
        )
    nodes = [placement.node for placement in scenario.placements] if card.get("nodes") else None
    if card.get("nodes") != nodes:  # a card without them is from before they were noted
        raise refusal(
            f"The bundle's placements {card['actions']} are on {card['nodes']}, those of scenario '{scenario.name}' on "
            f"{nodes}. Train on this scenario and export again."
        )
    differences = table_differences(card["observation"].get("features", []), table.records())
    if differences:
        raise refusal(
            f"The bundle's observation table is not that of scenario '{scenario.name}': "
            f"{'; '.join(differences)}. Train on this scenario and export again."
        )
    check_table(card, table.sha256)  # same rows but another hash: the table's version changed
    check_wishes(card, scenario)


def check_wishes(card: dict[str, Any], scenario: Any) -> None:
    """Raise InputError unless the bundle knows the scenario's position of the dial.

    A card without wishes is from before the dial, when every site had one position.
    """
    if card.get("wishes") is None:
        return
    from .dial_knowledge import check_position, recorded_wishes  # late: nothing of envs before it is needed

    trained, sampled = recorded_wishes(card["wishes"])
    check_position("The bundle", trained, sampled, scenario.wishes, scenario.name)


def table_differences(trained: list[dict[str, Any]], here: list[dict[str, Any]]) -> list[str]:
    """Say in words how two lists of feature records differ; an empty list if they do not."""
    before = {row["name"]: row for row in trained}
    after = {row["name"]: row for row in here}
    words = [f"'{name}' is missing here" for name in before if name not in after]
    words += [f"'{name}' was unknown in training" for name in after if name not in before]
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        keys = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
        words += [f"'{name}' has {k} {new.get(k)!r}, in training {old.get(k)!r}" for k in keys]
    if not words and list(before) != list(after):
        words.append(f"the order is {list(after)}, in training {list(before)}")
    return sorted(words)
