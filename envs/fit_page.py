"""The page that shows recordings beside what the generators make of them, in tables and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import MissingExtraError
from .files import atomic_path, atomic_write_text
from .fit_links import ACF_LAGS_S
from .fit_page_text import PAGE
from .fit_samples import F64
from .fit_zones import ACF_LAGS_H

COMMAND = "carbonpilot traces fit ../shared/data --out configs --docs docs"
Q = (5, 25, 50, 75, 95, 99)
_RTT_TICKS = (10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)
_COLUMNS = (("fitted", "recorded, fitted"), ("generated", "generated"), ("check", "recorded, check only"))


@dataclass(frozen=True)
class Comparison:
    """One family or region: descriptions and raw values, by "fitted", "generated", "check"."""

    name: str
    described: dict[str, dict[str, Any]]
    values: dict[str, F64]


def write_page(links: list[Comparison], zones: list[Comparison], docs: Path) -> list[Path]:
    """Write ``generators.md`` and its pictures.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pictures = []
    for kind, comparisons in (("link", links), ("zone", zones)):
        for c in comparisons:
            path = docs / "images" / f"generator-{kind}-{c.name}.png"
            _picture(c, kind, path)
            pictures.append(path)
    page = docs / "generators.md"
    atomic_write_text(page, _text(links, zones))
    return [page, *pictures]


def _text(links: list[Comparison], zones: list[Comparison]) -> str:
    page = PAGE
    parts = {
        "COMMAND": COMMAND,
        "LINK_SUMMARY": _link_summary(links),
        "ZONE_SUMMARY": _zone_summary(zones),
        "LINKS": "\n".join(_section(c, "link", _link_rows(c)) for c in links),
        "ZONES": "\n".join(_section(c, "zone", _zone_rows(c)) for c in zones),
    }
    for key, text in parts.items():
        page = page.replace("{{" + key + "}}", text)
    return page


def _section(c: Comparison, kind: str, rows: list[list[str]]) -> str:
    table = _table(["", *(title for _, title in _COLUMNS)], rows)
    image = f"![{c.name}: quantiles and autocorrelation](images/generator-{kind}-{c.name}.png)"
    return f"### {c.name}\n\n{table}\n\n{image}\n"


def _link_rows(c: Comparison) -> list[list[str]]:
    keys = [(f"rtt_p{q}_ms", f"RTT p{q}, ms", ".1f") for q in Q]
    keys += [(f"log_rtt_acf_{lag}s", f"ACF of log RTT, {lag} s", ".2f") for lag in ACF_LAGS_S]
    keys += [
        ("blocked_share", "blocked seconds", ".2%"),
        ("mean_blocked_s", "mean blocked stay, s", ".1f"),
        ("lossy_share", "seconds with partial loss", ".2%"),
        ("mean_lossy_loss_fraction", "mean loss in those", ".1%"),
        ("seconds", "seconds", "d"),
    ]
    return _rows(c, keys)


def _zone_rows(c: Comparison) -> list[list[str]]:
    keys = [(f"p{q}_g_per_kwh", f"p{q}, g/kWh", ".0f") for q in Q]
    return _rows(c, keys + [(f"acf_{lag}h", f"ACF, {lag} h", ".2f") for lag in ACF_LAGS_H])


def _rows(c: Comparison, keys: list[tuple[str, str, str]]) -> list[list[str]]:
    return [
        [title, *(_cell(c.described[k].get(key), form) for k, _ in _COLUMNS)] for key, title, form in keys
    ]


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _link_summary(links: list[Comparison]) -> str:
    keys = [("rtt_p50_ms", "p50 ms", ".1f"), ("rtt_p95_ms", "p95 ms", ".1f"), ("rtt_p99_ms", "p99 ms", ".1f")]
    keys += [("log_rtt_acf_1s", "ACF 1 s", ".2f"), ("log_rtt_acf_10s", "ACF 10 s", ".2f")]
    keys += [("blocked_share", "blocked", ".2%"), ("mean_blocked_s", "stay s", ".1f")]
    return _summary("family", links, keys)


def _zone_summary(zones: list[Comparison]) -> str:
    keys = [(f"p{q}_g_per_kwh", f"p{q} g/kWh", ".0f") for q in (5, 50, 95)]
    return _summary("region", zones, keys + [(f"acf_{lag}h", f"ACF {lag} h", ".2f") for lag in ACF_LAGS_H])


def _summary(what: str, comparisons: list[Comparison], keys: list[tuple[str, str, str]]) -> str:
    rows = []
    for c in comparisons:
        real, made = c.described["fitted"], c.described["generated"]
        rows.append([c.name, *(f"{_cell(real.get(k), f)} / {_cell(made.get(k), f)}" for k, _, f in keys)])
    return _table([what, *(title for _, title, _ in keys)], rows)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _picture(c: Comparison, kind: str, path: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingExtraError("The page's pictures", "train") from err
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    shares = np.linspace(0.5, 99.5, 199)
    lags = ACF_LAGS_S if kind == "link" else ACF_LAGS_H
    stem, unit = ("log_rtt_acf_{}s", "s") if kind == "link" else ("acf_{}h", "h")
    for (key, title), style in zip(_COLUMNS, ("k-", "C1-", "C0:"), strict=True):
        left.plot(np.nanpercentile(c.values[key], shares), shares, style, label=title, linewidth=1.3)
        known = [(lag, c.described[key].get(stem.format(lag))) for lag in lags]
        points = [(lag, value) for lag, value in known if value is not None]
        right.plot(*zip(*points, strict=True), style, marker="o", markersize=3, label=title, linewidth=1.3)
    if kind == "link":
        left.set_xscale("log")
        left.set_xticks([t for t in _RTT_TICKS if left.get_xlim()[0] <= t <= left.get_xlim()[1]])
        left.minorticks_off()
        left.xaxis.set_major_formatter("{x:.0f}")
    left.set(xlabel="RTT, ms" if kind == "link" else "carbon intensity, g/kWh", ylabel="percentile")
    right.set(xlabel=f"lag, {unit}", ylabel="autocorrelation", xscale="log", ylim=(-0.2, 1.05))
    right.set_xticks(lags, [str(lag) for lag in lags])
    right.minorticks_off()
    left.legend(fontsize=7)
    with atomic_path(path) as temporary:
        # No software name or date inside, so that the same fit makes the same file.
        figure.savefig(temporary, dpi=90, metadata={"Software": None})
