"""The operator's dial: what the wishes for carbon, latency and accuracy mean in physical units.

The objective itself (the SLO) holds at every position. Within it the wishes are rates of exchange: what a mg of CO2, a
miss and a point of mIoU are worth against each other. All functions of a wish are monotone, and absolute: a scenario's
``reward`` holds at its own ``wishes``, elsewhere it moves by the ratio of the two positions (`reward_weights`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from .errors import InputError, nearest
from .schema import RewardWeights, SampledWishes, Scenario, Wishes
from .schema_base import NonNegative, Strict
from .streams import Stream
from .strict_yaml import read_yaml
from .validation import validated

DIAL_FILE = Path(__file__).resolve().parent.parent / "configs" / "dial.yaml"
WISHES = ("carbon", "latency", "accuracy")
WISH_FEATURES = tuple(f"wish_{name}" for name in WISHES)  # their names in the observation
SAMPLED = "sampled"  # in place of a position: drawn for every episode

F64 = npt.NDArray[np.float64]


class Dial(Strict):
    """What the positions mean; `configs/dial.yaml` holds the numbers.

    Attributes:
        carbon_share_at_zero: what a mg counts at wish 0, share of what it counts at wish 1.
        miss_price_span: price of a miss at wish 1, times that at wish 0.
        accuracy_mg_per_miou: CO2 that a point of expected mIoU, answered in time, may cost at wish 1, mg.
        presets: named positions.
    """

    schema_version: Annotated[Literal["carbonpilot/dial/1"], Field(alias="schema")]
    carbon_share_at_zero: Annotated[float, Field(gt=0, le=1)]
    miss_price_span: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    accuracy_mg_per_miou: NonNegative
    presets: dict[str, Wishes]

    def carbon_share(self, wish_carbon: float | F64) -> F64:
        """What a mg of CO2 counts: one at wish 1, less below."""
        return np.power(self.carbon_share_at_zero, 1.0 - np.asarray(wish_carbon))

    def miss_factor(self, wish_latency: float | F64) -> F64:
        """Factor on the price of a miss: one in the middle of the dial."""
        return np.power(self.miss_price_span, np.asarray(wish_latency) - 0.5)

    def accuracy_price_mg(self, wish_accuracy: float | F64) -> F64:
        """CO2 that a point of expected mIoU may cost, mg."""
        return self.accuracy_mg_per_miou * np.asarray(wish_accuracy)


@lru_cache(maxsize=1)
def load_dial() -> Dial:
    """The dial that is shipped."""
    return validated(Dial, read_yaml(DIAL_FILE), str(DIAL_FILE))


def parse_wish(text: str) -> Wishes:
    """A position of the dial from what a user types: a preset's name, or carbon,latency,accuracy.

    Raises:
        InputError: no such preset, not three numbers, or one of them outside 0 to 1.
    """
    presets = load_dial().presets
    if text in presets:
        return presets[text]
    parts = [part.strip() for part in text.split(",")]
    expected = (
        f"Expected {', '.join(presets)} or three numbers carbon,latency,accuracy of 0 to 1, such as 1,0.5,0"
    )
    if len(parts) == 1:
        raise InputError(f"--wish: unknown preset '{text}'.{nearest(text, presets)} {expected}.")
    if len(parts) != len(WISHES):
        raise InputError(f"--wish: '{text}' has {len(parts)} numbers. {expected}.")
    return checked_wishes(*(_number(part, expected) for part in parts))


def checked_wishes(carbon: float, latency: float, accuracy: float) -> Wishes:
    """A position of the dial.

    Raises:
        InputError: a wish is outside 0 to 1, or not a number.
    """
    for name, value in zip(WISHES, (carbon, latency, accuracy), strict=True):
        if not 0.0 <= value <= 1.0:
            raise InputError(
                f"wish_{name}: the dial goes from 0 to 1, got {value:g}. At 1 nothing more can be wished for; what the "
                "ends mean is in configs/dial.yaml."
            )
    return Wishes(carbon=carbon, latency=latency, accuracy=accuracy)


def _number(part: str, expected: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise InputError(f"--wish: '{part}' is not a number. {expected}.") from None


def scenario_at(scenario: Scenario, wish: Wishes | str | None) -> Scenario:
    """The site with its dial at another position: its tapes are the same, wishes and reward are others.

    Args:
        scenario: the site.
        wish: a position, what a user typed for one, or ``sampled``: one for each episode. None: the site's own.
    """
    if wish is None:
        return _with(scenario, scenario.wishes.model_copy(update={"sampled": None}))
    if isinstance(wish, str):
        if wish == SAMPLED:
            spec = scenario.wishes.sampled or SampledWishes(presets_share=0.5)
            return _with(scenario, scenario.wishes.model_copy(update={"sampled": spec}))
        wish = parse_wish(wish)
    weights = reward_weights(scenario, wish.vector[:, None])[:, 0]
    reward = RewardWeights(**dict(zip(_TERMS, weights.tolist(), strict=True)))
    return _with(scenario, wish, reward)


def _with(scenario: Scenario, wishes: Wishes, reward: RewardWeights | None = None) -> Scenario:
    return scenario.model_copy(update={"wishes": wishes, "reward": reward or scenario.reward})


_TERMS = ("carbon_per_mg", "slo_miss", "latency_excess_per_s", "accuracy_per_miou")


def reward_weights(scenario: Scenario, wishes: F64) -> F64:
    """Weights of the reward's terms at positions of the dial.

    Args:
        scenario: whose ``reward`` holds at its own ``wishes``.
        wishes: positions (3, B).

    Returns:
        by term (4, B), in the order of `RewardWeights`. At the scenario's own position they are its own.
    """
    dial, r, own = load_dial(), scenario.reward, scenario.wishes
    carbon, latency, accuracy = wishes
    share = dial.carbon_share(carbon) / dial.carbon_share(own.carbon)
    factor = dial.miss_factor(latency) / dial.miss_factor(own.latency)
    # A mIoU point is priced in CO2 at its full weight, so that both wishes can be turned one by one.
    per_mg = r.carbon_per_mg / dial.carbon_share(own.carbon)
    more_mg = dial.accuracy_price_mg(accuracy) - dial.accuracy_price_mg(own.accuracy)
    return np.stack(
        [
            r.carbon_per_mg * share,
            r.slo_miss * factor,
            r.latency_excess_per_s * factor,
            np.maximum(r.accuracy_per_miou + per_mg * more_mg, 0.0),
        ]
    )


def draw_wishes(scenario: Scenario, keys: npt.NDArray[np.uint64]) -> F64 | None:
    """Positions of the dial by episode (3, B), single-precision numbers; None where it stands still.

    A share of the episodes has a preset or the scenario's own position, for these are the ones that are used; the
    others fill the cube evenly.
    """
    spec = scenario.wishes.sampled
    if spec is None:
        return None
    drawn = Stream(keys, "wishes").uniform(4).astype(np.float64)
    named = np.array([w.vector for w in (*load_dial().presets.values(), scenario.wishes)], np.float32).T
    which = np.floor(drawn[3] / max(spec.presets_share, 1e-9) * named.shape[1]).astype(np.int64)
    picked = named[:, np.minimum(which, named.shape[1] - 1)].astype(np.float64)
    return np.where(drawn[3] < spec.presets_share, picked, drawn[:3])


def episode_weights(scenario: Scenario, keys: npt.NDArray[np.uint64]) -> F64 | None:
    """Weights of the reward's terms by episode (4, B); None where the dial stands still."""
    wishes = draw_wishes(scenario, keys)
    return None if wishes is None else reward_weights(scenario, wishes)
