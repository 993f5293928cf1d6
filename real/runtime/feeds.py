"""The grid feeds of a site, by the scenario's own zone names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..clock import Clock
from ..feeds import BackgroundFeed, CountryDefault, FeedCache, FeedError, Latest, make_feed
from ..site_file import Feeds


@dataclass(frozen=True)
class SiteFeeds:
    """Reads what the background feed has.

    Attributes:
        background: refreshes the source's zones.
        zones: zone of the scenario -> zone at the source.
    """

    background: BackgroundFeed
    zones: Mapping[str, str]

    def latest(self) -> dict[str, Latest]:
        """Newest readings by zone of the scenario; a zone without one is missing. Never waits."""
        found = {}
        for zone, at_source in self.zones.items():
            try:
                found[zone] = self.background.latest(at_source)
            except FeedError:
                continue
        return found

    def start(self) -> None:
        """Begin to refresh; what needs no network is read at once, so that the first frame knows its grid."""
        if self.background.feed.offline:
            self.background.refresh()
        self.background.start()

    def stop(self) -> None:
        """End; an answer under way is not waited for."""
        self.background.stop(timeout_s=1.0)


def site_feeds(spec: Feeds, folder: Path, cache: Path | None, clock: Clock) -> SiteFeeds:
    """Build the feeds of a site file in ``folder``.

    Raises:
        InputError: a secret is missing, a file cannot be read, the fallback is of another kind.
    """
    files = None if spec.files is None else {zone: folder / file for zone, file in spec.files.items()}
    feed = make_feed(spec.source, clock, files=files)
    background = BackgroundFeed(
        feed,
        list(dict.fromkeys(spec.zones.values())),
        interval_s=spec.interval_s,
        clock=clock,
        cache=None if cache is None else FeedCache(cache),
        fallback=CountryDefault(clock) if spec.fallback == "country-default" else None,
    )
    return SiteFeeds(background, dict(spec.zones))
