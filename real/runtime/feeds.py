"""The grid feeds of a site, by the scenario's own zone names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...envs.errors import InputError
from ..clock import Clock
from ..feeds import BackgroundFeed, CountryDefault, FeedCache, FeedError, Latest, make_feed
from ..site_file import Feeds

ANSWER_S = 2.0  # longest wait for a source's first answer; it asks for a secret, so it may refuse ours


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

    async def check_access(self) -> None:
        """Find out whether the source lets us in, as far as it says so within two seconds.

        Raises:
            InputError: it refuses us (a token that has expired, say); a source that is silent is another matter.
        """
        end_s = time.monotonic() + ANSWER_S
        while time.monotonic() < end_s:
            states = [self.background.status(zone) for zone in self.background.zones]
            refused = [s.last_error for s in states if s.last_cause == "refused"]
            if refused:
                raise InputError(f"The grid feed refuses us. {refused[0]}")
            if self.background.feed.offline or all(s.successes_total or s.failures_total for s in states):
                return
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """End; an answer under way is not waited for."""
        self.background.stop(timeout_s=1.0)


def site_feeds(
    spec: Feeds, folder: Path, cache: Path | None, clock: Clock, wanted: Collection[str] | None = None
) -> SiteFeeds:
    """Build the feeds of a site file in ``folder``.

    Args:
        spec: of the site file.
        folder: of the site file.
        cache: file that keeps readings over a restart.
        clock: tells the time.
        wanted: zones of the scenario that something draws power from; None: all. The others are not asked for.

    Raises:
        InputError: a secret is missing, a file cannot be read, the fallback is of another kind.
    """
    files = None if spec.files is None else {zone: folder / file for zone, file in spec.files.items()}
    feed = make_feed(spec.source, clock, files=files)
    zones = {zone: there for zone, there in spec.zones.items() if wanted is None or zone in wanted}
    background = BackgroundFeed(
        feed,
        list(dict.fromkeys(zones.values())),
        interval_s=spec.interval_s,
        clock=clock,
        cache=None if cache is None else FeedCache(cache),
        fallback=CountryDefault(clock) if spec.fallback == "country-default" else None,
    )
    return SiteFeeds(background, zones)
