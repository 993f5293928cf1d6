"""Why a figure of the CarbonEdge paper comes out as it does. Numbers that can be worked out are worked out here."""

from __future__ import annotations

from . import carbonedge_paper as paper
from .carbonedge_runs import HISTORY_MS, energy_of_range_j

GRID = paper.NODES["green"].carbon_g_per_kwh / paper.NODES["medium"].carbon_g_per_kwh

INPUT = "A mean of the paper's that the scenario takes as its service time."
CALIBRATION = "The calibration: gives the host's power, which every node then draws for as long as it takes."
THROUGHPUT = "One inference after the other: the inverse of the mean latency."
BALANCED_MS = "All on Node-High, as in Performance (Table V), so it takes as long as Performance."
AMP4EC_MS = (
    "A mix of the nodes' latencies, which are all between 271.38 and 272.02 ms; 277.22 is outside of them."
)
NODE_CHOICE = (
    f"Inferred: S_P from {HISTORY_MS / 1000:g} s over a node's CPU quota (its printed range, 0.166, says so), S_R, S_L "
    "and S_B equal on idle nodes. From Table II's own latencies every mode would choose Node-Green."
)
CARBON = f"The monolithic row's watts x the latency x the grid of the node that the mode chose. {NODE_CHOICE}"
# Table II's AMP4EC row at the host's power of its Monolithic row means this intensity, g/kWh.
_MONO, _AMP4EC = paper.TABLE_II[paper.MONOLITHIC], paper.TABLE_II[paper.AMP4EC]
AMP4EC_GRID = (
    paper.NODES["medium"].carbon_g_per_kwh
    * (_AMP4EC.carbon_g / _AMP4EC.latency_ms)
    / (_MONO.carbon_g / _MONO.latency_ms)
)
EQUAL_GRID = sum(node.carbon_g_per_kwh for node in paper.NODES.values()) / len(paper.NODES)
AMP4EC_CARBON = (
    "AMP4EC's own weights (its eq (7), as others quote it), its count of all tasks ever given, and the same inferred "
    f"S_P. The printed row means {AMP4EC_GRID:.0f} g/kWh; equal shares of the nodes mean {EQUAL_GRID:.0f}."
)
AMP4EC_REDUCTION = (
    "A small difference of two figures, printed to 0.1 mg each: how AMP4EC shared the tasks is not printed. "
    + AMP4EC_CARBON
)
AMP4EC_EQUAL = "As AMP4EC above, with S_P from Table II's own latencies: the nodes take turns."
AMP4EC_RENORMALISED = (
    "CarbonEdge's text alone: Performance's weights without S_C, renormalised. It sends everything to Node-High, "
    "which is not what the printed row shows."
)
EFFICIENCY = "One over the carbon of an inference."
OVERHEAD = "Printed as 'less than 7 %'; Green against Monolithic, both taken as printed."
SMALL_EMISSIONS = (
    "Section V-A explains S_C's small range by emissions of about 0.001 g; Table II prints 0.0041 to 0.0067 g. Only "
    "the other two models of Table IV come near 0.001."
)


def grid_ratio_pct(model: str) -> float:
    """The reduction that the grids and the printed latencies alone give, %."""
    mono, green = paper.TABLE_IV[model]
    return 100 * (1 - GRID * green.latency_ms / mono.latency_ms)


def power_factor(model: str) -> float:
    """By what factor the power of an inference would have to change for the printed carbon to be right."""
    mono, green = paper.TABLE_IV[model]
    return green.carbon_g / mono.carbon_g / (1 - grid_ratio_pct(model) / 100)


def reduction(model: str) -> str:
    """Why Green's carbon of a model is what it is."""
    mono, green = paper.TABLE_IV[model]
    ratio = f"1 - 380/530 x {green.latency_ms:g}/{mono.latency_ms:g} = {grid_ratio_pct(model):.1f} %"
    change = 100 * (power_factor(model) - 1)
    return (
        f"Almost only the ratio of the grids: {ratio}, printed {green.reduction_pct:g} %. The printed grams mean that "
        f"an inference on Node-Green draws {abs(change):.0f} % {'more' if change > 0 else 'less'} power than a "
        "monolithic one; nothing in the paper says why, and its intervals are 'below 15%'."
    )


SMALL_J, LARGE_J = energy_of_range_j()
CARBON_RANGE = (
    f"Eq (4) with P x T / 3 600 000, which is Wh. A range of 0.054 needs {SMALL_J:.2f} or {LARGE_J:.1f} J for each "
    "inference; the monolithic row gives 36.0 J. As published, but not from these energies."
)
CARBON_RANGE_KWH = (
    "Eq (4) with the unit that its text names: S_C is almost 1 on every node. The printed range would need "
    f"{SMALL_J:.2f} kJ within 272 ms, {SMALL_J / 0.272:.1f} kW: it comes from Wh, the unit slip."
)
CARBON_RANGE_FITTED = f"Inferred: the energy, {LARGE_J:.1f} J, is set so that S_C spans the printed range."
PERFORMANCE_RANGE = (
    f"Inferred, and set: {HISTORY_MS / 1000:g} s over the CPU quotas 1.0 and 0.4. In seconds, since in ms S_P is below "
    "0.005 on every node."
)
PERFORMANCE_RANGE_TABLE_II = (
    "From Table II's own latencies, 271.38 and 272.02 ms, S_P hardly differs; the printed range needs nodes of which "
    "one takes more than twice as long, and no such latency is printed."
)
PROPORTIONS = (
    "The other weights keep Performance's proportions and share 1 - w_C (inferred), in steps of 0.05."
)
SWITCH = {
    "printed ranges": (
        f"Appears only under inferred quantities: both printed ranges, no other difference between the nodes. "
        f"{PROPORTIONS}"
    ),
    "calibrated": (
        f"With the energy of the monolithic row S_C spans 0.066, so the switch comes one step early. {PROPORTIONS}"
    ),
    "Table II's latencies": (
        "S_P hardly differs, so any w_C above 0.002 goes to Node-Green, Performance's 0.05 too. "
        f"{PROPORTIONS}"
    ),
    "true kWh": (
        "S_C hardly differs, so only w_C above 0.95 goes to Node-Green, and Green's 0.50 does not. "
        f"{PROPORTIONS}"
    ),
    "min-max": (
        "S_C spans 1, so w_C above 0.05 goes to Node-Green (at 0.05 the nodes tie): the mode Balanced becomes green. "
        f"{PROPORTIONS}"
    ),
}
SWITCH_PROPORTIONS = (
    "The printed ranges with the other weights in the proportions of this mode: w_C = w_P range(S_P) / (w_P range(S_P) "
    "+ range(S_C)), w_P as its share of 1 - w_C."
)
OTHER_READING = {
    "printed ranges": "S_C and S_P span their printed ranges.",
    "Table II's latencies": "Nothing inferred: S_P from Table II's latencies. Performance and Balanced go green.",
    "true kWh": "S_C in its named unit. Green goes to Node-High.",
    "min-max": "The form that the paper asks for. Balanced goes green; Performance is a tie to rounding.",
}
SCHEDULING = (
    "Measured here, not predicted: another machine (theirs is a DGX Spark) and another program. CPU time "
    "of a decision of CarbonEdge-Green in NumPy, median of 15 times 100."
)
