"""The energy and CO2 of a training run itself, measured with codecarbon's offline tracker.

Offline means no network call and no guess of the place: the grid is named by its country, and the number
that codecarbon ships for it is recorded beside the result. No file is written but the run's own
``emissions.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..envs.files import write_json
from .host_tracker import HostTracker
from .run_dir import RunDir

SCHEMA = "carbonpilot/emissions/1"
FILE = "emissions.json"
SUMMED = ("duration_s", "energy_kwh", "emissions_g")
PARTS = ("cpu_energy_kwh", "gpu_energy_kwh", "ram_energy_kwh")


class Footprint:
    """Measures one session of a run and keeps the run's ``emissions.json``.

    The whole machine is measured while the session runs: CPU by RAPL where it can be read, else by load and
    the CPU's design power; RAM by its size; NVIDIA GPUs by their own meter. Which of them it was is recorded.
    """

    def __init__(self, run: RunDir, country_iso_code: str) -> None:
        """Prepare the meter.

        Args:
            run: the run to write to; sessions that it has already are kept and summed.
            country_iso_code: ISO 3166 alpha-3 code of the grid that powers this machine.

        Raises:
            InputError: codecarbon has no figure for this country.
        """
        self._run = run
        self._country = country_iso_code
        self._before = (run.read_json(FILE) or {"sessions": []})["sessions"]
        self._started = ""
        self._tracker = HostTracker(country_iso_code)

    def start(self) -> None:
        """Begin to measure; the first call of a process takes a second or two."""
        self._started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._tracker.start()

    def save(self) -> dict[str, Any]:
        """Measure up to now and write ``emissions.json``; returns its content."""
        self._tracker.flush()
        return self._write(complete=False)

    def stop(self) -> dict[str, Any]:
        """Measure to the end and write ``emissions.json``; returns its content."""
        self._tracker.stop()
        return self._write(complete=True)

    def close(self) -> None:
        """Let go of the meter without writing; harmless after `stop`."""
        self._tracker.stop()

    def _write(self, complete: bool) -> dict[str, Any]:
        sessions = [*self._before, self._session(complete)]
        measured = all(session["energy_kwh"] is not None for session in sessions)
        total = {key: sum(s[key] for s in sessions) if measured else None for key in SUMMED}
        document = {"schema": SCHEMA, **total, "sessions": sessions}
        write_json(self._run.path / FILE, document)
        return document

    def _session(self, complete: bool) -> dict[str, Any]:
        return {
            "started_utc": self._started,
            "complete": complete,  # false: the session was killed, its last seconds are not counted
            **measured(self._tracker, self._country),
        }


def measured(tracker: HostTracker, country_iso_code: str) -> dict[str, Any]:
    """What the meter shows and how it was measured; one that said nothing gives nulls, never zeros."""
    return {
        **_numbers(tracker),
        "country_iso_code": country_iso_code,
        "carbon_g_per_kwh": tracker.carbon_g_per_kwh,
        "method": tracker.method(),
        "tracker": tracker.version,
    }


def _numbers(tracker: HostTracker) -> dict[str, float | None]:
    data = tracker.data
    if not tracker.measured:
        return dict.fromkeys((*SUMMED, *PARTS))
    return {
        "duration_s": data.duration,
        "energy_kwh": data.energy_consumed,
        "emissions_g": data.energy_consumed * tracker.carbon_g_per_kwh,
        "cpu_energy_kwh": data.cpu_energy,
        "gpu_energy_kwh": data.gpu_energy,
        "ram_energy_kwh": data.ram_energy,
    }


def footprint_line(document: Mapping[str, Any]) -> str:
    """One line for people about a run's footprint (content of ``emissions.json``)."""
    last = document["sessions"][-1]
    grid = f"grid {last['country_iso_code']} {last['carbon_g_per_kwh']:.0f} g/kWh"
    how = f"{last['tracker']}; {', '.join(last['method'])}; {grid}, another with --country"
    if document["energy_kwh"] is None:
        return f"training's own footprint: not measured ({how})"
    energy_wh, carbon_g, seconds = (
        document["energy_kwh"] * 1000,
        document["emissions_g"],
        document["duration_s"],
    )
    return f"training's own footprint: {energy_wh:.3f} Wh, {carbon_g:.3f} g CO2 in {seconds:.0f} s ({how})"
