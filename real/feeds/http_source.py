"""One JSON answer over HTTP: bounded in time and size, asked again where that can help, silent about secrets."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...envs.errors import InputError, MissingExtraError
from ..clock import Clock
from .http_answer import LARGEST_BYTES, Failure, JsonAnswer, Judge
from .rate_limit import RateLimit
from .secret import redacted

if TYPE_CHECKING:
    import httpx

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try.

    Attributes:
        connect_s, read_s: longest wait for a connection, and for the next bytes.
        total_s: longest time for one attempt, however slowly its bytes drip.
        attempts: tries per fetch.
        backoff_s: wait before the second try; it doubles from try to try, and half of it is random.
    """

    connect_s: float = 5.0
    read_s: float = 10.0
    total_s: float = 20.0
    attempts: int = 3
    backoff_s: float = 0.5


@dataclass
class HttpSource:
    """A connection to one source.

    Attributes:
        name: the feed's name, for messages.
        base_url: scheme and host.
        clock: for ages, deadlines and limits.
        limit: how often the source may be asked.
        refused_mend: what to do where the source refuses the caller.
        patience: waits and tries.
    """

    name: str
    base_url: str
    clock: Clock
    limit: RateLimit
    refused_mend: str
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        """Check the address and set up the client; nothing is sent yet."""
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password:
            raise InputError(f"{self.name}: base_url must be https://HOST without user or password in it.")
        if url.scheme == "http" and url.hostname not in LOOPBACK:
            raise InputError(
                f"{self.name}: {url.hostname} over http would show secrets to the network. Use https."
            )
        self._client = _client(self.patience, url.hostname in LOOPBACK)
        self._cancelled = threading.Event()
        self._secrets: set[str] = set()
        self._random = random.Random()

    def hide(self, secret: str, instead_of: str = "") -> None:
        """Never let this text appear in a message, even if the source sends it back.

        Args:
            secret: the text.
            instead_of: one that has lost its power, so that tokens do not pile up.
        """
        self._secrets = (self._secrets - {instead_of}) | {secret}

    def cancel(self) -> None:
        """Cut short the wait between tries and try no more."""
        self._cancelled.set()

    def close(self) -> None:
        """Give back the connections."""
        self._cancelled.set()
        self._client.close()

    def get(
        self,
        zone: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: RateLimit | None = None,
    ) -> JsonAnswer:
        """GET a JSON document.

        Args:
            zone: for messages.
            path: below the base address.
            params: query; never holds a secret.
            headers: of this request; may hold one, which was given to `hide`.
            limit: counts besides the source's own.

        Raises:
            FeedError: no usable answer after all tries.
        """
        failure = Failure("timeout", "the feed was stopped", "Nothing to do", again=False)
        for attempt in range(self.patience.attempts):
            if self._cancelled.wait(self._backoff_s(attempt)) if attempt else self._cancelled.is_set():
                break
            result = self._attempt(path, params, headers, [self.limit, *([limit] if limit else [])])
            if isinstance(result, JsonAnswer):
                return result
            failure = result
            if not failure.again:
                break
        # From None: httpx' exceptions hold the request, and the request holds the token.
        raise failure.error(self.name, zone) from None

    def _backoff_s(self, attempt: int) -> float:
        return self.patience.backoff_s * 2 ** (attempt - 1) * self._random.uniform(0.5, 1.0)

    def _attempt(
        self,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        limits: list[RateLimit],
    ) -> JsonAnswer | Failure:
        import httpx

        wait_s = max(limit.wait_s() for limit in limits)
        if wait_s > 0:
            said = f"the source may be asked again in {wait_s:.0f} s"
            return Failure("rate-limited", said, "Refresh less often", again=False, retry_after_s=wait_s)
        for limit in limits:
            limit.count()
        started_s = self.clock.monotonic_s()
        try:
            with self._client.stream("GET", self.base_url + path, params=params, headers=headers) as response:
                body = self._body(response, started_s)
                judge = Judge(self.refused_mend, self.clock.utc(), self.redacted)
                return self._heeded(judge.judged(response, body))
        except (httpx.TimeoutException, _TooSlowError):
            waited_s = self.clock.monotonic_s() - started_s
            said = f"no complete answer from {self._host} within {waited_s:.1f} s"
            return Failure("timeout", said, "Check the network; the source may be overloaded")
        except (httpx.TransportError, httpx.InvalidURL) as err:
            said = f"cannot reach {self._host} ({self.redacted(str(err) or type(err).__name__)})"
            return Failure("unreachable", said, "Check the network, DNS and the proxy variables")
        except httpx.DecodingError:
            return Failure("malformed", "the answer's compression is broken", "A proxy may have damaged it")

    @property
    def _host(self) -> str:
        return urlsplit(self.base_url).hostname or self.base_url

    def _body(self, response: httpx.Response, started_s: float) -> bytes:
        """The body; a read timeout alone would let a source drip a byte a second forever."""
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if self.clock.monotonic_s() - started_s > self.patience.total_s or self._cancelled.is_set():
                raise _TooSlowError
            if len(body) > LARGEST_BYTES:
                break
        return bytes(body)

    def _heeded(self, result: JsonAnswer | Failure) -> JsonAnswer | Failure:
        if isinstance(result, Failure) and result.retry_after_s is not None:
            self.limit.close_for(result.retry_after_s)
        return result

    def redacted(self, text: str) -> str:
        """The text without the secrets of this source."""
        return redacted(text, self._secrets)


class _TooSlowError(Exception):
    """The answer drips so slowly that its deadline passed."""


def _client(patience: Patience, is_loopback: bool) -> httpx.Client:
    try:
        import httpx
    except ModuleNotFoundError as err:
        raise MissingExtraError("A grid feed over the network", "device") from err
    from ... import __version__

    return httpx.Client(
        timeout=httpx.Timeout(patience.read_s, connect=patience.connect_s),
        # A redirect could carry the token to another host; no source of these needs one.
        follow_redirects=False,
        # The proxy variables are for the world outside, not for a mock on this machine.
        trust_env=not is_loopback,
        limits=httpx.Limits(max_connections=2, max_keepalive_connections=1, keepalive_expiry=10.0),
        headers={"user-agent": f"carbonpilot/{__version__}", "accept": "application/json"},
    )
