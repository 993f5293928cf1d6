"""Whether a bundle's arrays are the finite network that its card describes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

ACTIVATIONS = ("relu", "tanh")
RISK = "risk_"  # what the names of a risk head's arrays begin with

Arrays = dict[str, npt.NDArray[np.float32]]


def refusal(message: str) -> Exception:
    """Build the BundleError for a bundle that must not be used."""
    from ..envs.errors import BundleError  # late: a device must not pay for envs before something goes wrong

    return BundleError(message)


def check_arrays(card: dict[str, Any], arrays: Arrays, where: str) -> None:
    """Raise BundleError unless the arrays are the finite float32 networks that the card describes.

    Args:
        card: a bundle's card.
        arrays: as `bundle.read_bundle` returns them.
        where: the file's name, for the message.
    """
    expected = _expected_shapes(card, where)
    if arrays.keys() != expected.keys():
        raise refusal(f"{where}: expected arrays {sorted(expected)}, got {sorted(arrays)}.")
    for name, shape in expected.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
            raise refusal(
                f"{where}: {name} must be finite float32 {shape}, got {array.dtype} {array.shape}"
                " or a number that is not finite."
            )
    if not (arrays["std"] > 0).all():
        raise refusal(f"{where}: the normaliser's std must be above 0 everywhere.")


def _expected_shapes(card: dict[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    network, risk = card["network"], card.get("risk")
    try:
        features, actions = len(card["observation"]["features"]), len(card["actions"])
    except (KeyError, TypeError) as error:
        raise refusal(f"{where}: the card does not describe the observation ({error!r}).") from None
    expected: dict[str, tuple[int, ...]] = {"mean": (features,), "std": (features,)}
    if risk is None and network is None:
        raise refusal(f"{where}: the card describes neither a network nor a risk head.")
    hidden = 0 if risk is None else 1  # the decision's buffers need one where there is a head
    if risk is not None:
        _check_price(card, where)
        layers = _layers(risk, ("relu",), (features, actions), hidden, f"{where}: risk head")
        expected |= _shapes(layers, RISK)
    if network is not None:
        layers = _layers(network, ACTIVATIONS, (features, actions), hidden, f"{where}: network")
        expected |= _shapes(layers, "", 0 if risk is None else actions)
    return expected


def _layers(
    part: dict[str, Any], activations: tuple[str, ...], ends: tuple[int, int], hidden: int, where: str
) -> list[int]:
    """The sizes of the layers of the network or of the head, checked; ``hidden`` layers are the least."""
    try:
        sizes, activation = [int(n) for n in part["layers"]], part["activation"]
    except (KeyError, TypeError, ValueError) as error:
        raise refusal(f"{where}: the card does not describe its layers ({error!r}).") from None
    if sizes[:1] != [ends[0]] or sizes[-1:] != [ends[1]] or len(sizes) < 2:
        raise refusal(f"{where}: layers {sizes} do not lead from {ends[0]} features to {ends[1]} actions.")
    if len(sizes) < 2 + hidden:
        raise refusal(
            f"{where}: layers {sizes} lack a hidden one, which a risk head and a network over it need."
        )
    if activation not in activations:
        raise refusal(f"{where}: activation '{activation}' is unknown; known: {', '.join(activations)}.")
    return sizes


def _shapes(sizes: list[int], prefix: str, placements: int = 0) -> dict[str, tuple[int, ...]]:
    """Shapes of weights and biases; over a head of P placements the first layer reads 2 P more inputs, the last P."""
    shapes: dict[str, tuple[int, ...]] = {}
    last = len(sizes) - 2
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        more = placements * ((2 if i == 0 else 0) + (1 if i == last else 0))
        shapes[f"{prefix}weight_{i}"], shapes[f"{prefix}bias_{i}"] = (inputs + more, outputs), (outputs,)
    return shapes


def _check_price(card: dict[str, Any], where: str) -> None:
    from .risk_terms import Terms, read_record

    try:
        record = read_record(card["risk"].get("price"))
        if [place["carbon"] for place in record.placements] != [f"{a}_carbon_mg" for a in card["actions"]]:
            raise ValueError(f"the price is not for the placements {card['actions']}")
        Terms(record, card["observation"]["features"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise refusal(f"{where}: the card does not describe the price on risk: {error}.") from None
