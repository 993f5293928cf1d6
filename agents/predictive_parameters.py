"""The tunables of the SLO-predictive rules, with units; `predictive_margins.py` and `predictive.py` say what each does.

The defaults are rounded from exploratory searches on training tapes of `metro`, so that a rule that was not tuned for a
site is a sensible one, and a search starts from there.
"""

from __future__ import annotations

from dataclasses import replace

from .tunable import Tunable

PREDICTION = (
    Tunable("margin_ms", -80, 80, -50, meaning="safety margin of every remote placement"),
    Tunable("rtt_share", 0, 2, 0.35, meaning="further round trips on top of the believed one"),
    Tunable("packets_share", 0, 2, 0.35, meaning="further round trips for each 100 kB of payload"),
    Tunable("trend_share", -1, 1, 0.2, meaning="of the last probe's RTT above the smoothed one"),
    Tunable("deviation_share", -1, 4, -0.6, meaning="of the smoothed deviation of the RTT"),
    Tunable("loss_ms_per_pct", 0, 30, 8, meaning="for each % of lost probes, up to 10 %"),
    Tunable("upload_share", 0, 4, 0.4, meaning="of payload / estimated uplink rate"),
    Tunable(
        "sent_share",
        0,
        3,
        0.2,
        meaning="of the upload at the rate of the newest answered request, above that",
    ),
    Tunable("sent_memory_s", 0.05, 30, 0.5, log=True, meaning="time in which that fades to 1/e"),
    Tunable("load_ms", -40, 60, -15, meaning="at a reported load of one, growing with its square"),
    Tunable("probe_age_ms_per_s", 0, 40, 25, meaning="for each second without an answered probe, up to 5 s"),
    Tunable("backlog_share", 0, 3, 0.7, meaning="of the link's believed backlog, on top"),
    Tunable("overdue_share", 0, 3, 0.7, meaning="of the time by which a request on the same link is overdue"),
    Tunable("waiting_ms", -10, 60, 20, meaning="while a request at the same node is unanswered"),
    Tunable("node_share", 0, 1.5, 0.6, meaning="of the node's last residual (answered minus believed)"),
    Tunable("node_memory_s", 0.1, 60, 0.15, log=True, meaning="time in which that fades to 1/e"),
    Tunable("link_last_share", 0, 1.5, 0.4, meaning="of the residual of the link's last answer, of any node"),
    Tunable("link_last_memory_s", 0.1, 30, 1.3, log=True, meaning="time in which that fades to 1/e"),
    Tunable("link_share", 0, 1.5, 0.25, meaning="of the link's smoothed residual"),
    Tunable("link_weight", 0.02, 0.6, 0.04, log=True, meaning="weight of one answer in that smoothing"),
    Tunable("silence_ms", -10, 40, -1, meaning="times ln(1 + seconds since the node's last answer)"),
    Tunable("link_silence_ms", -10, 40, 5, meaning="times ln(1 + seconds since the link's last answer)"),
    Tunable("miss_ms", 0, 300, 130, meaning="times the recent miss rate"),
    Tunable("local_margin_ms", -10, 60, 18, meaning="safety margin of the device"),
    Tunable("local_hot_ms", -10, 50, 2, meaning="more while the device is throttled"),
    Tunable("local_backlog_share", 0, 2, 0.5, meaning="of the device's hidden backlog"),
    Tunable("local_inflation_ms", 0, 15, 6, meaning="that an image takes longer in the hidden backlog's sum"),
)
CARBON = (
    Tunable(
        "remote_carbon_factor", 0.6, 1.6, 1.1, meaning="on the believed carbon of every remote placement"
    ),
    Tunable("load_carbon_share", 0, 1.2, 0.5, meaning="more carbon per unit of load: E[1/b] > 1/E[b]"),
    Tunable("radio_share", 0, 1, 0.12, meaning="of the radio tail that an offload adds"),
    Tunable("hysteresis_mg", 0, 0.1, 0.03, meaning="in favour of the last placement"),
    Tunable("heat_price_mg", 0, 2, 1.1, meaning="for local at the throttling point"),
    Tunable(
        "heat_reserve", -0.1, 0.3, 0.045, meaning="utilisation below that point at which the price starts"
    ),
    Tunable("hot_price_mg", 0, 2, 0.03, meaning="for local while throttled, so that the device cools"),
)
BUDGET = (
    Tunable("spread", 0.03, 1, 0.17, log=True, meaning="logistic scale of ln(latency / prediction), remote"),
    Tunable("local_spread", 0.005, 0.4, 0.02, log=True, meaning="the same for the device"),
    Tunable("miss_price_mg", 0.05, 100, 1.5, log=True, meaning="price of a miss, one part"),
    Tunable(
        "miss_price_locals", 0.05, 100, 7.5, log=True, meaning="the other part, in local requests' carbon"
    ),
    Tunable("budget_gain", 0, 20, 9, meaning="the price is multiplied by exp(gain x (spent - planned))"),
    Tunable("budget_head_start", 0, 0.5, 0.04, meaning="planned at the start, share of the allowed misses"),
    Tunable("budget_end", 0.4, 1.2, 0.93, meaning="planned at the end, share of the allowed misses"),
    Tunable("shield_misses", 0, 20, 8, meaning="with fewer misses left, only the least risk counts"),
)


def with_defaults(tunables: tuple[Tunable, ...], **defaults: float) -> tuple[Tunable, ...]:
    """The same tunables with some defaults changed, for a rule that uses them in another way."""
    return tuple(replace(t, default=defaults.get(t.name, t.default)) for t in tunables)


# A line at the SLO needs the whole margin in the prediction; a price on risk has its own.
STRICT_PREDICTION = with_defaults(
    PREDICTION,
    margin_ms=-5,
    rtt_share=0.25,
    packets_share=0.25,
    loss_ms_per_pct=10,
    upload_share=1,
    probe_age_ms_per_s=14,
    backlog_share=1.6,
    overdue_share=1.2,
    waiting_ms=24,
    node_share=0.4,
    node_memory_s=0.9,
    link_last_share=0.5,
    link_share=0.5,
    link_weight=0.055,
    silence_ms=6,
    link_silence_ms=-3,
    miss_ms=150,
    local_margin_ms=36,
    local_hot_ms=30,
    local_backlog_share=1.4,
)
STRICT_CARBON = with_defaults(
    CARBON,
    remote_carbon_factor=0.9,
    load_carbon_share=0.4,
    radio_share=0.35,
    hysteresis_mg=0.015,
    heat_price_mg=0.25,
    heat_reserve=-0.05,
    hot_price_mg=0.4,
)
