"""Fit the link families to recordings: regimes by rule, then their transitions, quantiles and memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .fit_samples import LinkSample, link_sample, read_columns, span_of_rows
from .fit_sources import CAPACITY_FILES, LINK_SOURCES, FamilySource
from .fit_statistics import acf, fit_memory, normal_scores, quantiles
from .link_parameters import REGIMES, Regime
from .score_tables import quantile_table

ACF_LAGS_S = (1, 2, 5, 10, 30)
DEGRADED_MULTIPLE = (
    1.5  # assumed border: a second whose RTT is that many times its piece's median is degraded
)
BLOCKED = REGIMES.index("blocked")
MIN_SECONDS = 5  # a piece with fewer measured seconds has no level of its own
SLOWS = 1.0 - 1.0 / np.geomspace(1.5, 200.0, 30)
SMOOTHINGS = np.array([0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97])
# Assumed: no recording has rate and RTT together.
RATE_MULTIPLES: dict[Regime, float] = {"good": 1.0, "degraded": 0.6, "lossy": 0.8, "blocked": 1.0}
RATE_FLOOR = 0.05


def fit_family(name: str, folder: Path) -> dict[str, Any]:
    """Fit one family; the result has the keys of `LinkParameters`."""
    source = LINK_SOURCES[name]
    sample = link_sample(folder, source.fitted, source.piece_s)
    level = piece_levels(sample)
    regime = classify(sample, level, source.continuous)
    return {
        "schema": "carbonpilot/link-family/1",
        "name": name,
        "base_rtt_ms": _table(level),
        "score": _score(sample, level, regime, source.continuous),
        "regimes": _with_measured_shares(
            {
                r: _regime(r, sample, level, regime, source)
                for r in REGIMES
                if (regime == REGIMES.index(r)).any()
            }
        ),
        "uplink": fit_uplink(folder),
        "observed": describe(sample, source.fitted),
    }


def piece_levels(sample: LinkSample) -> npt.NDArray[np.float64]:
    """Median RTT of each second's piece (N,), ms; NaN where too little of the piece is measured."""
    level = np.full(sample.rtt_ms.size, np.nan)
    for p in np.unique(sample.piece):
        rows = sample.piece == p
        if np.isfinite(sample.rtt_ms[rows]).sum() >= MIN_SECONDS:
            level[rows] = np.nanmedian(sample.rtt_ms[rows])
    return level


def classify(sample: LinkSample, level: npt.NDArray[np.float64], continuous: bool) -> npt.NDArray[np.int64]:
    """Regime of each second (N,): blocked, else lossy where a probe was lost, else degraded where slow."""
    slow = (sample.rtt_ms > DEGRADED_MULTIPLE * level) & (not continuous)
    regime = np.where(slow, REGIMES.index("degraded"), 0)
    regime[sample.loss > 0.0] = REGIMES.index("lossy")
    regime[sample.blocked] = BLOCKED
    return regime


def fit_uplink(folder: Path) -> dict[str, Any]:
    """Shape and memory of the uplink from the saturated cellular links; assumed to hold for every family."""
    shapes, piece = [], []
    for number, source in enumerate(CAPACITY_FILES):
        up = read_columns(folder / source.split("@")[0], ("up_mbps",))["up_mbps"]
        up = up[span_of_rows(source, up.size)]
        shapes.append(np.maximum(up / np.median(up), RATE_FLOOR))
        piece.append(np.full(up.size, number))
    shape = np.concatenate(shapes)
    memory = acf(normal_scores(shape), np.concatenate(piece), ACF_LAGS_S)
    return {"rate_shape": _table(shape), "score": _memory(memory)}


def describe(sample: LinkSample, files: tuple[str, ...]) -> dict[str, Any]:
    """What a sample of seconds, recorded or generated, looks like (the keys of `ObservedLink`)."""
    lossy = sample.loss > 0.0
    lengths = _stays(sample.blocked.astype(np.int64), sample.segment, 1)
    memory = acf(np.log(sample.rtt_ms), sample.segment, ACF_LAGS_S)
    return {
        "files": list(files),
        "seconds": int(sample.rtt_ms.size),
        **{f"rtt_p{q}_ms": round(v, 2) for q, v in quantiles(sample.rtt_ms).items()},
        **{f"log_rtt_acf_{lag}s": None if v is None else round(v, 4) for lag, v in memory.items()},
        "blocked_share": round(float(sample.blocked.mean()), 5),
        "mean_blocked_s": round(float(np.mean(lengths)), 3) if lengths else 0.0,
        "lossy_share": round(float(lossy.mean()), 5),
        "mean_lossy_loss_fraction": round(float(sample.loss[lossy].mean()), 4) if lossy.any() else 0.0,
    }


