"""The paper's cells beside ours: what was fitted, what is predicted, what cannot be had and why."""

from __future__ import annotations

from itertools import product

from . import khan_notes as notes
from . import khan_paper as paper
from .khan_runs import (
    ADAPTIVE,
    CONTROLS,
    FASTEST_LOCAL,
    LOCAL,
    OFFLOAD,
    SWITCHING,
    TCP_PAYLOADS_KB,
    Figures,
    Key,
    rate_name,
)
from .paper_cells import Cell, Range, cell

TCP_TABLE = "Table 1, tcp model"
ROWS = {"khan-lan": "LAN", "khan-emu-a": "Emu-A", "khan-emu-b": "Emu-B"}
SIDES = (("local", LOCAL, "local-b0"), ("offload", OFFLOAD, "edge-b4"))
SLOWEST = Range(1, 1)  # the rate at which Fig. 3's idle powers are fitted
Runs = dict[Key, Figures]


def all_cells(runs: Runs) -> list[Cell]:
    """Every cell of Tables 1 and 2, the batching figures, Figs. 3 and 4, and Table 1 by the tcp model."""
    return [
        *table_1(runs),
        *emu_b(runs),
        *table_2(runs),
        *batching(runs),
        *fig_3(runs),
        *fig_4(runs),
        *tcp(runs),
    ]


def table_1(runs: Runs) -> list[Cell]:
    """Table 1: latency is fitted, throughput follows."""
    cells = []
    for name, profile in paper.TABLE_1.items():
        for side, policy, _ in SIDES:
            ours, printed = runs[Key(name, "", policy)], getattr(profile, side)
            where = ("Table 1", ROWS[name])
            rate = (*where, f"{side} throughput", "im/s")
            cells += [
                cell((*where, f"{side} p50", "ms"), printed.p50_ms, ours.p50_ms, fitted=True),
                cell((*where, f"{side} p95", "ms"), printed.p95_ms, ours.p95_ms, fitted=True),
                cell(rate, printed.images_per_s, ours.images_per_s, notes.THROUGHPUT),
            ]
    return cells


def emu_b(runs: Runs) -> list[Cell]:
    """What section 4.1 says in words about Emu-B."""
    ours = runs[Key("khan-emu-b", "", OFFLOAD)]
    where = ("Section 4.1", "Emu-B")
    return [
        cell((*where, "offload SLO misses", "%"), paper.EMU_B_MISSES_PCT, ours.misses_pct, notes.MISSES),
        cell((*where, "offload energy", "J"), paper.EMU_B_OFFLOAD_J, ours.energy_j, notes.EMU_B_JOULES),
    ]


def table_2(runs: Runs) -> list[Cell]:
    """Table 2: accuracy and energy go in as printed, carbon follows. The marginal account."""
    cells = []
    for side, policy, placement in SIDES:
        ours, printed = runs[Key("khan-lan", "", policy)], paper.TABLE_2[placement]
        where = ("Table 2", f"always-{side}")
        pixels = Cell(
            *where, "PixAcc", "%", printed.pixel_accuracy_pct, None, None, "not_reproducible", notes.NO_PIXELS
        )
        cells += [
            cell((*where, "mIoU", "%"), printed.miou_pct, ours.accuracy_miou, fitted=True),
            pixels,
            cell((*where, "energy", "J"), printed.energy_j, ours.energy_j, fitted=True),
            cell((*where, "CO2", "mg"), printed.carbon_mg, ours.carbon_mg, notes.CARBON),
        ]
    return cells


def batching(runs: Runs) -> list[Cell]:
    """Section 4.2: eight concurrent images in full batches."""
    ours = runs[Key("khan-lan", "batch", OFFLOAD)]
    where = ("Section 4.2", "batches of 8")
    rate = (*where, "offload throughput", "im/s")
    return [
        cell((*where, "offload p95", "ms"), paper.BATCH_P95_MS, ours.p95_ms, notes.LITTLE),
        cell(rate, paper.BATCH_IMAGES_PER_S, ours.images_per_s, fitted=True),
        cell((*where, "offload energy", "J"), paper.BATCH_ENERGY_J, ours.energy_j, notes.BATCH_JOULES),
    ]


def fig_3(runs: Runs) -> list[Cell]:
    """Fig. 3: the attributional account, idle power fitted at one image a second."""
    cells = []
    for rate, (offload_mg, local_mg) in paper.FIG_3.items():
        row = rate_name(rate)
        fitted = rate == SLOWEST
        local = runs[Key("khan-lan", row, LOCAL)].carbon_mg
        offload = runs[Key("khan-lan", row, OFFLOAD)].carbon_mg
        why = "" if fitted else notes.LOCAL_FIG_3_FAST if rate.low > FASTEST_LOCAL else notes.LOCAL_FIG_3
        curve = "" if fitted else notes.OFFLOAD_FIG_3
        cells.append(cell(("Fig. 3", row, "offload CO2", "mg"), offload_mg, offload, curve, fitted=fitted))
        cells.append(cell(("Fig. 3", row, "local CO2", "mg"), local_mg, local, why, fitted=fitted))
    return cells


def fig_4(runs: Runs) -> list[Cell]:
    """Fig. 4: grams for 1000 images, and what the adaptive policy saves."""
    policies = {"always-local": LOCAL, "always-offload": OFFLOAD, "adaptive": ADAPTIVE}
    # mg an image x 1000 images = g
    grams = {name: runs[Key("khan-mixed", "", p)].carbon_mg for name, p in policies.items()}
    where = ("Fig. 4", "500 LAN + 500 Emu-B")
    cells = [
        cell((*where, f"{name} CO2", "g"), printed, grams[name], notes.FIG_4[name])
        for name, printed in paper.FIG_4_G.items()
    ]
    switching = runs[Key("khan-mixed", "", SWITCHING)].carbon_mg
    place = (*where, "adaptive by network CO2", "g")
    cells.append(cell(place, paper.FIG_4_G["adaptive"], switching, notes.SWITCHING))
    for name, printed in paper.FIG_4_SAVED_PCT.items():
        saved = 100 * (1 - grams["adaptive"] / grams[name])
        cells.append(cell((*where, f"saved against {name}", "%"), printed, saved, notes.SAVED))
    return cells


def tcp(runs: Runs) -> list[Cell]:
    """Table 1's offload latencies by the tcp model: contradiction (4)."""
    cells = []
    for name, profile in paper.TABLE_1.items():
        for control, size in product(CONTROLS, TCP_PAYLOADS_KB):
            ours = runs[Key(name, f"{control} {size} kB", OFFLOAD)]
            where = (TCP_TABLE, f"{ROWS[name]}, {size} kB by {control.upper()}")
            why = notes.TCP_IMAGE if size == TCP_PAYLOADS_KB[0] else notes.TCP_SMALL
            cells.append(cell((*where, "offload p50", "ms"), profile.offload.p50_ms, ours.p50_ms, why))
            cells.append(cell((*where, "offload p95", "ms"), profile.offload.p95_ms, ours.p95_ms, why))
    return cells
