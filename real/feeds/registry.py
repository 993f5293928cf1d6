"""Feeds by the names that a site file uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...envs.errors import InputError, unknown_name
from ..clock import Clock
from .country_default import CountryDefault
from .csv_replay import CsvReplay
from .electricity_maps import ElectricityMaps
from .gb_intensity import GbCarbonIntensity
from .http_feed import HttpFeed
from .reading import Feed
from .watttime import WattTime

_OVER_HTTP: dict[str, type[HttpFeed]] = {f.name: f for f in (ElectricityMaps, GbCarbonIntensity, WattTime)}
FEED_NAMES = (*_OVER_HTTP, CsvReplay.name, CountryDefault.name)


def make_feed(
    name: str, clock: Clock | None = None, *, files: Mapping[str, str | Path] | None = None, **options: Any
) -> Feed:
    """Build a feed.

    Args:
        name: one of ``FEED_NAMES``.
        clock: time for ages and limits.
        files: file per zone, for csv-replay only.
        options: keyword arguments of the feed's class.

    Raises:
        InputError: no such feed, or it cannot be set up (a secret is missing, a file cannot be read).
    """
    if name not in FEED_NAMES:
        raise unknown_name("grid feed", name, FEED_NAMES)
    if (files is not None) != (name == CsvReplay.name):
        raise InputError(
            f"Files belong to {CsvReplay.name} and to no other feed; got feed {name}, files {files}."
        )
    if name == CsvReplay.name:
        return CsvReplay(files or {}, clock, **options)
    return _OVER_HTTP[name](clock, **options) if name in _OVER_HTTP else CountryDefault(clock, **options)
