"""The tipping values of one pair of placements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..envs.queueing import Values
from .breakeven_costs import ACCOUNTS, Account, Radio, Setting, Terms, carbon_mg
from .breakeven_forms import crossing
from .breakeven_reference import Site, Span
from .breakeven_roots import first_sign_change, scan_root
from .breakeven_world import F64

RADIOS: tuple[Radio, ...] = ("awake", "asleep")
AGREES = 1e-6  # a root is one if the difference there is this small, relative to the carbon
BENT = (1e-6, 1e6)  # where the root of a line that bends is looked for
STEP = 1e-2  # within the straight part of the line, far above rounding


@dataclass(frozen=True)
class Tip:
    """Where two placements tip in one quantity, everything else at the middle of what the site spans.

    Attributes:
        kind: "carbon", "mean_latency" or "slo" (quantile of the latency against the objective).
        quantity, unit: what is turned.
        value: where it tips, None where it never does.
        below, above: the better placement on either side (for "slo": "met" or "missed").
        low, middle, high: what the site spans, 5 %, 50 %, 95 %.
        share_below: share of the site's moments below ``value``; None without one.
        account, radio: of carbon: the account, and whether the radio was awake anyway; else None.
    """

    kind: str
    quantity: str
    unit: str
    value: float | None
    below: str
    above: str
    low: float
    middle: float
    high: float
    share_below: float | None
    account: str | None = None
    radio: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As plain data; what is infinite is None."""
        return {
            k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()
        }


@dataclass(frozen=True)
class Pair:
    """Two placements against each other.

    Attributes:
        a, b: their names, in the scenario's order.
        share_b_greener: share of the site's moments in which b emits less (scenario's account, radio awake).
        tips: every tipping value.
    """

    a: str
    b: str
    share_b_greener: float
    tips: tuple[Tip, ...]

    def tip(
        self, kind: str, quantity: str, account: str | None = None, radio: str | None = None
    ) -> Tip | None:
        """One of the tipping values, None where the pair has none in that quantity."""
        for tip in self.tips:
            if (tip.kind, tip.quantity, tip.account, tip.radio) == (kind, quantity, account, radio):
                return tip
        return None

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "a": self.a,
            "b": self.b,
            "share_b_greener": self.share_b_greener,
            "tips": [tip.as_json() for tip in self.tips],
        }


def make_tip(
    kind: str, quantity: str, unit: str, value: float, below: str, above: str, over: Span, **more: str | None
) -> Tip:
    """A tip; without a finite value the side that always wins stands on both."""
    if not np.isfinite(value):
        return Tip(kind, quantity, unit, None, above, above, over.low, over.middle, over.high, None, **more)
    return Tip(
        kind, quantity, unit, value, below, above, over.low, over.middle, over.high, over.share_below(value), **more
    )  # fmt: skip


def carbon_tips(site: Site, a: Terms, b: Terms) -> list[Tip]:
    """Where the carbon of a pair tips, for both accounts and both states of the radio; b is remote."""
    radios = RADIOS if b.tail_w > 0 and not a.remote else RADIOS[:1]
    found = []
    for account in ACCOUNTS:
        for radio in radios:
            found += _tips(site, a, b, account, radio)
    return found


