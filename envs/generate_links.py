"""Links without files: regimes that follow each other, and an RTT, a loss and an uplink rate in each.

Per episode a family and a base level are drawn; each second has a regime (good, degraded, lossy, blocked)
from a Markov chain (Gilbert 1960, Elliott 1963, doi 10.1002/j.1538-7305.1960.tb03959.x); its RTT is
that level times the regime's multiple, read from the measured quantiles by a score with memory.
``configs/links`` holds the families, ``docs/generators.md`` how well they fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .compiling import compiled
from .link_parameters import REGIMES, LinkParameters, Regime, RegimeParameters, load_link_family
from .score_tables import read_table, smoothed_paths
from .streams import Stream
from .world_types import F32, LinkWorld

__all__ = ["LinkParameters", "draw_from_bank", "generate_link", "link_bank", "load_link_family"]

LOSSY, BLOCKED = REGIMES.index("lossy"), REGIMES.index("blocked")
_NO_LOSS = [0.0] * 11


@dataclass(frozen=True)
class LinkBank:
    """Parameters of F families as arrays, R = 4 regimes; tables are flat, 25 (losses 11) values a row."""

    chain: F32  # (F, R, R - 1) cumulative probability of the next regime
    first: F32  # (F, R - 1) the same for an episode's first second
    base: F32  # log of the base RTT in ms, a row per family
    multiple: F32  # log of the RTT multiple, a row per (family, regime)
    loss: F32  # loss fraction in lossy seconds, a row per family
    jitter: F32  # (F * R,)
    rate: F32  # (F * R,)
    shape: F32  # log of the uplink shape, a row per family
    slow_share: F32  # (2, F) of the RTT's score and the uplink's, as the next two
    slow: F32
    smoothing: F32


def generate_link(families: dict[str, float], stream: Stream, seconds: int, batch: int) -> LinkWorld:
    """Draw one link for a batch of episodes.

    Args:
        families: name of a shipped family -> weight with which an episode draws it.
        stream: random stream of this link, holding the batch's B keys.
        seconds: rows S, one a second.
        batch: number of episodes B.

    Raises:
        InputError: a family that does not exist.
    """
    if batch != stream.keys.size:
        raise ValueError(f"the stream holds {stream.keys.size} episodes, but batch is {batch}")
    names = tuple(sorted(families))
    return draw_from_bank(_shipped_bank(names), [families[n] for n in names], stream, seconds)


def draw_from_bank(bank: LinkBank, weights: list[float], stream: Stream, seconds: int) -> LinkWorld:
    """Draw links from given parameters, as `generate_link` does from shipped ones."""
    edges = np.cumsum(weights) / np.sum(weights)
    family = np.searchsorted(edges, stream.uniform(), side="right").clip(max=len(weights) - 1)
    start = stream.four_normals(2)  # (4, 2, B): base level, unused, and two states each for RTT and uplink
    log_base = read_table(bank.base, family, start[0, 0])
    regime = _regimes(bank, family, stream.uniform(seconds))
    fresh = stream.four_normals(seconds)  # (4, S, B)
    rtt_score, shape_score = _scores(bank, family, fresh, start)
    row = family * len(REGIMES) + regime
    rtt = np.exp(log_base + read_table(bank.multiple, row, rtt_score))
    return LinkWorld(
        rtt_ms=rtt,
        jitter_ms=rtt * bank.jitter.take(row),
        loss=_loss(bank, family, regime, stream.uniform(seconds)),
        rate_shape=np.exp(read_table(bank.shape, family, shape_score)) * bank.rate.take(row),
        blocked=regime == BLOCKED,
        valid_rows=np.full(family.size, seconds),
    )


def _regimes(bank: LinkBank, family: npt.NDArray[np.intp], u: F32) -> npt.NDArray[np.intp]:
    """Regime of each second (S, B) from uniforms (S, B)."""
    path = np.empty(u.shape, dtype=np.intp)
    _follow_chain(bank.chain, bank.first, family, u, path)
    return path


@compiled
def _follow_chain(
    chain: F32, first: F32, family: npt.NDArray[np.intp], u: F32, path: npt.NDArray[np.intp]
) -> None:
    for t in range(path.shape[0]):
        for b in range(family.size):
            edges = first[family[b]] if t == 0 else chain[family[b], path[t - 1, b]]
            regime = 0
            for edge in edges:
                if u[t, b] >= edge:
                    regime += 1
            path[t, b] = regime


def _scores(bank: LinkBank, family: npt.NDArray[np.intp], fresh: F32, start: F32) -> tuple[F32, F32]:
    """Scores of the RTT and of the uplink shape, each (S, B) and standard normal at any second."""
    slow, smoothing, share = bank.slow[:, family], bank.smoothing[:, family], bank.slow_share[:, family]
    pushes = np.ascontiguousarray(fresh[:2].swapaxes(0, 1))  # (S, 2, B)
    paths = smoothed_paths(pushes, start[2:], slow, smoothing)
    kept, new = np.sqrt(share), np.sqrt(np.float32(1.0) - share)
    rtt, shape = (paths[:, i] * kept[i] + fresh[2 + i] * new[i] for i in (0, 1))
    return rtt, shape


def _loss(bank: LinkBank, family: npt.NDArray[np.intp], regime: npt.NDArray[np.intp], u: F32) -> F32:
    """Packet loss (S, B): zero but in lossy seconds."""
    loss = np.zeros(u.shape, dtype=np.float32)
    second, episode = np.nonzero(regime == LOSSY)
    position = u[second, episode] * np.float32(10.0)
    cell = position.astype(np.intp)
    part = position - cell.astype(np.float32)
    cell += family[episode] * len(_NO_LOSS)
    low = bank.loss.take(cell)
    loss[second, episode] = low + part * (bank.loss.take(cell + 1) - low)
    return loss


@lru_cache(maxsize=64)
def _shipped_bank(names: tuple[str, ...]) -> LinkBank:
    return link_bank(tuple(load_link_family(name) for name in names))


def link_bank(parameters: tuple[LinkParameters, ...]) -> LinkBank:
    """Stack the families' parameters for vectorised look-up."""
    regimes = [_all_regimes(p) for p in parameters]

    def flat(values: list) -> F32:
        return np.array(values, dtype=np.float32).ravel()

    def processes(key: str) -> F32:
        both = [
            [getattr(p.score, key) for p in parameters],
            [getattr(p.uplink.score, key) for p in parameters],
        ]
        return np.array(both, dtype=np.float32)

    return LinkBank(
        chain=np.array([[_edges(r.next_per_s) for r in rs] for rs in regimes], dtype=np.float32),
        first=np.array([_edges({n: r.share for n, r in p.regimes.items()}) for p in parameters], np.float32),
        base=np.log(flat([p.base_rtt_ms for p in parameters])),
        multiple=np.log(flat([r.rtt_multiple for rs in regimes for r in rs])),
        loss=flat([rs[LOSSY].loss_fraction or _NO_LOSS for rs in regimes]),
        jitter=flat([r.jitter_multiple for rs in regimes for r in rs]),
        rate=flat([r.rate_multiple for rs in regimes for r in rs]),
        shape=np.log(flat([p.uplink.rate_shape for p in parameters])),
        slow_share=processes("slow_share"),
        slow=processes("slow_correlation_per_s"),
        smoothing=processes("smoothing_correlation_per_s"),
    )


def _all_regimes(p: LinkParameters) -> list[RegimeParameters]:
    """All four regimes in order; one that the family never enters is a harmless copy of the good one."""
    good = p.regimes["good"].model_copy(update={"next_per_s": {"good": 1.0}})
    regimes = [p.regimes.get(name, good) for name in REGIMES]
    # In a blocked second nothing is measured: the RTT beneath it is taken to be that of a degraded one.
    regimes[BLOCKED] = regimes[BLOCKED].model_copy(
        update={"rtt_multiple": regimes[1].rtt_multiple, "jitter_multiple": regimes[1].jitter_multiple}
    )
    return regimes


def _edges(probabilities: Mapping[Regime, float]) -> list[float]:
    """Cumulative probabilities over the regimes, the last (always 1) left out."""
    total = np.cumsum([probabilities.get(name, 0.0) for name in REGIMES])
    return (total / total[-1]).tolist()[:-1]
