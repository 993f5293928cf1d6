"""`carbonpilot breakeven`: the conclusion first, then the tipping values as tables."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..envs.files import atomic_write_bytes, check_output_file, write_json
from ..envs.scenario import load_scenario
from .breakeven import BreakEven, Pair, Tip, break_even
from .breakeven_words import at_most, number, percent

PIPE_WIDTH = 160  # columns of the tables where there is no terminal


def run_breakeven(
    scenario_name: str | Path,
    json_file: str | Path | None = None,
    plot_file: str | Path | None = None,
    traces_dir: str | Path | None = None,
) -> int:
    """Print where a scenario tips and write what was asked for; returns the exit code 0.

    Args:
        scenario_name: a shipped name, or the path of a YAML file.
        json_file, plot_file: where to write the result as JSON and the map as PNG.
        traces_dir: trace folder; takes the form of the scenario that reads it.

    Raises:
        InputError: there is no such scenario, it is broken, it reads traces and no folder was given, or a file
            cannot be written.
        MissingExtraError: a picture was asked for and matplotlib is not installed.
    """
    for file in (json_file, plot_file):
        if file is not None:
            check_output_file(file)
    if plot_file is not None:
        from .breakeven_map import require_drawing

        require_drawing()
    result = break_even(load_scenario(scenario_name, traces=traces_dir is not None), traces_dir)
    print_breakeven(result)
    if json_file is not None:
        write_json(json_file, result.as_json())
        print(f"wrote {json_file}")
    if plot_file is not None:
        from .breakeven_map import draw_map

        atomic_write_bytes(plot_file, draw_map(result))
        print(f"wrote {plot_file}")
    return 0


def print_breakeven(result: BreakEven, console: Console | None = None) -> None:
    """Print conclusion and tables."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=PIPE_WIDTH)
    console.print(
        f"[bold]{result.scenario.name}[/bold]: {result.conclusion}", highlight=False, soft_wrap=True
    )
    console.print(result.latency, highlight=False, soft_wrap=True)
    account = result.scenario.account
    for title, table in (
        (f"Carbon ({account} account): b is greener", carbon_table(result)),
        ("Latency on a healthy link: b is faster on average", latency_table(result)),
        (_slo_title(result), slo_table(result)),
        ("One placement for ever, and what could be saved against the first", fixed_table(result)),
    ):
        if table.row_count:
            console.print(f"\n[bold]{title}[/bold]", highlight=False)
            console.print(table, highlight=False)


def _slo_title(result: BreakEven) -> str:
    slo = result.scenario.slo
    return f"Latency objective (p{100 * slo.quantile:g} <= {slo.latency_ms:g} ms) on a healthy link: kept"


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading)
    return table


def carbon_table(result: BreakEven) -> Table:
    """A row per pair that can tip in carbon; the site's span in brackets."""
    headings = ("a", "b", "below a ratio of I_b / I_a", "radio asleep", "batch", "load", "payload, kB")
    table = _table(*headings, "rate, Mbit/s", "b is greener")
    account = result.scenario.account
    for pair in (p for p in result.pairs if p.tips):
        found = [pair.tip("carbon", q, account, "awake") for q in ("intensity_ratio", "batch", "load")]
        asleep = pair.tip("carbon", "intensity_ratio", account, "asleep")
        bytes_tips = [pair.tip("carbon", q, account, "awake") for q in ("payload_kb", "rate_mbps")]
        cells = [
            said(found[0], pair),
            said(asleep, pair, span=False),
            said(found[1], pair),
            said(found[2], pair),
        ]
        cells += [said(tip, pair) for tip in bytes_tips]
        table.add_row(pair.a, pair.b, *cells, percent(pair.share_b_greener))
    return table


def latency_table(result: BreakEven) -> Table:
    """A row per pair: where the mean latency tips."""
    quantities = ("round_trip_ms", "rate_mbps", "load", "arrival_per_s")
    table = _table("a", "b", "round trip, ms", "rate, Mbit/s", "load", "arrivals, 1/s")
    for pair in result.pairs:
        tips = [pair.tip("mean_latency", q) for q in quantities]
        if any(tips):
            table.add_row(pair.a, pair.b, *(said(tip, pair) for tip in tips))
    return table


def slo_table(result: BreakEven) -> Table:
    """A row per remote placement: where its latency quantile meets the objective."""
    table = _table("placement", "round trip, ms", "rate, Mbit/s", "load", "arrivals, 1/s")
    for name, tips in result.slo.items():
        by_name = {tip.quantity: tip for tip in tips}
        cells = [said(by_name.get(q), None) for q in ("round_trip_ms", "rate_mbps", "load", "arrival_per_s")]
        table.add_row(name, *cells)
    return table


def fixed_table(result: BreakEven) -> Table:
    """A row per placement, and the bounds."""
    table = _table("policy", "CO2 per request", "cannot meet the SLO")
    for fixed in result.fixed.values():
        late = f"{percent(fixed.misses_at_least)} or more" if fixed.misses_at_least else "-"
        local = (
            fixed.name == result.scenario.placements[0].name
        )  # its policy is always-local, whatever its name
        table.add_row(f"always-{'local' if local else fixed.name}", f"{number(fixed.carbon_mg)} mg", late)
    saving = result.saving
    for words, share in (
        ("saved within the SLO", saving.budget),
        ("saved without a miss", saving.no_miss),
        ("saved, SLO aside", saving.any_latency),
    ):
        table.add_row(f"any policy: {words}", f"at most {at_most(share)}", "")
    return table


def said(tip: Tip | None, pair: Pair | None, span: bool = True) -> str:
    """A tipping value in a cell: which side is b's (or keeps the objective), and what the site spans."""
    if tip is None:
        return "-"
    good = "met" if pair is None else pair.b
    if tip.value is None:
        return "always" if tip.above == good else "never"
    side = "from" if tip.above == good else "up to"
    site = number(tip.middle) if tip.low == tip.high else f"{_short(tip.low)} to {_short(tip.high)}"
    return f"{side} {number(tip.value)}" + (f" ({site})" if span else "")


def _short(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}"
