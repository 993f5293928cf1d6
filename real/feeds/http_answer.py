"""Whether a HTTP answer is the document that was asked for, and if not, what to tell."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from .reading import Cause, FeedError

if TYPE_CHECKING:
    import httpx

LARGEST_BYTES = 4_000_000  # no answer of these sources comes near it
LONGEST_WAIT_S = (
    3600.0  # a Retry-After above it is cut to it, so that a mistake does not silence a feed for days
)


@dataclass(frozen=True)
class JsonAnswer:
    """A decoded answer.

    Attributes:
        content: the JSON document.
        source_now: the source's own time (its Date header), or this machine's where it told none. Ages are
            taken against it, so a wrong calendar clock here does not age a fresh reading.
    """

    content: Any
    source_now: datetime


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, and whether another one may help."""

    cause: Cause
    said: str
    mend: str
    again: bool = True
    retry_after_s: float | None = None

    def error(self, source: str, zone: str) -> FeedError:
        """The failure as the feed's user gets it."""
        return FeedError(source, zone, self.cause, self.said, self.mend, self.retry_after_s)


@dataclass(frozen=True)
class Judge:
    """Judges answers of one source.

    Attributes:
        refused_mend: what to do where the source refuses the caller.
        now: this machine's time, for a source that tells none.
        redact: takes secrets out of a text.
    """

    refused_mend: str
    now: datetime
    redact: Callable[[str], str]

    def judged(self, response: httpx.Response, body: bytes) -> JsonAnswer | Failure:
        """The answer's document, or why it is not one."""
        status = response.status_code
        told = self._told(body)
        if status == 429:
            wait_s = self._retry_after_s(response)
            said = f"asked too often (HTTP 429{told}); it may be asked again in {wait_s:.0f} s"
            return Failure("rate-limited", said, "Refresh less often", again=False, retry_after_s=wait_s)
        if status in (401, 403):
            return Failure("refused", f"access refused (HTTP {status}{told})", self.refused_mend, again=False)
        if status >= 500:
            mend = "Nothing to do here: the source is down; see its status page if this stays"
            return Failure("server-error", f"the source fails (HTTP {status}{told})", mend)
        if status != 200:
            mend = "Check the zone's spelling and the address of the source"
            return Failure("not-covered", f"expected HTTP 200, got {status}{told}", mend, again=False)
        if len(body) > LARGEST_BYTES:
            said = f"the answer is larger than {LARGEST_BYTES // 1_000_000} MB"
            return Failure("malformed", said, "Check the address: this is not the feed", again=False)
        return self._decoded(response, body)

    def _decoded(self, response: httpx.Response, body: bytes) -> JsonAnswer | Failure:
        try:
            content = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as err:
            start = self.redact(body.decode("utf-8", "replace"))[:60]
            said = f"expected JSON, got {len(body)} bytes that are none ({err}), starting {start!r}"
            return Failure(
                "malformed", said, "A proxy or a login page may answer instead of the source", again=False
            )
        return JsonAnswer(content, self._source_now(response))

    def _source_now(self, response: httpx.Response) -> datetime:
        with contextlib.suppress(KeyError, ValueError, TypeError, OverflowError):
            told = parsedate_to_datetime(response.headers["date"])
            if told.tzinfo is not None:
                return told.astimezone(timezone.utc)
        return self.now

    def _retry_after_s(self, response: httpx.Response) -> float:
        """Seconds to wait, from Retry-After as a number or a date; a minute where it is absent."""
        text = response.headers.get("retry-after", "").strip()
        wait_s = 60.0
        if text.isascii() and text.isdigit():
            wait_s = float(text[:9])
        else:
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                wait_s = (parsedate_to_datetime(text) - self._source_now(response)).total_seconds()
        return min(max(wait_s, 1.0), LONGEST_WAIT_S)

    def _told(self, body: bytes) -> str:
        """What the source says about its refusal, shortened after secrets were taken out."""
        text = body.decode("utf-8", "replace")
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(text)
            if isinstance(content, dict):
                text = next((str(content[k]) for k in ("message", "detail", "error") if k in content), "")
        text = " ".join(self.redact(text).split())
        return f": {text[:100]}" if text and text.isprintable() and "<" not in text else ""


def _refuse_constant(name: str) -> Callable[[], None]:
    raise ValueError(f"{name} is not JSON")
