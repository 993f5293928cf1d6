"""The grid on which the closed forms of Ng et al. meet the simulator: where their assumptions hold, and where not.

Utilisations are what a wait depends on; a service time is only its scale. So the grid runs over utilisations,
with service times inferred for the paper's models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..envs import queueing as q
from ..envs import tail_latency as tail
from ..envs.node_bank import capacity_per_ms
from ..envs.schema import Batching
from .ng_sites import Distribution, Site, history_error_ms

DEVICE_MS, SERVER_MS = 55.0, 17.5  # YOLOv8n on TX2 and A2, configs/scenarios/ng-tenants.yaml
TENANT_MS = 5.0  # short, so that a node's 1049 s of history hold enough of them
DISTRIBUTIONS: tuple[Distribution, ...] = ("deterministic", "exponential")
LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
LINK_LOAD = 0.3
BATCHING: dict[str, Any] = {"max_batch": 8, "queue_delay_ms": 2.0, "marginal_service_share": 0.3}


class Form(NamedTuple):
    """A closed form's prediction."""

    name: str
    mean_ms: float


@dataclass(frozen=True)
class Setting:
    """A site and what the forms predict for it.

    Attributes:
        group, name: where it stands in the table.
        utilisation: of the busiest queue.
        site: what is simulated.
        forms: predictions of its mean latency.
        p95_ms: the tail estimate, or None where it is not claimed.
        holds: whether the paper's assumptions hold.
        history_ms: standard error of the tenants' history that all episodes share, in the mean wait.
    """

    group: str
    name: str
    utilisation: float
    site: Site
    forms: tuple[Form, ...]
    p95_ms: float | None = None
    holds: bool = True
    history_ms: float = 0.0


def holding() -> Iterator[Setting]:
    """Poisson arrivals, FIFO, deterministic or exponential service, exponential payloads (M/M/1 links)."""
    for distribution, load in product(DISTRIBUTIONS, LOADS):
        yield _device(distribution, load)
    for distribution, link, server in product(DISTRIBUTIONS, (0.2, 0.5, 0.8), (0.2, 0.5, 0.8)):
        yield _offload(distribution, link, server)
    for services, load in product(((5.0, 30.0), (10.0, 20.0, 60.0)), (0.3, 0.6, 0.8)):
        yield _tenants(services, load)
    for load in (0.3, 0.6, 0.8):
        yield _background(load)


def straying() -> Iterator[Setting]:
    """The same forms where an assumption of theirs does not hold."""
    for link in (0.2, 0.5, 0.8):
        yield _constant_payload(link)
    for k, load in product((2, 4, 8), (0.3, 0.6, 0.9)):
        yield _several_servers(k, load)
    for load in (0.3, 0.6, 0.9):
        yield _periodic(load)
    for scv, load in product((4.0, 16.0), (0.3, 0.6, 0.8)):
        yield _bursts(scv, load)
    for load in (0.3, 0.6, 0.8):
        yield _batching(load)
    for load in (0.3, 0.5):
        yield _wandering(load)


def _per_s(load: float, service_ms: float) -> float:
    return 1000 * load / service_ms


def _queue(distribution: Distribution) -> tuple[float, str, str]:
    """Squared variation of the service time, the queue's name and the number of its wait's equation."""
    return (1.0, "M/M/1", "(7)") if distribution == "exponential" else (0.0, "M/D/1", "(6)")


def _device(distribution: Distribution, load: float) -> Setting:
    scv, queue, equation = _queue(distribution)
    site = Site(_per_s(load, DEVICE_MS), (DEVICE_MS,), distribution, on_device=True)
    mean = q.device_latency_ms(DEVICE_MS, site.rate_per_s, scv)
    p95 = tail.mg1_latency_quantile_ms(DEVICE_MS, site.rate_per_s, scv)
    return Setting("on the device", queue, load, site, (Form(f"(2), {equation}", float(mean)),), float(p95))


def _offload(distribution: Distribution, link: float, server: float) -> Setting:
    scv, queue, equation = _queue(distribution)
    rate = _per_s(server, SERVER_MS)
    site = Site(rate, (SERVER_MS,), distribution, request_ms=1000 * link / rate)
    alone = q.mixture(np.array([rate]), SERVER_MS, scv)
    mean = q.offload_latency_ms(site.request_ms, 0.0, rate, SERVER_MS, alone, scv)
    delay = tail.offload_delay(site.request_ms, rate, SERVER_MS, alone, service_scv=scv)
    name = f"link {link:g}, {queue} server {server:g}"
    p95 = float(tail.quantile_ms(delay))
    form = Form(f"(1), (7), {equation}", float(mean))
    return Setting("offloading", name, max(link, server), site, (form,), p95)


