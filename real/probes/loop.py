"""Runs probes in the background; whoever asks gets what is known by now, at once, with its age."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from ...envs.errors import CarbonPilotError, InputError
from ..clock import Clock
from .link import LinkProbe, LinkState
from .triton_load import LoadState, TritonLoad


class Probe(Protocol):
    """A link's or a node's probe."""

    def probe(self) -> Any:
        """Probe once."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True)
class ProbeSnapshot:
    """All that is known at one moment; it never changes.

    Attributes:
        taken_s: clock's monotonic time of the snapshot.
        links: by name of the scenario.
        loads: by name of the node.
        faults: by name ("link X", "node Y"), the newest error inside a probe itself; normally empty.
    """

    taken_s: float
    links: Mapping[str, LinkState]
    loads: Mapping[str, LoadState]
    faults: Mapping[str, str]

    def features(self) -> dict[str, float]:
        """Features of the observation by name, ages as of the snapshot; unknown ones are missing, never zero."""
        found: dict[str, float] = {}
        for name, link in self.links.items():
            found.update(link.features(name, self.taken_s))
        for name, load in self.loads.items():
            found.update(load.features(name, self.taken_s))
        return found


class ProbeLoop:
    """One thread per probe, so that an endpoint that is dead delays no other; a context manager.

    The loop owns its probes from `start` on: `stop` closes them.

    Args:
        links: probes of links by name.
        loads: probes of nodes by name.
        interval_s: time between two probes of the same kind, as the scenario's ``probe_interval_s``.
        clock: for ages.
    """

    def __init__(
        self, links: Mapping[str, LinkProbe], loads: Mapping[str, TritonLoad], interval_s: float, clock: Clock
    ) -> None:
        """Nothing runs yet."""
        if not interval_s > 0:
            raise InputError(f"the time between probes must be above 0 s, got {interval_s}")
        self._links, self._loads, self._interval_s, self._clock = dict(links), dict(loads), interval_s, clock
        self._faults: dict[str, str] = {}  # each thread writes its own key
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> ProbeLoop:
        """Begin to probe, all at once."""
        if self._threads or self._stopping.is_set():
            raise InputError("this probe loop was started before; make a new one")
        probes: dict[str, Probe] = {f"link {name}": p for name, p in self._links.items()}
        probes.update({f"node {name}": p for name, p in self._loads.items()})
        for name, probe in probes.items():
            thread = threading.Thread(target=self._run, args=(name, probe), name=f"probe {name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def latest(self) -> ProbeSnapshot:
        """What is known now; only reads what the threads left, no I/O, no lock."""
        return ProbeSnapshot(
            self._clock.monotonic_s(),
            MappingProxyType({name: probe.state for name, probe in self._links.items()}),
            MappingProxyType({name: probe.state for name, probe in self._loads.items()}),
            MappingProxyType(dict(self._faults)),
        )

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the threads and close the probes; a probe on its way is waited for. Harmless when called twice.

        Raises:
            CarbonPilotError: a thread did not end in time (a name server that hangs, say).
        """
        self._stopping.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        if left:
            raise CarbonPilotError(f"still busy after {timeout_s:g} s: {', '.join(left)}")

    def __enter__(self) -> ProbeLoop:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _run(self, name: str, probe: Probe) -> None:
        due_s = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._probe(name, probe)
                now_s = time.monotonic()
                due_s += self._interval_s * max(1, -((due_s - now_s) // self._interval_s))
                self._stopping.wait(max(0.0, due_s - now_s))
        finally:
            probe.close()

    def _probe(self, name: str, probe: Probe) -> None:
        try:
            probe.probe()
        except Exception as error:  # an error of the probe itself must not end the probing, nor go unseen
            self._faults[name] = f"{type(error).__name__}: {error}"
        else:
            self._faults.pop(name, None)
