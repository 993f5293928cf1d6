"""The GB Carbon Intensity API: half-hourly average of Great Britain, and forecasts of its regions; no key."""

from __future__ import annotations

import re
from typing import Any

from .checks import Answer
from .http_feed import HttpFeed
from .reading import Reading

REGIONS = range(1, 18)
POSTCODE = re.compile(r"[A-Z]{1,2}[0-9][0-9A-Z]?")
ZONES = "GB, GB-1 to GB-17 (region ids) or GB-OX1 (outward postcodes)"


class GbCarbonIntensity(HttpFeed):
    """Zone ``GB`` is the country; ``GB-13`` a region; ``GB-OX1`` the region of an outward postcode."""

    name = "gb-carbon-intensity"
    stale_after_s = 2 * 3600.0  # half-hourly values (assumed)
    default_url = "https://api.carbonintensity.org.uk"
    requests_per_window = (60, 300.0)  # the source names no limit; politeness (assumed)
    refused_mend = "This source needs no key, so a proxy may be in the way"

    def fetch(self, zone: str) -> Reading:
        """The current half hour: the actual value where there is one, else the forecast, flagged estimated."""
        answer = self._answer(zone)
        path, key, expected = _address(answer)
        came = self.source.get(zone, path)
        record = _record(answer, came.content, key, expected)
        intensity = answer.field(record, "intensity", dict)
        actual, forecast = intensity.get("actual"), intensity.get("forecast")
        estimated = actual is None
        carbon = answer.carbon(
            forecast if estimated else actual, "intensity.forecast" if estimated else "intensity.actual"
        )
        return self._reading(
            answer,
            carbon,
            answer.moment(record.get("from"), "from"),
            came.source_now,
            estimated,
            note="forecast for the current half hour" if estimated else "",
        )


def _address(answer: Answer) -> tuple[str, str, Any]:
    """Path of a zone, and the field of the answer that must name it; no field for the country."""
    part = answer.zone[3:]
    if answer.zone == "GB":
        return "/intensity", "", None
    if answer.zone.startswith("GB-") and part.isascii() and part.isdigit() and int(part[:3]) in REGIONS:
        return f"/regional/regionid/{int(part)}", "regionid", int(part)
    if answer.zone.startswith("GB-") and POSTCODE.fullmatch(part):
        return f"/regional/postcode/{part}", "postcode", part
    raise answer.error("not-covered", f"no zone of this source; it has {ZONES}", "Check the zone's spelling")


def _record(answer: Answer, content: Any, key: str, expected: Any) -> Any:
    """The half hour's record, of a national or a region's answer (an object or a list of one)."""
    data = answer.field(content, "data", (list, dict))
    first = _only(answer, data, "data")
    if not key:
        if isinstance(first, dict) and "data" in first:
            raise answer.error("wrong-zone", "asked for the country, the answer is for a region")
        return first
    got = answer.field(first, key, (int, str), "data.")
    answer.same_zone(got, expected)
    return _only(answer, answer.field(first, "data", (list, dict), "data."), "data.data")


def _only(answer: Answer, data: Any, path: str) -> Any:
    if isinstance(data, dict):
        return data
    if len(data) != 1:
        raise answer.error("malformed", f"expected one record in {path}, got {len(data)}")
    return data[0]
