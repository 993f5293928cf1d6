"""Fetches Triton's counters over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from ...envs.errors import InputError, MissingExtraError
from ..clock import Clock
from .failure import ProbeFailure
from .triton_counters import ServerCounters, parse_metrics, parse_statistics
from .triton_load import TritonLoad

MOST_BYTES = 8_000_000


class HttpPage:
    """Gets one address again and again over a kept connection; proxies of the environment are not used.

    Args:
        url: http or https address, without a user name or password.
        timeout_s: for connecting, for each wait, and for the whole.
    """

    def __init__(self, url: str, timeout_s: float = 1.0) -> None:
        """Nothing is sent yet."""
        try:
            import httpx
        except ImportError as error:
            raise MissingExtraError("probing a server over HTTP", "device") from error
        if "@" in url:
            raise InputError("a probe's address holds no user name or password; a metrics page needs none")
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InputError(f"'{url}' is not an address: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host or not timeout_s > 0:
            raise InputError(
                f"expected an address like http://edge:8002/metrics and a timeout above 0 s, got '{url}', {timeout_s}"
            )
        self.url, self._httpx, self._timeout_s = url, httpx, timeout_s
        self._client = httpx.Client(timeout=timeout_s, trust_env=False)

    def get(self) -> bytes:
        """Its content.

        Raises:
            ProbeFailure: no answer in time, an answer other than 200, or an absurdly long one.
        """
        deadline = time.monotonic() + self._timeout_s
        content = bytearray()
        try:
            with self._client.stream("GET", self.url) as answer:
                if answer.status_code != 200:
                    raise ProbeFailure(f"{self.url}: answered with status {answer.status_code}")
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > MOST_BYTES:
                        raise ProbeFailure(f"{self.url}: the answer is longer than {MOST_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise ProbeFailure(f"{self.url}: no complete answer within {self._timeout_s:g} s")
        except self._httpx.HTTPError as error:
            raise ProbeFailure(f"{self.url}: {str(error) or type(error).__name__}") from error
        return bytes(content)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def triton_load_from_metrics(
    url: str, capacities: Mapping[str, float], clock: Clock, timeout_s: float = 1.0
) -> TritonLoad:
    """Load from the metrics page, for example http://edge:8002/metrics."""
    page = HttpPage(url, timeout_s)
    return TritonLoad(
        lambda: parse_metrics(page.get().decode("utf-8", "replace")), capacities, clock, page.close
    )


def triton_load_from_statistics(
    url: str, capacities: Mapping[str, float], clock: Clock, timeout_s: float = 1.0
) -> TritonLoad:
    """Load from the statistics extension, for example http://edge:8000/v2/models/stats."""
    page = HttpPage(url, timeout_s)

    def fetch() -> ServerCounters:
        try:
            return parse_statistics(json.loads(page.get()))
        except ValueError as error:
            raise ProbeFailure(f"{url}: the answer is not JSON") from error

    return TritonLoad(fetch, capacities, clock, page.close)
