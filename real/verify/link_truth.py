"""What a link was in each second of a run, as far as a probe a second and a calibration can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...envs.errors import InputError
from ...envs.schema import Link, PhasedLink, SwitchedLink
from ...envs.schema_links import LinkCondition, LinkPhase
from ...envs.transfer.empirical import jitter_table
from ..calibrate.statistics import without_outliers
from .conditions import Condition
from .world import LinkSeries

F64 = npt.NDArray[np.float64]

HALF_WINDOW_S = 5  # round-trip times are averaged over this many seconds to either side
# A stretch this near to a calibrated round-trip time is the calibrated link.
NEAR_SHARE, NEAR_MS, STANDARD_ERRORS = 0.10, 1.0, 3.0


@dataclass(frozen=True)
class LinkTruth:
    """A link by second (S,), for a tape.

    Attributes:
        rtt_ms, jitter_ms: as probed: mean of some seconds around, and what the single probes scatter about it.
        loss, rate_mbps: see ``basis``.
        blocked: nothing got through.
        basis: by condition, where loss and rate come from: "calibrated" or "as recorded".
    """

    rtt_ms: F64
    jitter_ms: F64
    loss: F64
    rate_mbps: F64
    blocked: npt.NDArray[np.bool_]
    basis: list[str]


def calibrated_states(link: Link) -> dict[str, LinkPhase | LinkCondition]:
    """The constant states that the site file gives a link, by their key below ``source``; none where it moves."""
    source = link.source
    if isinstance(source, PhasedLink):
        return {f"phases.{i}": phase for i, phase in enumerate(source.phases)}
    if isinstance(source, SwitchedLink):
        return {f"conditions.{k}": c for k, c in source.conditions.items() if c.outage is None}
    return {}


def nearest_state(link: Link, rtt_ms: float) -> tuple[str, LinkPhase | LinkCondition] | None:
    """The calibrated state whose round-trip time is nearest in proportion; None where there is none."""
    found = calibrated_states(link)
    if not found:
        return None
    return min(found.items(), key=lambda item: abs(np.log((item[1].rtt_ms + 0.1) / (rtt_ms + 0.1))))


def link_truth(
    name: str, link: Link, series: LinkSeries, stretches: list[Condition], where: str
) -> LinkTruth:
    """Work a link's state out.

    A probe a second says much of the round-trip time and next to nothing of a loss of 0.2 %, and a transfer of a few
    packets says little of the rate. So where a stretch has the calibrated round-trip time, loss and rate are the
    calibrated ones, else what the run recorded. Its round-trip time wanders there by as much as its probes do beyond
    the calibrated jitter.

    Raises:
        InputError: the rate or loss of another link than the calibrated one is needed and was never recorded.
    """
    shape = series.rtt_ms.shape
    out = {key: np.zeros(shape) for key in ("rtt", "jitter", "loss", "rate")}
    standard = jitter_table(link.transfer).astype(np.float64)
    basis = []
    for stretch in stretches:
        part = slice(stretch.start_s, stretch.end_s)
        mean, count, scatter = _mean_and_scatter(series.rtt_ms[part], ~series.blocked[part])
        scale = scatter / max(float(standard.std()), 1e-9)
        loss, rate, source = _loss_and_rate(name, link, series, stretch, where)
        state = nearest_state(link, _open_ms(name, series, stretch))
        if source == "calibrated" and state is not None:
            mean = _steadied(mean, count, state[1].jitter_ms)
        out["jitter"][part] = scale
        out["rtt"][part] = mean - scale * float(standard.mean())
        out["loss"][part], out["rate"][part] = loss, rate
        basis.append(source)
    return LinkTruth(out["rtt"], out["jitter"], out["loss"], out["rate"], series.blocked, basis)


def unused_link(seconds: int, stretches: int) -> LinkTruth:
    """A link that leads to absent nodes only: it was not probed, and nothing is sent over it."""
    nothing = np.zeros(seconds)
    return LinkTruth(nothing, nothing, nothing, np.ones(seconds), nothing > 0, ["unused"] * stretches)


def _mean_and_scatter(rtt_ms: F64, answered: npt.NDArray[np.bool_]) -> tuple[F64, F64, float]:
    """Moving mean of the answered probes (S,), the probes in each, and the standard deviation about it."""
    weight = answered.astype(np.float64)
    if weight.sum() < 2:
        return rtt_ms, weight, 0.0
    rtt_ms = without_outliers(rtt_ms, rtt_ms[answered])
    window = np.ones(2 * HALF_WINDOW_S + 1)
    count = np.convolve(weight, window, mode="full")[HALF_WINDOW_S:-HALF_WINDOW_S]
    total = np.convolve(rtt_ms * weight, window, mode="full")[HALF_WINDOW_S:-HALF_WINDOW_S]
    everywhere = float((rtt_ms * weight).sum() / weight.sum())
    mean = np.where(count > 0, total / np.maximum(count, 1.0), everywhere)
    return mean, count, float((rtt_ms - mean)[answered].std())


def _steadied(mean_ms: F64, probes: F64, jitter_ms: float) -> F64:
    """Moving means of the probes (S,) without what they scatter by jitter alone, which the tape draws once more."""
    level, error = float(mean_ms.mean()), jitter_ms**2 / np.maximum(probes, 1.0)
    wander = max(float(mean_ms.var() - error.mean()), 0.0)
    trust = np.divide(wander, wander + error, out=np.zeros_like(error), where=wander + error > 0)
    return level + trust * (mean_ms - level)


def _open_ms(name: str, series: LinkSeries, stretch: Condition) -> float:
    """Median round-trip time of a stretch; where nothing got through, what is carried over from before."""
    rtt_ms = stretch.rtt_ms[name]
    return rtt_ms if np.isfinite(rtt_ms) else float(np.median(series.rtt_ms[stretch.start_s : stretch.end_s]))


def _loss_and_rate(
    name: str, link: Link, series: LinkSeries, stretch: Condition, where: str
) -> tuple[F64 | float, F64 | float, str]:
    rtt_ms = stretch.rtt_ms[name]
    part = slice(stretch.start_s, stretch.end_s)
    state = nearest_state(link, _open_ms(name, series, stretch))
    if state is not None and (not np.isfinite(rtt_ms) or is_near(rtt_ms, state[1], stretch.seconds)):
        return state[1].loss_pct / 100, state[1].rate_mbps, "calibrated"
    loss, rate = series.loss[part], series.rate_mbps[part]
    if not (np.isnan(loss).any() or np.isnan(rate).any()):
        return loss, rate, "as recorded"
    if state is not None:
        return state[1].loss_pct / 100, state[1].rate_mbps, "calibrated for another round-trip time"
    raise InputError(
        f"{where}: the log never says the {'rate' if np.isnan(rate).any() else 'loss'} of link '{name}', and "
        "the site file has no constant for it."
    )


def is_near(rtt_ms: float, state: LinkPhase | LinkCondition, seconds: int) -> bool:
    """Whether a stretch's mean round-trip time is a calibrated state's, as far as so many probes can tell."""
    error_ms = STANDARD_ERRORS * state.jitter_ms / np.sqrt(seconds)
    return abs(rtt_ms - state.rtt_ms) <= max(NEAR_MS, NEAR_SHARE * state.rtt_ms, error_ms)
