"""The energy and CO2 of a training run itself, measured with codecarbon's offline tracker.

Offline means no network call and no guess of the place: the grid is named by its country, and the number
that codecarbon ships for it is recorded beside the result. No file is written but the run's own
``emissions.json``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import codecarbon
from codecarbon.input import DataSource
from codecarbon.output_methods.base_output import BaseOutput
from codecarbon.output_methods.emissions_data import EmissionsData

from ..envs.errors import InputError, nearest
from ..envs.files import write_json
from .run_dir import RunDir

SCHEMA = "carbonpilot/emissions/1"
FILE = "emissions.json"
SUMMED = ("duration_s", "energy_kwh", "emissions_g")
PARTS = ("cpu_energy_kwh", "gpu_energy_kwh", "ram_energy_kwh")


class _Latest(BaseOutput):
    """Keeps codecarbon's last reading in memory."""

    data: EmissionsData | None = None

    def out(self, total: EmissionsData, delta: EmissionsData) -> None:
        self.data = total


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
        self._intensity = grid_intensity(country_iso_code)
        self._before = (run.read_json(FILE) or {"sessions": []})["sessions"]
        self._latest = _Latest()
        self._started = ""
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # or it greets before it knows its level
        # Everything that changes the result is given here, or a ~/.codecarbon.config could change it unseen.
        self._tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code=country_iso_code,
            region=None,
            cloud_provider=None,
            cloud_region=None,
            force_carbon_intensity_g_co2e_kwh=self._intensity,
            electricitymaps_api_token=None,
            emissions_endpoint=None,
            force_cpu_power=None,
            force_ram_power=None,
            pue=1.0,
            tracking_mode="machine",
            measure_power_secs=5,
            output_methods=[],
            output_handlers=[self._latest],
            allow_multiple_runs=True,
            log_level="critical",
        )

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
            **self._measured(),
            "country_iso_code": self._country,
            "carbon_g_per_kwh": self._intensity,
            "method": self._method(),
            "tracker": f"codecarbon {metadata.version('codecarbon')}, offline, whole machine",
        }

    def _measured(self) -> dict[str, float | None]:
        """What the meter shows; one that said nothing gives nulls, never zeros."""
        data = self._latest.data
        if data is None or data.energy_consumed <= 0:
            return dict.fromkeys((*SUMMED, *PARTS))
        return {
            "duration_s": data.duration,
            "energy_kwh": data.energy_consumed,
            "emissions_g": data.energy_consumed * self._intensity,
            "cpu_energy_kwh": data.cpu_energy,
            "gpu_energy_kwh": data.gpu_energy,
            "ram_energy_kwh": data.ram_energy,
        }

    def _method(self) -> list[str]:
        """How each part of the machine was measured."""
        return [_describe(part) for part in getattr(self._tracker, "_hardware", [])] or ["not measured"]


def _describe(part: Any) -> str:
    """Say whether codecarbon measured or estimated a part (its objects tell it in private fields only)."""
    kind, mode, watts = type(part).__name__, getattr(part, "_mode", ""), getattr(part, "_tdp", None)
    if kind == "CPU" and mode == "cpu_load":
        return (
            f"CPU estimated from its load and {watts:.0f} W design power"
            if watts
            else "CPU estimated from load"
        )
    if kind == "CPU" and mode == "intel_rapl":
        return "CPU measured by RAPL"
    if kind == "RAM":
        return "RAM estimated from its size"
    return part.description()


def grid_intensity(country_iso_code: str) -> float:
    """Average carbon intensity of a country's grid in g/kWh, from the table that codecarbon ships.

    Raises:
        InputError: unknown country; codecarbon itself would take the world's average silently.
    """
    table = DataSource().get_global_energy_mix_data()
    if country_iso_code not in table:
        raise InputError(
            f"codecarbon has no grid for country '{country_iso_code}'.{nearest(country_iso_code, table)} "
            "Give an ISO 3166 alpha-3 code such as GBR, DEU, USA."
        )
    return float(table[country_iso_code]["carbon_intensity"])


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
