"""What making an agent cost, for the card of its bundle: seconds, energy and CO2 of all parts that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .run_dir import RunDir
from .tracking import FILE as EMISSIONS_FILE

SECONDS, ENERGY, CARBON = "seconds", "energy_kwh", "emissions_g"
UNITS = {SECONDS: "s", ENERGY: "kWh", CARBON: "g CO2"}
Part = dict[str, Any]


def run_part(run: RunDir) -> Part:
    """What the training in a run folder cost, teaching included; None stands for what is not known."""
    document = run.read_json(EMISSIONS_FILE) or {}
    sessions = document.get("sessions", [])
    cut = sum(not session["complete"] for session in sessions)
    part = {"what": "training run", **_sums(document), "sessions": len(sessions), **_how(sessions)}
    return part if not cut else {**part, "sessions_cut_short": cut}  # their last seconds are not counted


def risk_part(training: Mapping[str, Any]) -> Part:
    """What a risk head and its price cost; ``training`` is that of their card."""
    footprint = training.get("emissions") or {}
    part = {"what": "risk head and price", **_sums(footprint), **_how([footprint] if footprint else [])}
    if part[SECONDS] is None:
        part[SECONDS] = training.get("seconds")
    return part


def risk_parts(training: Mapping[str, Any]) -> list[Part]:
    """What a risk head and its price cost, beside what a head cost that was made elsewhere and given a new price."""
    part, given = risk_part(training), training.get("head")
    if given is None:
        return [part]
    return [*risk_parts(given["training"]), {**part, "what": "new price of the risk head"}]


def total_cost(parts: Sequence[Part]) -> dict[str, Any]:
    """The parts and their sum; a sum is None where a part is not known, and ``unknown`` says which.

    ``at_least`` is the sum of what is known, where that is less than everything.
    """
    unknown = [f"{UNITS[key]} of {part['what']}" for part in parts for key in UNITS if part[key] is None]
    known = {key: [part[key] for part in parts if part[key] is not None] for key in UNITS}
    sums = {key: sum(known[key]) if parts and len(known[key]) == len(parts) else None for key in UNITS}
    least = {key: sum(known[key]) for key in UNITS if sums[key] is None and known[key]}
    return {**sums, "at_least": least, "unknown": unknown, "parts": list(parts)}


def cost_line(cost: Mapping[str, Any] | None) -> str:
    """One line for people."""
    if cost is None:
        return "training cost: unknown"
    if not cost["unknown"]:
        sums = f"{cost[SECONDS]:.0f} s, {cost[ENERGY] * 1000:.2f} Wh, {cost[CARBON]:.2f} g CO2"
        return f"training cost: {sums} ({' + '.join(part['what'] for part in cost['parts'])})"
    words = [f"{cost[key]:.3g} {unit}" for key, unit in UNITS.items() if cost[key] is not None]
    words += [f"at least {value:.3g} {UNITS[key]}" for key, value in cost["at_least"].items()]
    return f"training cost: {', '.join([*words, 'unknown: ' + ', '.join(cost['unknown'])])}"


def _sums(document: Mapping[str, Any]) -> dict[str, float | None]:
    return {SECONDS: document.get("duration_s"), ENERGY: document.get(ENERGY), CARBON: document.get(CARBON)}


def _how(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Grid and method of the measurement, as the newest session has them."""
    keys = ("country_iso_code", "carbon_g_per_kwh", "method")
    return {key: sessions[-1].get(key) for key in keys} if sessions else {}
