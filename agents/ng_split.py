"""Fig. 5a of Ng et al. in kind: MobileNetV2 split between Orin Nano and A2 over 50 Mbit/s, beside the device alone.

Section 4.6 prints neither split points nor sizes, service times, rate or latencies: "we split the execution of
MobileNetV2 across Orin Nano and A2 over a 50 Mbps network. We evaluate three split points (SPs) where the model is
progressively offloaded to the edge". Taken here: the ends of three of the network's stages, activations as float32, and
service times as inferred from other sentences (`ng_paper`), which go with the multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

from ..envs import queueing as q
from .ng_paper import RATE_PER_S, models
from .ng_sites import Simulated, Site, simulate
from .ng_split_forms import constant_tandem_ms, tandem_ms

FIG_5A_MBPS = 50.0  # section 4.6
EPISODES, REQUESTS = 64, 5000
BYTES = {"float32": 4, "float16": 2, "uint8": 1}


class StageEnd(NamedTuple):
    """Where MobileNetV2 can be cut between two stages.

    Attributes:
        name: what the stage is called in timm's mobilenetv2_100.
        macs: multiply-accumulates of the stage: convolutions and the classifier, no normalisation.
        values: numbers that cross after it.
    """

    name: str
    macs: int
    values: int


# MobileNetV2 1.0 at 224 x 224, batch 1: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
# Table 2, summed up layer by layer (tests/test_ng_split.py does it again, and with the planner where timm is there).
STAGES = (
    StageEnd("conv_stem", 10_838_016, 32 * 112 * 112),
    StageEnd("blocks.0", 10_035_200, 16 * 112 * 112),
    StageEnd("blocks.1", 54_942_720, 24 * 56 * 56),
    StageEnd("blocks.2", 37_443_840, 32 * 28 * 28),
    StageEnd("blocks.3", 38_497_536, 64 * 14 * 14),
    StageEnd("blocks.4", 58_103_808, 96 * 14 * 14),
    StageEnd("blocks.5", 46_560_192, 160 * 7 * 7),
    StageEnd("blocks.6", 23_002_560, 320 * 7 * 7),
    StageEnd("conv_head", 20_070_400, 1280 * 7 * 7),
    StageEnd("global_pool", 0, 1280),
)
CLASSIFIER_MACS = 1_280_000
TOTAL_MACS = sum(stage.macs for stage in STAGES) + CLASSIFIER_MACS
SPLIT_POINTS = ("blocks.5", "blocks.3", "blocks.2")  # SP1 to SP3, each with more of the network on the edge
LOCAL = "local"


@dataclass(frozen=True)
class Configuration:
    """One bar of Fig. 5a.

    Attributes:
        name: "local", or SP1 to SP3.
        cut: last stage on the device; empty for the whole model there.
        offloaded: share of the multiply-accumulates on the edge.
        activation_kb: what crosses.
        head_ms, link_ms, tail_ms: service times of the stages; the last two are 0 for local.
    """

    name: str
    cut: str
    offloaded: float
    activation_kb: float
    head_ms: float
    link_ms: float
    tail_ms: float

    @property
    def tandem_ms(self) -> float:
        """Mean latency of the paper's model, with k = 1 on both sides."""
        return tandem_ms(self.head_ms, self.link_ms, self.tail_ms, RATE_PER_S)

    @property
    def exact_ms(self) -> float:
        """Mean latency for constant times."""
        return float(constant_tandem_ms((self.head_ms, self.link_ms, self.tail_ms), RATE_PER_S))

    @property
    def site(self) -> Site:
        """The same in the simulator."""
        if self.name == LOCAL:
            return Site(RATE_PER_S, (self.head_ms,), on_device=True)
        return Site(
            RATE_PER_S, (self.tail_ms,), request_ms=self.link_ms, payload="constant", head_ms=self.head_ms
        )


class Bar(NamedTuple):
    """A configuration and what the simulator gives for it."""

    configuration: Configuration
    simulated: Simulated

    @property
    def deviation(self) -> float:
        """(tandem - simulated) / simulated mean latency."""
        return self.configuration.tandem_ms / self.simulated.mean_ms - 1


def configurations() -> list[Configuration]:
    """The device alone, then the three split points."""
    splits = [at_cut(cut, f"SP{i}") for i, cut in enumerate(SPLIT_POINTS, start=1)]
    return [
        Configuration(LOCAL, "", 0.0, 0.0, models()["mobilenet-v2"].service_ms["orin-nano"], 0.0, 0.0),
        *splits,
    ]


def at_cut(cut: str, name: str = "", wire: str = "float32") -> Configuration:
    """MobileNetV2 cut after a stage: service times in proportion to the multiply-accumulates.

    Args:
        cut: name of the last stage on the device.
        name: what to call it.
        wire: how the activation travels, a key of `BYTES`.
    """
    service = models()["mobilenet-v2"].service_ms
    position = [stage.name for stage in STAGES].index(cut)
    done = sum(stage.macs for stage in STAGES[: position + 1]) / TOTAL_MACS
    kb = STAGES[position].values * BYTES[wire] / 1000
    link_ms = float(q.transmission_ms(kb, FIG_5A_MBPS))
    return Configuration(
        name or cut, cut, 1 - done, kb, done * service["orin-nano"], link_ms, (1 - done) * service["a2"]
    )


def play(seed: int, episodes: int = EPISODES, requests: int = REQUESTS) -> list[Bar]:
    """Simulate every configuration on tapes of the same seed.

    Args:
        seed: of the evaluation tapes.
        episodes, requests: as for `ng_sites.simulate`.
    """
    return [Bar(c, simulate(c.site, seed, episodes, requests)) for c in configurations()]


def offloading_ms() -> float:
    """Mean latency of offloading the whole model with the payload inferred elsewhere, eq (1)."""
    mobile = models()["mobilenet-v2"]
    upload = q.transmission_ms(mobile.payload_kb, FIG_5A_MBPS)
    return float(q.offload_latency_ms(upload, 0.0, RATE_PER_S, mobile.service_ms["a2"]))


def local_beats_every_cut(wire: str = "float32") -> bool:
    """Whether the device alone is faster than each cut between two stages."""
    local = configurations()[0].tandem_ms
    return all(at_cut(stage.name, wire=wire).tandem_ms > local for stage in STAGES)


def rising_choices() -> tuple[int, int]:
    """Of all choices of three cuts between stages, how many have a latency that grows with what is offloaded; and all.

    Only the cuts before the last convolution count: behind it hardly anything is left to offload.
    """
    latencies = [at_cut(stage.name).tandem_ms for stage in reversed(STAGES[:-2])]  # offloading more and more
    choices = list(combinations(latencies, 3))
    return sum(all(a < b for a, b in pairwise(three)) for three in choices), len(choices)


def sizes_grow() -> bool:
    """Whether, as the paper has it, "the intermediate results of later layers grow in size"."""
    sizes = list(_split_sizes())
    return all(earlier < later for earlier, later in pairwise(sizes))


def _split_sizes() -> Iterator[int]:
    """What crosses at the split points, in the order of the network."""
    return (stage.values for stage in STAGES if stage.name in SPLIT_POINTS)
