"""Electricity Maps v3, ``/v3/carbon-intensity/latest``: average intensity of consumption, hourly."""

from __future__ import annotations

from typing import Any

from ...envs.errors import InputError
from ...envs.traces.records import Factors
from .http_feed import HttpFeed
from .reading import Reading
from .secret import secret_from_environment

TOKEN = "CARBONPILOT_ELECTRICITYMAPS_TOKEN"
SANDBOX = "SANDBOX_MODE_DATA"


class ElectricityMaps(HttpFeed):
    """Needs a token; answers for a zone of Electricity Maps such as ``GB`` or ``US-CAL-CISO``."""

    name = "electricity-maps"
    stale_after_s = 3 * 3600.0  # hourly values that come up to two hours late (assumed)
    default_url = "https://api.electricitymaps.com"
    requests_per_window = (50, 3600.0)  # assumed; a plan's own limit is told by HTTP 429
    refused_mend = f"Renew the token in {TOKEN}; a free one answers for one zone only"

    def __init__(self, *args: Any, factors: Factors = "lifecycle", **options: Any) -> None:
        """Read the token from the environment; see `HttpFeed` for the other arguments.

        Args:
            factors: emission factors to ask for, "lifecycle" or "direct".
        """
        if factors not in ("lifecycle", "direct"):
            raise InputError(f"Electricity Maps has factors 'lifecycle' and 'direct', got {factors!r}.")
        self._token = secret_from_environment(TOKEN, "Electricity Maps")
        self.factors: Factors = factors
        super().__init__(*args, **options)
        self.source.hide(self._token.reveal())

    def fetch(self, zone: str) -> Reading:
        """The newest hour's average; measured or estimated as the source says."""
        answer = self._answer(zone)
        came = self.source.get(
            zone,
            "/v3/carbon-intensity/latest",
            {"zone": zone, "emissionFactorType": self.factors},
            {"auth-token": self._token.reveal()},
        )
        record = came.content
        answer.same_zone(answer.field(record, "zone", str), zone)
        method = record.get("estimationMethod")
        if method == SANDBOX:
            mend = f"Put the token of a live plan into {TOKEN}"
            raise answer.error(
                "invalid-value", "the token is of the sandbox, whose numbers are made up", mend
            )
        carbon = answer.carbon(record.get("carbonIntensity"), "carbonIntensity")
        factors = record.get("emissionFactorType", self.factors)
        if factors != self.factors:
            said = f"asked for {self.factors} factors, the answer has {answer.shown(factors)}"
            raise answer.error(
                "malformed", said, "The two must never meet in one sum; set factors to what comes"
            )
        estimated = answer.field(record, "isEstimated", bool)
        return self._reading(
            answer,
            carbon,
            answer.moment(record.get("datetime"), "datetime"),
            came.source_now,
            estimated,
            factors=self.factors if "emissionFactorType" in record else "not stated",
            note=f"estimated by {answer.shown(method)}" if estimated and method else "",
        )
