"""The conclusion in words: one line about carbon, one about latency, each true as it stands."""

from __future__ import annotations

import math

from .breakeven_pairs import Pair, Tip
from .breakeven_reference import Site
from .breakeven_saving import Fixed, Saving

TIPS = "Carbon tips inside this site's range:"
LITTLE = 0.02  # below it an upper bound on the saving is called little


def carbon_words(
    site: Site, pairs: tuple[Pair, ...], proven: str | None, saving: Saving, fixed: dict[str, Fixed]
) -> str:
    """The one-line conclusion about carbon."""
    local = site.scenario.placements[0].name
    if len(site.terms) == 1:
        return f"No placement policy can save carbon here: {local} is the only placement."
    if proven == local:
        return f"No placement policy can save carbon here: {local} emits least in every case{_nearest(site, pairs)}."
    if proven is not None:
        return _fixed_words(site, proven, saving, fixed, local)
    return _bounded(site, pairs, saving, fixed, local)


def _fixed_words(site: Site, proven: str, saving: Saving, fixed: dict[str, Fixed], local: str) -> str:
    """A server that never emits more; whether it can be kept is another question."""
    share = 1 - fixed[proven].carbon_mg / fixed[local].carbon_mg if fixed[local].carbon_mg > 0 else 0.0
    less = f"no policy can emit less than always-{proven} ({percent(share)} less than {local})"
    late = fixed[proven].misses_at_least
    if late <= 1 - site.scenario.slo.quantile:
        return f"A fixed choice ({proven}) is best everywhere: {less}."
    return (
        f"{proven} emits least everywhere: {less}. But {percent(late)} or more of its requests miss the SLO; within it "
        f"at most {at_most(saving.budget)} of always-local's carbon can be saved."
    )


def _nearest(site: Site, pairs: tuple[Pair, ...]) -> str:
    """How far the best of the others is from tipping, in brackets."""
    tips = [(p, t) for p in pairs if p.a == site.scenario.placements[0].name and (t := _ratio(site, p))]
    tips = [(p, t) for p, t in tips if t.value is not None]
    if not tips:
        return ""
    pair, tip = max(tips, key=lambda found: found[1].value or 0.0)
    here = (
        f"always {number(tip.middle)}" if tip.low == tip.high else f"{number(tip.low)} to {number(tip.high)}"
    )
    return f" ({pair.b} would be greener only below an intensity ratio of {number(tip.value)}; here it is {here})"


def _bounded(site: Site, pairs: tuple[Pair, ...], saving: Saving, fixed: dict[str, Fixed], local: str) -> str:
    misses = f"{100 * (1 - site.scenario.slo.quantile):.3g} %"
    most = f"at most {at_most(saving.budget)} of always-local's carbon"
    if saving.budget < LITTLE:
        lead = f"Little can be saved within the SLO: {most}"
    else:
        spared = at_most(saving.no_miss)
        lead = f"Within the SLO {most} can be saved ({spared} without spending the {misses} of misses)"
    best = max((p for p in pairs if p.a == local), key=lambda p: p.share_b_greener, default=None)
    where = "" if best is None else _where(site, best)
    cheapest = min(fixed.values(), key=lambda f: f.carbon_mg)
    alone = ""
    if cheapest.name != local:
        share = 1 - cheapest.carbon_mg / fixed[local].carbon_mg
        alone = f" Never leaving {cheapest.name} already saves {percent(share)} on average, SLO aside."
    return f"{where}{lead}.{alone}"


def _where(site: Site, pair: Pair) -> str:
    """Where the pair tips that is most often worth it."""
    if pair.share_b_greener == 0:
        return "Carbon hardly ever tips here. "
    if pair.share_b_greener == 1:
        return f"{pair.b} is greener than {pair.a} in every moment. "
    tip, b = _ratio(site, pair), site.terms[pair.b]
    often = f"in {percent(pair.share_b_greener)} of all moments"
    here = f"{TIPS} {pair.b} is greener than {pair.a}"
    batch = pair.tip("carbon", "batch", site.scenario.account, "awake")
    if tip is None or not _inside(tip):
        if batch is not None and _inside(batch):
            side = "from" if batch.above == pair.b else "up to"
            return f"{here} {side} a batch of {number(batch.value)}, {often}. "
        return f"{here} {often}. "
    at = ["radio awake"] if b.tail_w > 0 else []
    if b.max_batch > 1:
        at.append(f"batch {site.batch(b.node):.1f}")
    at.append(f"the site spans {number(tip.low)} to {number(tip.high)}")
    return f"{here} below an intensity ratio of {number(tip.value)} ({'; '.join(at)}), {often}. "


def _inside(tip: Tip) -> bool:
    """Whether the site lies on both sides of the tipping value."""
    return tip.share_below is not None and 0 < tip.share_below < 1


def _ratio(site: Site, pair: Pair) -> Tip | None:
    return pair.tip("carbon", "intensity_ratio", site.scenario.account, "awake")


def latency_words(site: Site, pairs: tuple[Pair, ...], slo: dict[str, tuple[Tip, ...]]) -> str:
    """One line about latency: how far away and how slow a link the fastest server bears."""
    local = site.scenario.placements[0].name
    found = [(p, t) for p in pairs if p.a == local and (t := p.tip("mean_latency", "round_trip_ms"))]
    if not found:
        return "Latency: nothing to compare."
    pair, distance = max(found, key=lambda f: (f[1].value or 0.0) - f[1].middle)
    text = f"{pair.b} never answers faster than {local} on average"
    if distance.value is not None:
        text = (
            f"{pair.b} answers faster than {local} on average up to a round trip of {distance.value:.0f} ms"
        )
        rate = pair.tip("mean_latency", "rate_mbps")
        if rate is not None and rate.value is not None:
            text += f" and above {number(rate.value)} Mbit/s"
    objective = next(t for t in slo[pair.b] if t.quantity == "round_trip_ms")
    limit = "at no distance" if objective.value is None else f"up to {objective.value:.0f} ms"
    quantile = f"p{100 * site.scenario.slo.quantile:g}"
    text += f"; its {quantile} keeps {site.scenario.slo.latency_ms:g} ms {limit}"
    return f"On a healthy link {text} (site: {distance.low:.0f} to {distance.high:.0f} ms)."


def at_most(share: float) -> str:
    """An upper bound as a percentage, rounded up, so that it stays one."""
    value = 100 * share
    digits = 10 if value < 10 else 1
    return f"{math.ceil(value * digits - 1e-9) / digits:g} %"


def percent(share: float) -> str:
    """A share as a percentage, one digit below 10 %."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < abs(value) < 10 else f"{value:.0f} %"


def number(value: float | None) -> str:
    """Three significant digits, no exponent."""
    if value is None:
        return "-"
    if value == 0 or not abs(value) < 1e6:
        return f"{value:g}"
    return f"{float(f'{value:.3g}'):.10g}"
