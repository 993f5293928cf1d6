"""The sources' answers as they really look, for a moment and a number; and the ways in which they go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

Json = dict[str, Any]

LB_PER_MWH_PER_G_PER_KWH = 1000.0 / 453.59237


def electricity_maps(
    now: datetime, carbon_g_per_kwh: Any, zone: str, method: str | None, factors: str
) -> Json:
    """Answer of ``/v3/carbon-intensity/latest``."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    return {
        "zone": zone,
        "carbonIntensity": carbon_g_per_kwh,
        "datetime": _milliseconds(hour),
        "updatedAt": _milliseconds(now),
        "createdAt": _milliseconds(hour - timedelta(days=3)),
        "emissionFactorType": factors,
        "isEstimated": method is not None,
        "estimationMethod": method,
        "temporalGranularity": "hourly",
    }


def gb_national(now: datetime, carbon_g_per_kwh: Any, estimated: bool) -> Json:
    """Answer of ``/intensity``; ``actual`` is null where the half hour is only forecast so far."""
    actual = None if estimated else carbon_g_per_kwh
    record = _half_hour(now)
    record["intensity"] = {"forecast": carbon_g_per_kwh, "actual": actual, "index": "moderate"}
    return {"data": [record]}


def gb_regional(now: datetime, carbon_g_per_kwh: Any, region: int, postcode: str | None) -> Json:
    """Answer of ``/regional/regionid/ID`` or ``/regional/postcode/OUTWARD``; regions have forecasts only."""
    record = _half_hour(now)
    record["intensity"] = {"forecast": carbon_g_per_kwh, "index": "moderate"}
    record["generationmix"] = [{"fuel": "gas", "perc": 40.0}, {"fuel": "wind", "perc": 60.0}]
    named: Json = {"regionid": region, "dnoregion": "UKPN London", "shortname": "London"}
    if postcode is not None:
        named["postcode"] = postcode
    return {"data": [{**named, "data": [record]}]}


def watttime_forecast(now: datetime, carbon_g_per_kwh: Any, region: str) -> Json:
    """Answer of ``/v3/forecast`` for one hour, in lb/MWh; the first of its points is now, the others dirtier."""
    first = now.replace(minute=now.minute - now.minute % 5, second=0, microsecond=0)
    value = carbon_g_per_kwh
    if isinstance(value, (int, float)):
        value = round(value * LB_PER_MWH_PER_G_PER_KWH, 6)
    later = value + 50 if isinstance(value, (int, float)) else value
    points = [
        {"point_time": (first + timedelta(minutes=5 * i)).isoformat(), "value": later} for i in range(12)
    ]
    points[0]["value"] = value
    return {
        "data": points,
        "meta": {
            "data_point_period_seconds": 300,
            "region": region,
            "warnings": [],
            "signal_type": "co2_moer",
            "model": {"date": "2023-03-01", "type": "binned_regression"},
            "units": "lbs_co2_per_mwh",
            "generated_at_period_seconds": 300,
            "generated_at": first.isoformat(),
        },
    }


# What a scenario puts where the number belongs.
VALUES: dict[str, Any] = {
    "zero": 0,
    "negative": -25,
    "absurd": 123456,
    "nan": float("nan"),
    "text": "n/a",
    "null": None,
}

SCENARIOS: dict[str, str] = {
    "ok": "fresh measured numbers",
    "estimated": "Electricity Maps says estimated; the GB half hour is only forecast",
    "sandbox": "Electricity Maps answers to a sandbox token, with made-up numbers",
    "silent": "takes the connection and never answers",
    "slow": "drips a byte at a time, the whole answer taking --delay-s",
    "zero": "0 g/kWh",
    "negative": "-25 g/kWh",
    "absurd": "123456 g/kWh",
    "nan": "NaN, which is not JSON",
    "text": "a text instead of the number",
    "null": "null instead of the number",
    "stale": "numbers of two days ago, as if the feed hung",
    "future": "numbers of tomorrow",
    "wrong-zone": "another zone than asked for",
    "expired": "the token has expired (WattTime: only the first login's)",
    "malformed": "an HTML page with status 200",
    "cut-off": "JSON that ends in the middle",
    "empty": "an empty JSON object",
    "flaky": "HTTP 503 to every first and second request, then as usual",
    "down": "HTTP 503 to every request",
    "busy": "HTTP 429 with Retry-After: 120",
    "redirect": "HTTP 302 to another host",
}

METHODS = {"estimated": "TIME_SLICER_AVERAGE", "sandbox": "SANDBOX_MODE_DATA"}
CHANGED_TIMES: dict[str, Callable[[datetime], datetime]] = {
    "stale": lambda now: now - timedelta(days=2),
    "future": lambda now: now + timedelta(days=1),
}


def content_of(path: str, query: dict[str, str], now: datetime, value: Any, scenario: str) -> Json | None:
    """The answer's document, or None for a path that no source has."""
    other, estimated = scenario == "wrong-zone", scenario == "estimated"
    parts = path.strip("/").split("/")
    if path == "/v3/carbon-intensity/latest" and "zone" in query:
        zone, factors = "XX" if other else query["zone"], query.get("emissionFactorType", "lifecycle")
        return electricity_maps(now, value, zone, METHODS.get(scenario), factors)
    if path == "/intensity":
        return gb_regional(now, value, 13, None) if other else gb_national(now, value, estimated)
    if len(parts) == 3 and parts[:2] == ["regional", "regionid"] and parts[2].isdigit():
        return gb_regional(now, value, 99 if other else int(parts[2]), None)
    if len(parts) == 3 and parts[:2] == ["regional", "postcode"]:
        return gb_regional(now, value, 13, "XX1" if other else parts[2])
    if path == "/v3/forecast" and "region" in query:
        return watttime_forecast(now, value, "OTHER" if other else query["region"])
    return None


def encoded(content: Json) -> bytes:
    """JSON as sent; NaN is written as some sources write it, although it is not JSON."""
    return json.dumps(content).encode()


def _half_hour(now: datetime) -> Json:
    start = now.replace(minute=now.minute - now.minute % 30, second=0, microsecond=0)
    return {"from": _minutes(start), "to": _minutes(start + timedelta(minutes=30))}


def _minutes(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%MZ")


def _milliseconds(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
