"""How a complying policy stands against each of the policies without learning, in one sentence."""

from __future__ import annotations

from .benchmark_result import BenchmarkResult
from .comparison import Comparison, compare, unlearned
from .policy_result import PolicyResult

# How a complying policy stands against another -> how the sentence says it.
STANDINGS = {
    "wins": "clearly cleaner than",
    "buys carbon with misses": "clearly cleaner and clearly less often within the SLO than",
    "no clear difference": "not clearly different from",
    "loses": "clearly dirtier than",
    "dominates": "clearly cleaner and more often within the SLO than (these do not comply)",
    "beyond comparison": "beyond comparison, because they do not comply and are not clearly dirtier:",
}


def standing(found: Comparison) -> str:
    """How a complying policy stands against another one, a key of ``STANDINGS``."""
    if found.other_complies:
        return found.outcome
    return "dominates" if found.outcome == "wins" else "beyond comparison"


def against_all(result: BenchmarkResult, policy: PolicyResult) -> str:
    """How it stands against each of the others, at equal compliance where there is any."""
    standings = {other.name: standing(compare(result, policy, other)) for other in unlearned(result)}
    parts = []
    for key, phrase in STANDINGS.items():
        names = [name for name, found in standings.items() if found == key]
        if names:
            parts.append(f"{phrase} {', '.join(names)}")
    return f"{policy.name} against all others without learning: {'; '.join(parts)}."