def _tips(site: Site, a: Terms, b: Terms, account: Account, radio: Radio) -> list[Tip]:
    middle = site.setting(a, radio=radio)

    def less(setting: Setting) -> F64:
        """Carbon of b less carbon of a; negative: b is greener."""
        return carbon_mg(b, setting, account) - carbon_mg(a, setting, account)

    def turn(
        quantity: str, unit: str, over: Span, vary: Callable[[Values], Setting], inverse: bool, least: float
    ):
        root = _root(lambda x: less(vary(x)), carbon_mg(a, middle, account), inverse)
        if root < least:
            root = np.nan
        probe = 2 * root if np.isfinite(root) else max(over.middle, least)
        above = b.name if less(vary(1 / probe if inverse else probe)) < 0 else a.name
        below = a.name if above == b.name else b.name
        return make_tip("carbon", quantity, unit, root, below, above, over, account=account, radio=radio)

    tips = []
    if a.node != b.node:
        ratio = site.ratio(a, b)
        tips.append(
            turn("intensity_ratio", "1", ratio, lambda x: _at_ratio(site, middle, a, b, x), False, 0.0)
        )
    if b.max_batch > 1:
        tips.append(
            turn("batch", "images", site.over("batch", b.node), lambda x: _at_batch(middle, b, x), True, 1.0)
        )
        tips.append(_load_tip(site, a, b, middle, account, less))
    if b.link != a.link and _bytes_cost(b) and not b.split:  # what crosses a cut has its own size
        tips.append(
            turn(
                "payload_kb",
                "kB",
                site.over("payload_kb"),
                lambda x: replace(middle, payload_kb=x),
                False,
                0.0,
            )
        )
    if b.link != a.link and b.transmit_w > 0:
        tips.append(
            turn(
                "rate_mbps",
                "Mbit/s",
                site.over("rate_mbps", b.link),
                lambda x: _at_slowness(middle, b, x),
                True,
                0.0,
            )
        )
    return tips


def _root(less: Callable[[Values], F64], scale: F64, inverse: bool) -> float:
    """Root of a difference that is linear in x (or in 1 / x), NaN where there is none above zero.

    Checked by putting it in: where a link carries more than it can the radio has no pause left, and the line bends.
    """
    x = float(crossing(less(0.0), less(STEP)) * STEP)
    if np.isfinite(x) and abs(less(x)) > AGREES * max(float(scale), 1e-300):
        x = scan_root(less, *BENT, log=True)
    return 1.0 / x if inverse else x


def _at_ratio(site: Site, middle: Setting, a: Terms, b: Terms, ratio: Values) -> Setting:
    """The middle with b's node at a ratio to a's grid, and with it the network where it hangs on b's grid."""
    base = middle.device_g if not a.remote else middle.node_g[a.node]
    scenario, root = site.scenario, site.world.root
    zone, network = root[scenario.nodes[b.node].zone], root[scenario.links[b.link].network_zone]
    moved = zone == network != root[scenario.device.zone]
    grids = {**middle.network_g, b.link: base * ratio} if moved else middle.network_g
    return replace(middle, node_g={**middle.node_g, b.node: base * ratio}, network_g=grids)


def _at_batch(middle: Setting, b: Terms, inverse: Values) -> Setting:
    return replace(middle, inverse_batch={**middle.inverse_batch, b.node: inverse})


def _at_slowness(middle: Setting, b: Terms, inverse: Values) -> Setting:
    with np.errstate(divide="ignore"):
        rate = 1.0 / np.asarray(inverse, dtype=np.float64)
    return replace(middle, rate_mbps={**middle.rate_mbps, b.link: rate})


def _bytes_cost(b: Terms) -> bool:
    return b.network_j_per_kb > 0 or b.transmit_w > 0


def _load_tip(
    site: Site, a: Terms, b: Terms, middle: Setting, account: Account, less: Callable[[Setting], F64]
) -> Tip:
    """Load of b's node at which carbon tips, through the node's mean of 1 / batch ."""
    curve, over = site.curves[b.node], site.over("load", b.node)
    there = replace(
        middle,
        inverse_batch={**middle.inverse_batch, b.node: curve.inverse_batch},
        background_per_ms={**middle.background_per_ms, b.node: curve.background_per_ms},
    )
    value = first_sign_change(curve.load, np.broadcast_to(less(there), curve.load.shape))
    above = b.name if np.broadcast_to(less(there), curve.load.shape)[-1] < 0 else a.name
    below = a.name if above == b.name else b.name
    return make_tip(
        "carbon", "load", "1", value, below, above, over, account=account, radio=middle.radio
    )  # fmt: skip