def _tenants(services: tuple[float, ...], load: float) -> Setting:
    """Models of several lengths take turns at random on one server."""
    share = 1 / len(services)
    rate = _per_s(load, float(np.mean(services)))
    site = Site(rate, services, request_ms=1000 * LINK_LOAD / rate, weights=(share,) * len(services))
    mix = q.mixture(np.full(len(services), share * rate), np.array(services))
    mean = q.offload_latency_ms(site.request_ms, 0.0, rate, mix.service_ms, mix)
    name = f"models of {', '.join(f'{s:g}' for s in services)} ms"
    return Setting("several tenants", name, load, site, (Form("(1), (7), (11)", float(mean)),))


def _background(load: float) -> Setting:
    """The device's own requests behind others' that come from the node's history."""
    own = 0.1
    site = Site(_per_s(own, TENANT_MS), (TENANT_MS,), node=_tenants_of({"phases": [{"load": load - own}]}))
    rate = _per_s(load, TENANT_MS)
    form = Form("(1), (11)", float(q.device_latency_ms(TENANT_MS, rate)))
    p95 = float(tail.mg1_latency_quantile_ms(TENANT_MS, rate))
    name = f"own load {own:g} beside {load - own:g}"
    return Setting("several tenants", name, load, site, (form,), p95, history_ms=history_error_ms(site))


def _constant_payload(link: float) -> Setting:
    rate = _per_s(0.4, SERVER_MS)
    upload = 1000 * link / rate
    site = Site(rate, (SERVER_MS,), request_ms=upload, payload="constant")
    server = q.device_latency_ms(SERVER_MS, rate)
    forms = (
        Form("(1), (7), (6)", float(q.offload_latency_ms(upload, 0.0, rate, SERVER_MS))),
        Form("(1) with (6) for the link", float(q.device_latency_ms(upload, rate) + server)),
    )
    return Setting(
        "payloads of one size", f"link {link:g}, server 0.4", max(link, 0.4), site, forms, holds=False
    )


def _several_servers(k: int, load: float) -> Setting:
    rate = k * _per_s(load, SERVER_MS)
    site = Site(rate, (SERVER_MS,), node={"parallelism": k})
    form = Form("(6) with k mu", float(q.device_latency_ms(SERVER_MS, rate, 0.0, k)))
    return Setting("several servers", f"k = {k}", load, site, (form,), holds=False)


def _periodic(load: float) -> Setting:
    rate = _per_s(load, DEVICE_MS)
    site = Site(rate, (DEVICE_MS,), on_device=True, jitter_fraction=0.1)
    forms = (
        Form("(2), (6)", float(q.device_latency_ms(DEVICE_MS, rate))),
        Form("(13), upper bound", float(DEVICE_MS + q.gg1_wait_bound_ms(DEVICE_MS, rate, 0.01, 0.0))),
    )
    return Setting("camera frames", "gaps +- 10 %", load, site, forms, holds=False)


def _bursts(scv: float, load: float) -> Setting:
    rate = _per_s(load, DEVICE_MS)
    site = Site(rate, (DEVICE_MS,), on_device=True, arrival_scv=scv)
    forms = (
        Form("(2), (6)", float(q.device_latency_ms(DEVICE_MS, rate))),
        Form("(13), upper bound", float(DEVICE_MS + q.gg1_wait_bound_ms(DEVICE_MS, rate, scv, 0.0))),
    )
    return Setting("bursts", f"gaps of c_a^2 = {scv:g}", load, site, forms, holds=False)


def _batching(load: float) -> Setting:
    """Triton's batcher shared with others, predicted as a server of the node's capacity."""
    own = 0.05
    capacity_ms = 1 / capacity_per_ms(SERVER_MS, 1, Batching(**BATCHING))
    node = {"batching": BATCHING, **_tenants_of({"phases": [{"load": load - own}]}, SERVER_MS)}
    site = Site(_per_s(own, capacity_ms), (SERVER_MS,), node=node)
    wait = q.md1_wait_ms(capacity_ms, _per_s(load, capacity_ms))
    form = Form("(6) at the node's capacity", float(SERVER_MS + wait))
    return Setting("dynamic batching", "up to 8, 2 ms delay", load, site, (form,), holds=False)


def _wandering(load: float) -> Setting:
    """Tenants whose load wanders and bursts, predicted from its mean."""
    own = 0.1
    load_of = {
        "mean_low_load": load - own, "mean_high_load": load - own, "ar1_per_s": 0.9, "sigma_load": 0.15,
        "bursts": {"per_minute": 2, "low_load": 0.2, "high_load": 0.4, "low_s": 2, "high_s": 6},
    }  # fmt: skip
    site = Site(_per_s(own, TENANT_MS), (TENANT_MS,), node=_tenants_of(load_of))
    form = Form("(1), (11) at the mean load", float(q.device_latency_ms(TENANT_MS, _per_s(load, TENANT_MS))))
    return Setting("tenants that burst", "2 bursts a minute", load, site, (form,), holds=False)


def _tenants_of(load: dict[str, Any], service_ms: float = TENANT_MS) -> dict[str, Any]:
    return {"background": {"service_ms": service_ms, "service_distribution": "deterministic", **load}}
