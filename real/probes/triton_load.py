"""A node's offered load from differences of Triton's counters, in the simulator's sense."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...envs.errors import InputError
from ..clock import Clock
from .failure import ProbeFailure
from .triton_counters import (
    ModelCounters,
    ServerCounters,
    model_counters,
    restarted,
)


@dataclass(frozen=True)
class LoadState:
    """A node's load as last computed; it never changes, ages follow from the time of reading.

    Attributes:
        load: what other tenants ask for, share of the node's capacity in full batches; None until two
            readings lie on the same side of every restart.
        total_load: the same with our own requests.
        queue_wait_ms: mean wait of the requests answered in between; None if there were none or it is not reported.
        compute_ms: mean computing time of those requests, that of the whole batch they rode in; None likewise.
        mean_batch: images per execution in between; None likewise.
        pending: requests waiting at the newest reading; None if not reported.
        gpu_utilisation, gpu_power_w, gpu_energy_j: as reported; None without GPU metrics.
        measured_s: clock's monotonic time up to which the load was counted; None if never.
        uncounted: models that the server runs but whose capacity is unknown: their load is not in ours.
        restarts: restarts seen (a counter fell).
        error: why the newest reading failed; None if it did not.
    """

    load: float | None = None
    total_load: float | None = None
    queue_wait_ms: float | None = None
    compute_ms: float | None = None
    mean_batch: float | None = None
    pending: float | None = None
    gpu_utilisation: float | None = None
    gpu_power_w: float | None = None
    gpu_energy_j: float | None = None
    measured_s: float | None = None
    uncounted: tuple[str, ...] = ()
    restarts: int = 0
    error: str | None = None

    def age_s(self, now_s: float) -> float:
        """Seconds since the load was counted; infinite if never."""
        return math.inf if self.measured_s is None else max(0.0, now_s - self.measured_s)

    def features(self, node: str, now_s: float) -> dict[str, float]:
        """The observation's features of this node's load by name, without the load while it is unknown."""
        age = {f"{node}_load_age_s": self.age_s(now_s)}
        return age if self.load is None else {f"{node}_load": self.load, **age}


class TritonLoad:
    """Reads a server's counters and makes a load of them.

    Load is images asked for per second over images per second that can be served, summed over the node's models.
    Asked for = answered + failed + growth of the queue where that is reported. Requests that a full queue turned away
    are in no counter of Triton's and so not in the load.

    Args:
        fetch: returns a reading; raises ProbeFailure (real/probes/triton_http.py).
        capacities: images a second of each model that the node serves (`capacity_per_s`).
        clock: stamps the readings.
        close: lets go of what ``fetch`` holds.
    """

    def __init__(
        self, fetch: Callable[[], ServerCounters], capacities: Mapping[str, float], clock: Clock,
        close: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Nothing read yet."""
        if not capacities or not all(0 < c < math.inf for c in capacities.values()):
            raise InputError(
                f"a load needs the capacity (images per second, above 0) of each model, got {dict(capacities)}"
            )
        self._fetch, self._capacities, self._clock, self._close = fetch, dict(capacities), clock, close
        self._before: tuple[float, dict[str, ModelCounters]] | None = None
        self._own: deque[tuple[str, int]] = deque(maxlen=100_000)
        self._state = LoadState()

    @property
    def state(self) -> LoadState:
        """As of the newest reading; reading it never waits."""
        return self._state

    def note_own(self, model: str, images: int = 1) -> None:
        """Report a request of ours that the server answered; from any thread, never waits."""
        self._own.append((model, images))

    def probe(self) -> LoadState:
        """Read the counters once; a failed reading leaves the old values to age."""
        try:
            start_s = self._clock.monotonic_s()
            counters = self._fetch()
            now_s = (start_s + self._clock.monotonic_s()) / 2
            models = {name: model_counters(counters, name) for name in self._capacities}
        except ProbeFailure as failure:
            self._state = _with(self._state, error=str(failure))
            return self._state
        self._state = self._advance(now_s, models, counters)
        return self._state

    def close(self) -> None:
        """Let go of the connection."""
        self._close()

    def _advance(self, now_s: float, models: dict[str, ModelCounters], counters: ServerCounters) -> LoadState:
        before, old = self._before, self._state
        old = _with(
            old, error=None, pending=_total([c.pending for c in models.values()]),
            gpu_utilisation=counters.gpu_utilisation, gpu_power_w=counters.gpu_power_w,
            gpu_energy_j=counters.gpu_energy_j, uncounted=tuple(sorted(set(counters.models) - set(models))),
        )  # fmt: skip
        if before is not None and now_s <= before[0]:
            return old
        self._before, own = (now_s, models), self._own_images()
        if before is None:
            return old
        if any(restarted(before[1][name], c) for name, c in models.items()):
            return _with(old, restarts=old.restarts + 1)
        span_s, pairs = now_s - before[0], {name: (before[1][name], c) for name, c in models.items()}
        asked = {name: _asked_images(*pair) for name, pair in pairs.items()}
        total = sum(asked[m] / (span_s * c) for m, c in self._capacities.items())
        others = sum(max(0.0, asked[m] - own[m]) / (span_s * c) for m, c in self._capacities.items())
        answered = _grown(pairs, "success")
        return _with(
            old, load=others, total_load=total, measured_s=now_s,
            queue_wait_ms=_ratio(_grown(pairs, "queue_us"), answered, 1e-3),
            compute_ms=_ratio(_grown(pairs, "compute_us"), answered, 1e-3),
            mean_batch=_ratio(_grown(pairs, "images"), _grown(pairs, "batches")),
        )  # fmt: skip

    def _own_images(self) -> Counter[str]:
        own: Counter[str] = Counter()
        while self._own:
            model, images = self._own.popleft()
            own[model] += images
        return own


def _asked_images(before: ModelCounters, now: ModelCounters) -> float:
    """Images asked for between two readings: answered, and failed or queued requests at as many images each."""
    answered = now.success - before.success
    images = answered
    if before.images is not None and now.images is not None:
        images = now.images - before.images
    each = images / answered if answered > 0 and images > 0 else 1.0
    others = (now.failure or 0.0) - (before.failure or 0.0)
    if before.pending is not None and now.pending is not None:
        others += now.pending - before.pending
    return max(0.0, images + each * others)


def _grown(pairs: Mapping[str, tuple[ModelCounters, ModelCounters]], field: str) -> float | None:
    changes = [(getattr(a, field), getattr(b, field)) for a, b in pairs.values()]
    return _total([None if a is None or b is None else b - a for a, b in changes])


def _ratio(part: float | None, whole: float | None, scale: float = 1.0) -> float | None:
    return None if part is None or not whole else scale * part / whole


def _total(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None


def _with(state: LoadState, **changes: Any) -> LoadState:
    return LoadState(**{**state.__dict__, **changes})
