"""Which recordings the link families are fitted to, and which only check them; who made them."""

from __future__ import annotations

from dataclasses import dataclass

# Expected (largest - mean) / sigma of n normal values, n = 5 and 20 replies a second
# (Tippett 1925, doi 10.1093/biomet/17.3-4.364: 1.163 and 1.867).
MAX_OF_5, MAX_OF_20 = 1.163, 1.867
CAPACITY_FILES = tuple(
    f"network/capacity_{name}.csv@0.0-0.6"
    for name in ("lte_att_drive", "lte_tmobile_short", "umts_tmobile_drive")
)


@dataclass(frozen=True)
class FamilySource:
    """Which recordings a family is fitted to, and which only check it."""

    fitted: tuple[str, ...]
    check: tuple[str, ...]
    credit: str
    max_factor: float | None  # None: the source has no slowest reply
    piece_s: int = 120  # a level holds for about an episode
    continuous: bool = False  # RTT moves without jumps: one table for all regimes, none called degraded


def _drives(*days: str, of: tuple[str, ...] = ("att", "tmobile", "verizon")) -> tuple[str, ...]:
    return tuple(f"network/us_drive_{day}_{who}.csv" for day in days for who in of)


def _spans(span: str, *names: str) -> tuple[str, ...]:
    return tuple(f"network/{name}.csv@{span}" for name in names)


_CICV5G = "zxr805/CICV5G, Zhang et al. 2025, doi 10.5281/zenodo.17475688, CC BY 4.0"
_5G = ("5g_urban_n78", "5g_urban_n8", "5g_weak_to_strong_n8")
_PAM = "NUWiNS/pam2025-multi-carrier-dataset, PAM 2025, CC0 1.0"
_LATER_DAYS = ("2023-05-15", "2023-08-05", "2023-08-06")
_TWO = ("att", "verizon")
LINK_SOURCES = {
    "us-drive": FamilySource(
        _drives("2023-05-13", "2023-05-14"),
        _drives(*_LATER_DAYS),
        _PAM,
        MAX_OF_5,
    ),
    # The next one is for training where T-Mobile, the one after it, shall stay unseen (docs/generalisation.md).
    "us-drive-two": FamilySource(
        _drives("2023-05-13", "2023-05-14", of=_TWO), _drives(*_LATER_DAYS, of=_TWO), _PAM, MAX_OF_5
    ),
    "us-drive-other": FamilySource(
        _drives(*_LATER_DAYS, of=("tmobile",)),
        _drives("2023-05-13", "2023-05-14", of=("tmobile",)),
        _PAM,
        MAX_OF_5,
    ),
    "starlink": FamilySource(
        ("network/starlink_kiel_2024-12-12.csv", "network/starlink_kiel_2025-01-30.csv"),
        ("network/starlink_kiel_2025-02-13.csv",),
        "ds-kiel/FjordLink (Kiel University), CC BY 4.0",
        None,
        piece_s=600,  # the terminal's RTT is smoothed; shorter pieces would take that for a level
        continuous=True,
    ),
    "starlink-seattle": FamilySource(
        _spans("0.0-0.6", "starlink_gw_seattle_2023-09-11"),
        _spans("0.6-1.0", "starlink_gw_seattle_2023-09-11"),
        "clarkzjw/mmsys24-starlink-livestreaming-data, MMSys 2024, CC BY-SA 4.0 (only numbers fitted to it are here)",
        MAX_OF_5,
    ),
    "5g": FamilySource(_spans("0.0-0.6", *_5G), _spans("0.6-1.0", *_5G), _CICV5G, MAX_OF_20),
    "5g-rural": FamilySource(
        _spans("0.0-0.6", "5g_rural_n8"), _spans("0.6-1.0", "5g_rural_n8"), _CICV5G, MAX_OF_20
    ),
    "wifi": FamilySource(
        _spans("0.0-0.6", "wifi_repeater_home"),
        _spans("0.6-1.0", "wifi_repeater_home"),
        "uncore-team/marginal_rtt_modeling, Fernandez-Madrigal et al. 2025, doi 10.5281/zenodo.14967644, "
        "GPL-3.0 (only numbers fitted to it are here)",
        None,
    ),
}
