"""WattTime v3, ``/v3/forecast`` of ``co2_moer``: the marginal rate of the current five minutes.

The signal index is a percentile and the history comes late; the first points of the newest forecast are what
WattTime offers for acting now. They are a model's values, so every reading is flagged estimated.
"""

from __future__ import annotations

import base64
from typing import Any

from .checks import Answer
from .http_feed import HttpFeed
from .http_source import JsonAnswer
from .rate_limit import RateLimit
from .reading import FeedError, Kind, Reading
from .secret import Secret, secret_from_environment

USER, PASSWORD = "CARBONPILOT_WATTTIME_USER", "CARBONPILOT_WATTTIME_PASSWORD"
G_PER_LB = 453.59237  # exact by definition
KWH_PER_MWH = 1000.0
UNITS = "lbs_co2_per_mwh"
SIGNAL = "co2_moer"
TOKEN_LIFE_S = 25 * 60.0  # they live 30 minutes; renewed before that


class WattTime(HttpFeed):
    """Needs user and password; answers for a region of WattTime such as ``CAISO_NORTH``. Marginal, not average."""

    name = "watttime"
    kind: Kind = "marginal"
    stale_after_s = 3600.0  # five-minute values (assumed)
    default_url = "https://api.watttime.org"
    requests_per_window = (3000, 300.0)  # docs.watttime.org
    refused_mend = f"Check {USER} and {PASSWORD}; a free account answers for CAISO_NORTH only"

    def __init__(self, *args: Any, **options: Any) -> None:
        """Read user and password from the environment; see `HttpFeed` for the arguments."""
        user = secret_from_environment(USER, "WattTime").reveal()
        password = secret_from_environment(PASSWORD, "WattTime").reveal()
        super().__init__(*args, **options)
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._basic = Secret(basic)
        self._token: Secret | None = None
        self._hidden = Secret("")
        self._token_until_s = 0.0
        self._login_limit = RateLimit(100, 300.0, self.clock)  # docs.watttime.org
        for text in (user, password, basic):
            self.source.hide(text)

    def fetch(self, zone: str) -> Reading:
        """The marginal rate of now; logs in where the token is missing, old or refused."""
        answer = self._answer(zone)
        try:
            came = self._forecast(answer)
        except FeedError as err:
            if err.cause != "refused" or self._token is None:
                raise
            self._token = None  # revoked or expired before its time: one new login, then it is an error
            came = self._forecast(answer)
        return self._read(answer, came)

    def _forecast(self, answer: Answer) -> JsonAnswer:
        params = {"region": answer.zone, "signal_type": SIGNAL, "horizon_hours": "1"}
        headers = {"authorization": f"Bearer {self._bearer(answer).reveal()}"}
        return self.source.get(answer.zone, "/v3/forecast", params, headers)

    def _bearer(self, answer: Answer) -> Secret:
        if self._token is None or self.clock.monotonic_s() >= self._token_until_s:
            self._token = None
            headers = {"authorization": f"Basic {self._basic.reveal()}"}
            came = self.source.get(answer.zone, "/login", None, headers, limit=self._login_limit)
            if not isinstance(came.content, dict) or not _is_token(came.content.get("token")):
                # What came is not shown: it may hold the token in another place.
                raise answer.error("malformed", "expected {token: TEXT} from the login, got another form")
            self._token = Secret(came.content["token"])
            self._token_until_s = self.clock.monotonic_s() + TOKEN_LIFE_S
            self.source.hide(self._token.reveal(), instead_of=self._hidden.reveal())
            self._hidden = self._token
        return self._token

    def _read(self, answer: Answer, came: JsonAnswer) -> Reading:
        meta = answer.field(came.content, "meta", dict)
        answer.same_zone(answer.field(meta, "region", str, "meta."), answer.zone)
        for key, expected in (("signal_type", SIGNAL), ("units", UNITS)):
            got = answer.field(meta, key, str, "meta.")
            if got != expected:
                raise answer.error("malformed", f"expected meta.{key} {expected!r}, got {answer.shown(got)}")
        points = answer.field(came.content, "data", list)
        starts = [answer.moment(answer.field(p, "point_time", str, "data."), "point_time") for p in points]
        # The point that now lies in; a forecast's first point may start a few minutes after now.
        begun = [i for i, start in enumerate(starts) if start <= came.source_now]
        if not points:
            raise answer.error("not-covered", "the forecast holds no point")
        now = (
            max(begun, key=lambda i: starts[i]) if begun else min(range(len(starts)), key=lambda i: starts[i])
        )
        value = answer.field(points[now], "value", (int, float), "data.")
        carbon = answer.carbon(_g_per_kwh(value), f"the marginal rate ({answer.shown(value)} lb/MWh)")
        return self._reading(
            answer,
            carbon,
            starts[now],
            came.source_now,
            True,
            note="model's value for the current five minutes",
        )


def _g_per_kwh(lb_per_mwh: float) -> float:
    try:
        return float(lb_per_mwh) * G_PER_LB / KWH_PER_MWH
    except OverflowError:
        return float("inf")


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()
