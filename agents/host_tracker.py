"""codecarbon's tracker of a whole machine, set up so that it asks nobody and guesses nothing.

Offline means no network call and no guess of the place: the grid is named by its country. codecarbon is imported when
a tracker is made, so the device may load this module without it.
"""

from __future__ import annotations

import logging
from importlib import metadata
from typing import Any

from ..envs.errors import InputError, MissingExtraError, nearest


class HostTracker:
    """Energy of the whole machine.

    CPU by RAPL where it can be read, else by load and the CPU's design power; RAM by its size; NVIDIA GPUs by their own
    meter.

    Attributes:
        carbon_g_per_kwh: average of the country's grid, from the table that codecarbon ships.
    """

    def __init__(self, country_iso_code: str, every_s: float = 5.0) -> None:
        """Prepare the meter.

        Args:
            country_iso_code: ISO 3166 alpha-3 code of the grid that powers this machine.
            every_s: time between two readings.

        Raises:
            MissingExtraError: codecarbon is not installed.
            InputError: it has no figure for this country.
        """
        try:
            import codecarbon
            from codecarbon.output_methods.base_output import BaseOutput
        except ImportError:
            raise MissingExtraError(
                "The estimate of a whole machine's energy (codecarbon)", "train"
            ) from None
        self.carbon_g_per_kwh = grid_intensity(country_iso_code)
        tracker = self

        class Latest(BaseOutput):
            """Keeps codecarbon's last reading in memory."""

            def out(self, total: Any, delta: Any) -> None:
                tracker.data = total

        self.data: Any = None
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # or it greets before it knows its level
        # Everything that changes the result is given here, or a ~/.codecarbon.config could change it unseen.
        self._tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code=country_iso_code,
            region=None,
            cloud_provider=None,
            cloud_region=None,
            force_carbon_intensity_g_co2e_kwh=self.carbon_g_per_kwh,
            electricitymaps_api_token=None,
            emissions_endpoint=None,
            force_cpu_power=None,
            force_ram_power=None,
            pue=1.0,
            tracking_mode="machine",
            measure_power_secs=every_s,
            output_methods=[],
            output_handlers=[Latest()],
            allow_multiple_runs=True,
            log_level="critical",
        )

    @property
    def version(self) -> str:
        """What measured, for records."""
        return f"codecarbon {metadata.version('codecarbon')}, offline, whole machine"

    def start(self) -> None:
        """Begin to measure; the first call of a process takes a second or two."""
        self._tracker.start()

    def flush(self) -> None:
        """Measure up to now."""
        self._tracker.flush()

    def stop(self) -> None:
        """Measure to the end; harmless when called twice."""
        self._tracker.stop()

    @property
    def measured(self) -> bool:
        """Whether it said anything; what it did not say is unknown, never zero."""
        return self.data is not None and self.data.energy_consumed > 0

    def method(self) -> list[str]:
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
    from codecarbon.input import DataSource

    table = DataSource().get_global_energy_mix_data()
    if country_iso_code not in table:
        raise InputError(
            f"codecarbon has no grid for country '{country_iso_code}'.{nearest(country_iso_code, table)} "
            "Give an ISO 3166 alpha-3 code such as GBR, DEU, USA."
        )
    return float(table[country_iso_code]["carbon_intensity"])
