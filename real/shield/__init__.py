"""The shield: what keeps the objective whatever the policy says and whatever fails."""

from __future__ import annotations

from ...agents.shield_settings import ShieldSettings
from .breaker import Breaker, BreakerSettings
from .shield import GUARDS, Decision, Fallback, Shield

__all__ = ["GUARDS", "Breaker", "BreakerSettings", "Decision", "Fallback", "Shield", "ShieldSettings"]
