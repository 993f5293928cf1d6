"""Carbon intensity from the grid's public sources, refreshed behind the runtime's back and never made up.

Each source is a `Feed`; a `BackgroundFeed` asks it in a thread, keeps the last good reading with its age, and
a `FeedCache` carries that over a restart. `carbonpilot.real.feeds.mock` is a server with the sources' answers.
"""

from .background import BackgroundFeed, FeedStatus, Latest
from .cache import FeedCache
from .country_default import CountryDefault
from .csv_replay import CsvReplay
from .electricity_maps import ElectricityMaps
from .gb_intensity import GbCarbonIntensity
from .reading import Feed, FeedError, Reading
from .registry import FEED_NAMES, make_feed
from .watttime import WattTime

__all__ = [
    "FEED_NAMES",
    "BackgroundFeed",
    "CountryDefault",
    "CsvReplay",
    "ElectricityMaps",
    "Feed",
    "FeedCache",
    "FeedError",
    "FeedStatus",
    "GbCarbonIntensity",
    "Latest",
    "Reading",
    "WattTime",
    "make_feed",
]