def _with_measured_shares(regimes: dict[Regime, dict[str, Any]]) -> dict[Regime, dict[str, Any]]:
    """Scale the ways into each other regime until it takes its measured share of the time; stays are kept.

    Recordings are short and end in trouble more often than they start in it, so counting alone makes too
    much of it. What the scaling takes from a way in goes to "good", which every regime can lead to.
    """
    names = list(regimes)
    share = np.array([regimes[n]["share"] for n in names])
    chain = np.array([[regimes[a]["next_per_s"].get(b, 0.0) for b in names] for a in names])
    stays = np.diag(chain).copy()
    for _ in range(60):
        ratio = share / np.linalg.matrix_power(chain, 4096)[0]
        chain *= ratio
        chain[np.arange(1, len(names)), np.arange(1, len(names))] = stays[1:]
        chain[:, 0] = 0.0
        chain[:, 0] = 1.0 - chain.sum(axis=1)
    for name, row in zip(names, chain, strict=True):
        regimes[name]["next_per_s"] = {
            n: round(float(p), 6) for n, p in zip(names, row, strict=True) if p > 0
        }
    return regimes


def _regime(
    name: Regime,
    sample: LinkSample,
    level: npt.NDArray[np.float64],
    regime: npt.NDArray[np.int64],
    source: FamilySource,
) -> dict[str, Any]:
    number = REGIMES.index(name)
    here = regime == number
    stay_s = float(np.mean(_stays(regime, sample.segment, number)))
    out: dict[str, Any] = {
        "share": round(float(here.mean()), 6),
        "next_per_s": _transitions(number, sample, regime, stay_s),
        "mean_stay_s": round(stay_s, 3),
        "rate_multiple": RATE_MULTIPLES[name],
    }
    if name != "blocked":
        rows = ~sample.blocked if source.continuous else here
        out["rtt_multiple"] = _table((sample.rtt_ms / level)[rows], 4)
        out["jitter_multiple"] = _jitter(sample, here, source)
    if name == "lossy":
        edges = np.quantile(sample.loss[here], np.linspace(0.0, 1.0, 11))
        out["loss_fraction"] = [round(float(v), 4) for v in edges]
    return out


def _transitions(
    number: int, sample: LinkSample, regime: npt.NDArray[np.int64], stay_s: float
) -> dict[str, float]:
    """Shares of the regimes one second later, within segments only.

    Recordings often end in a stall, so counting alone would make stalls longer than those recorded:
    leaving a blocked second has the probability 1 / mean stay instead.
    """
    follows = (regime[:-1] == number) & (sample.segment[:-1] == sample.segment[1:])
    counts = np.bincount(regime[1:][follows], minlength=len(REGIMES)).astype(np.float64)
    if counts.sum() == 0:
        return {"good": 1.0}
    if number == BLOCKED and counts.sum() > counts[number] > 0:
        leaving = counts.sum() - counts[number]
        counts[number] = leaving * (stay_s - 1.0)
    return {r: round(c / counts.sum(), 6) for r, c in zip(REGIMES, counts.tolist(), strict=True) if c}


def _stays(regime: npt.NDArray[np.int64], segment: npt.NDArray[np.int64], number: int) -> list[int]:
    """Lengths in seconds of the unbroken stays in a regime, as far as the segments show them."""
    change = (np.diff(regime) != 0) | (np.diff(segment) != 0)
    edges = np.concatenate([[0], np.flatnonzero(change) + 1, [regime.size]])
    return [int(b - a) for a, b in pairwise(edges) if regime[a] == number]


def _jitter(sample: LinkSample, here: npt.NDArray[np.bool_], source: FamilySource) -> float:
    """Scale of the jitter within a second, over the RTT (median over the seconds)."""
    if source.max_factor is not None:
        return round(float(np.nanmedian(sample.excess[here])) / source.max_factor, 4)
    # Assumed where the source has no usable spread within a second: that of neighbouring seconds.
    step = np.diff(np.log(sample.rtt_ms))[here[1:] & (sample.segment[1:] == sample.segment[:-1])]
    return round(float(np.nanstd(step) / np.sqrt(2.0)), 4)


def _score(
    sample: LinkSample, level: npt.NDArray[np.float64], regime: npt.NDArray[np.int64], continuous: bool
) -> dict[str, float]:
    score = np.full(level.size, np.nan)
    table = np.where(regime < BLOCKED, 0, BLOCKED) if continuous else regime
    for number in range(BLOCKED):
        here = (table == number) & np.isfinite(level)
        if here.any():
            score[here] = normal_scores((sample.rtt_ms / level)[here])
    return _memory(acf(score, sample.piece, ACF_LAGS_S))


def _memory(observed: dict[int, float | None]) -> dict[str, float]:
    share, slow, smoothing, _ = fit_memory(observed, SLOWS, SMOOTHINGS)
    keys = ("slow_share", "slow_correlation_per_s", "smoothing_correlation_per_s")
    return {key: round(v, 4) for key, v in zip(keys, (share, slow, smoothing), strict=True)}


def _table(values: npt.ArrayLike, digits: int = 3) -> list[float]:
    finite = np.asarray(values, dtype=np.float64)
    return [round(float(v), digits) for v in quantile_table(finite[np.isfinite(finite)])]
