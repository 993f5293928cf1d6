"""Tenants of a test bed in the background: they outlive the command that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from ...envs.errors import CarbonPilotError, InputError, unknown_name
from .state import BedState, alive, locked, read_settings, tenants_of, write_tenants
from .tenants import FILE, Tenants, TenantSettings, for_load, read_report

_END_S, _POLL_S = 5.0, 0.05


def start_tenants(
    folder: Path, bed: BedState, node: str, model: str, load: float | None, rate: float | None, **more: Any
) -> TenantSettings:
    """Start them in place of those before.

    Args:
        folder, bed: the running test bed.
        node: whose server.
        model: what they ask for, as it is called on the server.
        load: share of the model's capacity; None: ``rate`` images a second.
        more: further `TenantSettings`.

    Raises:
        InputError: no such node or model, or a load that cannot be.
        CarbonPilotError: the server did not answer.
    """
    models = read_settings(folder).models
    if node not in bed.servers:
        raise unknown_name("node", node, bed.servers)
    models.model(model)
    if load is not None:
        settings = for_load(models, model, load, **more)
    elif rate is not None and 0 < rate <= 10_000:
        settings = TenantSettings(model, rate, **more)
    else:
        raise InputError(f"rate must be above 0 and at most 10,000 images a second, got {rate}")
    server = bed.servers[node]
    address = f"127.0.0.1:{server.grpc.rpartition(':')[2]}"
    with locked(folder):
        stop_tenants(folder)
        tenants = Tenants(address, settings, folder / FILE, server.namespace)
        tenants.start()
        write_tenants(folder, tenants.detach())
    return settings


def stop_tenants(folder: Path) -> dict[str, Any] | None:
    """End them and return their counts; None where none ran.

    Raises:
        CarbonPilotError: they cannot be ended.
    """
    who = tenants_of(folder)
    if who is None or not alive(who):
        return None
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(who.partition("-")[0]), number)
        until_s = time.monotonic() + _END_S
        while alive(who) and time.monotonic() < until_s:
            time.sleep(_POLL_S)
        if not alive(who):
            return read_report(folder / FILE)
    raise CarbonPilotError(f"The tenants (process {who.partition('-')[0]}) cannot be ended.")
