"""Asks a feed in a thread of its own, so that nobody who needs a reading ever waits for one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...envs.errors import CarbonPilotError, InputError
from ..clock import Clock, SystemClock
from .cache import FeedCache
from .reading import Cause, Feed, FeedError, Reading

FIRST_RETRY_S = 5.0  # after a failure; doubles up to the refresh interval

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latest:
    """The newest reading that could be believed, as of the moment of asking.

    Attributes:
        reading: the reading.
        age_s: its age now, s.
        stale: it is older than the feed's ``stale_after_s``: it says nothing about now.
        failures: refreshes that failed since it came.
    """

    reading: Reading
    age_s: float
    stale: bool
    failures: int


@dataclass(frozen=True)
class FeedStatus:
    """How a zone's refreshes go, for counters, the status page and `doctor`.

    Attributes:
        reading: the last good one, from the feed, the cache or the fallback; None where there was none yet.
        failures: refreshes that failed in a row, up to now.
        failures_total: failures since the start.
        successes_total: good readings since the start.
        last_cause, last_error: of the last failure; None where there was none.
    """

    reading: Reading | None = None
    failures: int = 0
    failures_total: int = 0
    successes_total: int = 0
    last_cause: Cause | None = None
    last_error: str | None = None


class BackgroundFeed:
    """Refreshes zones of one feed every ``interval_s``; `latest` reads what is there and returns at once."""

    def __init__(
        self,
        feed: Feed,
        zones: Sequence[str],
        *,
        interval_s: float = 300.0,
        clock: Clock | None = None,
        cache: FeedCache | None = None,
        fallback: Feed | None = None,
    ) -> None:
        """Take readings from the cache, else from the fallback; the feed is asked once `start` was called.

        Args:
            feed: the source; it is closed by `stop`.
            zones: what to ask for.
            interval_s: from one refresh to the next, s.
            clock: for ages.
            cache: kept up to date, and read at the start.
            fallback: an offline feed of the same kind, for zones without any good reading so far.

        Raises:
            InputError: no zones, an interval that is none, or a fallback of another kind or over the network.
        """
        if not zones or isinstance(zones, str) or len(set(zones)) != len(zones):
            raise InputError(f"A background feed needs a list of different zones, got {zones!r}.")
        if not 0 < interval_s < float("inf"):
            raise InputError(f"The refresh interval must be above 0 s, got {interval_s}.")
        if fallback is not None and (fallback.kind != feed.kind or not fallback.offline):
            raise InputError(
                f"{fallback.name} ({fallback.kind}) cannot stand in for {feed.name} ({feed.kind}): a fallback must "
                "be offline and of the same kind, because average and marginal intensity are different quantities."
            )
        self.feed, self.zones, self.interval_s = feed, tuple(zones), interval_s
        self.clock: Clock = clock or SystemClock()
        self.cache = cache
        self._fallback = fallback
        self._status = {zone: FeedStatus(self._first(zone)) for zone in self.zones}
        self._wanted_wait_s = interval_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> BackgroundFeed:
        """Begin to refresh.

        Raises:
            RuntimeError: it was started before.
        """
        if self._thread is not None or self._stopping.is_set():
            raise RuntimeError("a background feed starts once")
        self._thread = threading.Thread(target=self._run, name=f"feed-{self.feed.name}", daemon=True)
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the thread and close the feed.

        An answer that is being waited for ends the thread a little later, at the latest at its own time limit.

        Returns:
            Whether the thread has ended within ``timeout_s``.
        """
        self._stopping.set()
        self.feed.cancel()
        if self._thread is None:
            self.feed.close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def __enter__(self) -> BackgroundFeed:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def latest(self, zone: str) -> Latest:
        """The newest good reading with its age; never waits for anything.

        Raises:
            FeedError: there is none so far, neither from the feed nor from cache or fallback.
            InputError: the zone is not refreshed here.
        """
        status = self.status(zone)
        reading = status.reading
        if reading is None:
            said = f"no reading so far; last failure: {status.last_error or 'none, the first refresh is under way'}"
            raise FeedError(
                self.feed.name, zone, "no-reading", said, "Wait for the feed, or give an offline fallback"
            )
        age_s = reading.age_s(self.clock.monotonic_s())
        return Latest(reading, age_s, age_s > self._stale_after_s(reading), status.failures)

    def status(self, zone: str) -> FeedStatus:
        """How the refreshes of a zone go; never waits for anything.

        Raises:
            InputError: the zone is not refreshed here.
        """
        try:
            return self._status[zone]  # replaced whole by the thread, so it is never half new
        except KeyError:
            raise InputError(
                f"Zone {zone!r} is not refreshed here. Known: {', '.join(self.zones)}."
            ) from None

    def refresh(self) -> None:
        """Ask for every zone once, in the calling thread; failures are counted, not raised."""
        waits_s = [self._refresh(zone) for zone in self.zones if not self._stopping.is_set()]
        self._wanted_wait_s = min([self.interval_s, *waits_s])

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.refresh()
                self._stopping.wait(self._wanted_wait_s)
        finally:
            self.feed.close()

    def _refresh(self, zone: str) -> float:
        """Refresh a zone; returns after how many seconds it wants to be asked again."""
        try:
            reading = self.feed.fetch(zone)
            if reading.kind != self.feed.kind or reading.zone != zone:
                got = f"{reading.kind} intensity of {reading.zone}"
                raise FeedError(
                    self.feed.name, zone, "internal", f"the feed gave {got}", "Report this as a bug"
                )
        except FeedError as err:
            return self._failed(zone, err)
        except Exception as err:
            # The thread must live on. The text of an unknown exception is not shown: it could hold a secret.
            said = f"unexpected {type(err).__name__} in the feed"
            return self._failed(
                zone, FeedError(self.feed.name, zone, "internal", said, "Report this as a bug")
            )
        old = self._status[zone]
        if old.failures:
            log.info("%s, zone %s: back after %d failures", self.feed.name, zone, old.failures)
        self._status[zone] = replace(
            old, reading=reading, failures=0, successes_total=old.successes_total + 1
        )
        self._write(reading)
        return self.interval_s

    def _failed(self, zone: str, err: FeedError) -> float:
        if self._stopping.is_set():
            return self.interval_s  # cut short by stop(): that is no failure of the source
        old = self._status[zone]
        # Once per outage and kind of failure, so that a week without network does not fill the log.
        log.log(
            logging.WARNING if err.cause != old.last_cause or not old.failures else logging.DEBUG, str(err)
        )
        self._status[zone] = replace(
            old,
            failures=old.failures + 1,
            failures_total=old.failures_total + 1,
            last_cause=err.cause,
            last_error=str(err),
        )
        return max(FIRST_RETRY_S * 2 ** min(old.failures, 20), err.retry_after_s or 0.0)

    def _write(self, reading: Reading) -> None:
        if self.cache is None:
            return
        try:
            self.cache.put(reading)
        except CarbonPilotError as err:
            log.warning("the reading is kept in memory only: %s", err)

    def _first(self, zone: str) -> Reading | None:
        cached = self.cache.get(self.feed.name, zone) if self.cache else None
        if cached is not None and cached.kind == self.feed.kind:
            return cached
        if self._fallback is None:
            return None
        try:
            return self._fallback.fetch(zone)
        except FeedError as err:
            log.warning(str(err))
            return None

    def _stale_after_s(self, reading: Reading) -> float:
        if self._fallback is not None and reading.source == self._fallback.name:
            return self._fallback.stale_after_s
        return self.feed.stale_after_s
