"""Split processing on the grid of `ng_grid`: the tandem of Ng et al. (section 3.3) where it is exact, and where not.

A tandem of closed forms takes every stage to see Poisson arrivals. Behind an exponential stage (M/M/1) it does (Burke's
theorem); behind one of constant time it does not: what leaves it is spaced out, and the next stage has less to queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from .ng_grid import DISTRIBUTIONS, Form, Setting
from .ng_sites import Distribution, Site
from .ng_split_forms import constant_tandem_ms, tandem_ms

RATE_PER_S = 10.0  # with the loads it makes service times of 10 to 80 ms
GROUP, CONSTANT = "split processing", "split, constant times"
# Utilisations of device, link and server: light as in section 4.3, then each stage as the narrowest.
CONSTANT_LOADS = (
    (0.03, 0.01, 0.01), (0.1, 0.1, 0.1), (0.3, 0.1, 0.1), (0.1, 0.3, 0.1), (0.3, 0.3, 0.3), (0.6, 0.1, 0.3),
    (0.3, 0.6, 0.1), (0.6, 0.6, 0.6), (0.8, 0.2, 0.4), (0.4, 0.8, 0.2), (0.8, 0.8, 0.8),
)  # fmt: skip


def split_holding() -> Iterator[Setting]:
    """Exponential heads, a link that takes no time: the tail sees Poisson arrivals."""
    for distribution, head, tail in product(DISTRIBUTIONS, (0.3, 0.6, 0.8), (0.3, 0.6)):
        yield _behind_exponential(distribution, head, tail)


def split_straying() -> Iterator[Setting]:
    """Constant times everywhere, as a network's are; and exponential heads before a link of constant time."""
    for loads in CONSTANT_LOADS:
        yield _constant(*loads)
    for load in (0.3, 0.6):
        yield _exponential_before_link(load)


def _behind_exponential(distribution: Distribution, head: float, tail: float) -> Setting:
    scv, queue = (1.0, "M/M/1") if distribution == "exponential" else (0.0, "M/D/1")
    head_ms, tail_ms = _service_ms(head), _service_ms(tail)
    site = Site(
        RATE_PER_S, (tail_ms,), distribution, payload="constant", head_ms=head_ms,
        head_distribution="exponential",
    )  # fmt: skip
    form = Form("tandem", tandem_ms(head_ms, 0.0, tail_ms, RATE_PER_S, head_scv=1.0, tail_scv=scv))
    return Setting(GROUP, f"M/M/1 device {head:g}, {queue} server {tail:g}", max(head, tail), site, (form,))


def _constant(head: float, link: float, tail: float) -> Setting:
    stages = (_service_ms(head), _service_ms(link), _service_ms(tail))
    forms = (
        Form("tandem", tandem_ms(*stages, RATE_PER_S)),
        Form("tandem, (6) for the link", tandem_ms(*stages, RATE_PER_S, link_scv=0.0)),
        Form("(6) once, slowest stage", float(constant_tandem_ms(stages, RATE_PER_S))),
    )
    name = f"device {head:g}, link {link:g}, server {tail:g}"
    return Setting(CONSTANT, name, max(head, link, tail), _site(*stages), forms, holds=False)


def _exponential_before_link(load: float) -> Setting:
    stage = _service_ms(load)
    forms = (
        Form("tandem", tandem_ms(stage, stage, stage, RATE_PER_S, head_scv=1.0)),
        Form(
            "tandem, (6) for the link", tandem_ms(stage, stage, stage, RATE_PER_S, head_scv=1.0, link_scv=0.0)
        ),
    )
    name = f"M/M/1 device {load:g}, link, server {load:g}"
    return Setting(CONSTANT, name, load, _site(stage, stage, stage, "exponential"), forms, holds=False)


def _site(head_ms: float, link_ms: float, tail_ms: float, head: Distribution = "deterministic") -> Site:
    return Site(
        RATE_PER_S,
        (tail_ms,),
        request_ms=link_ms,
        payload="constant",
        head_ms=head_ms,
        head_distribution=head,
    )


def _service_ms(load: float) -> float:
    return 1000 * load / RATE_PER_S
