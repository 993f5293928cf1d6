"""The schedulers of CarbonEdge as policies: its three modes, AMP4EC and Monolithic.

- `carbonedge-performance`, `carbonedge-balanced`, `carbonedge-green`: Algorithm 1 with the weights of Table I. The
  form of S_C is an option (`carbon_form`), or the end of the name: `carbonedge-green-kwh`, `carbonedge-green-minmax`.
- `amp4ec`: the same without S_C, with AMP4EC's own weights (eq (7) there). Its task count is of all tasks that a
  node was ever given, which spreads them over the nodes: Table II's AMP4EC row (0.0056 g in 277.22 ms) means
  515 g/kWh, and equal shares of the three nodes mean 510. CarbonEdge's modes count unanswered tasks instead: with
  the other count Table V's 100 % could not be, because S_B would outweigh S_C from the second task on.
- `monolithic`: "single-node inference without partitioning", here the device.

`agents/carbonedge_view.py` says what each record is read from. Where Algorithm 1 returns null, nobody takes the
request, and it stays on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..envs.errors import InputError, unknown_name
from ..envs.schema import LOCAL, Scenario
from .baselines import LOCAL_INDEX, Always, BatchRule
from .carbonedge_score import (
    AMP4EC_WEIGHTS,
    CARBON_FORMS,
    TABLE_I,
    Limits,
    Weights,
    best_node,
    eligible_nodes,
    node_scores,
    total_score,
    with_carbon_weight,
)
from .carbonedge_view import Beliefs, NodeView
from .policy import Policy
from .tunable import Tunable

AMP4EC, MONOLITHIC = "amp4ec", "monolithic"
MODES = {f"carbonedge-{mode}": weights for mode, weights in TABLE_I.items()}
NAMES = (*MODES, AMP4EC, MONOLITHIC)
DEFAULT_FORM = "as_published"
VARIANTS = tuple(f"{mode}-{form}" for mode in MODES for form in CARBON_FORMS if form != DEFAULT_FORM)

LIMITS = (
    Tunable("overload", 0.3, 1, 0.8, meaning="load above which a node is passed over (Algorithm 1 line 3)"),
    Tunable("latency_limit_slo", 0.3, 2, 1, meaning="believed latency above which too, in objectives"),
)


def _weight_tunables(weights: Weights) -> tuple[Tunable, ...]:
    others = [
        Tunable(
            f"{name}_weight", 0, 1, weight, meaning="its share of 1 - w_C is this over the sum of the four"
        )
        for name, weight in zip(Weights._fields[:4], weights[:4], strict=True)
    ]
    carbon = Tunable("carbon_weight", 0, 1, weights.carbon, meaning="w_C; the other weights share 1 - w_C")
    return (*others, carbon) if weights.carbon else tuple(others)


TUNABLES: dict[str, tuple[Tunable, ...]] = {
    **{name: (*_weight_tunables(weights), *LIMITS) for name, weights in MODES.items()},
    AMP4EC: (*_weight_tunables(AMP4EC_WEIGHTS), *LIMITS),
    MONOLITHIC: (),
}


class CarbonEdge(BatchRule):
    """Algorithm 1 over the placements of a site."""

    def __init__(
        self,
        scenario: Scenario,
        name: str,
        weights: Weights,
        limits: Limits,
        carbon_form: str = DEFAULT_FORM,
        counts: Literal["unanswered", "given"] = "unanswered",
        beliefs: Beliefs | None = None,
        device_is_node: bool = True,
    ) -> None:
        """Put a scheduler together; `make` does so by name.

        Args:
            scenario: the site.
            name: name in tables.
            weights: of eq (3).
            limits: of Algorithm 1 line 3.
            carbon_form: form of S_C.
            counts: tasks that S_B counts: own unanswered ones, or all that a node was ever given.
            beliefs: instead of those that follow from the scenario.
            device_is_node: False where only remote nodes stand for the paper's nodes; the device then gets
                what no node takes.
        """
        self.name = name
        self.weights, self.limits, self.carbon_form = weights, limits, carbon_form
        self._view = NodeView(scenario, beliefs)
        nodes = [p.node for p in scenario.placements]
        self._offered = np.array([device_is_node or node != LOCAL for node in nodes])
        self._counts_given = counts == "given"
        self._node = np.array([sorted(set(nodes)).index(node) for node in nodes])
        self._given = np.zeros((0, len(set(nodes))))

    def reset(self, batch: int) -> None:
        """Start with nodes that were given nothing."""
        self._given = np.zeros((batch, self._given.shape[1]))

    def choose(
        self, observation: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Return Algorithm 1's node, or the device where it has none (B,)."""
        records = self._view.records(observation)
        if self._counts_given:
            records = records._replace(task_count=self._given[:, self._node])
        eligible = eligible_nodes(records, self.limits) & allowed & self._offered
        total = total_score(node_scores(records, self.carbon_form, eligible), self.weights)
        choice = best_node(total, eligible)
        choice = np.where(choice < 0, LOCAL_INDEX, choice)
        if self._counts_given:
            self._given[np.arange(len(choice)), self._node[choice]] += 1
        return choice


def make(name: str, scenario: Scenario, parameters: Mapping[str, float | str] | None = None) -> Policy:
    """Build a policy of this file.

    Args:
        name: one of `NAMES`; a mode may end in ``-kwh`` or ``-minmax`` for that form of S_C.
        scenario: the site it decides for.
        parameters: values of its `TUNABLES`, and for a mode ``carbon_form``. What is not given keeps its default,
            which are the paper's weights and thresholds.

    Raises:
        InputError: no such policy or parameter, or a value outside its range.
    """
    base, form = _split(name)
    given = dict(parameters or {})
    if base in MODES:
        form = given.pop("carbon_form", form)
        if form not in CARBON_FORMS:
            raise unknown_name("form of S_C", str(form), CARBON_FORMS)
    values = _values(base, given)
    if base == MONOLITHIC:
        return Always(MONOLITHIC, LOCAL_INDEX)
    limits = Limits(values["overload"], values["latency_limit_slo"] * scenario.slo.latency_ms)
    if base == AMP4EC:
        return CarbonEdge(scenario, name, _weights(name, values), limits, counts="given")
    return CarbonEdge(scenario, name, _weights(name, values), limits, str(form))


def _split(name: str) -> tuple[str, str]:
    """A policy's name without the form of S_C, and the form."""
    for form in CARBON_FORMS:
        base = name.removesuffix(f"-{form}")
        if base in MODES and base != name:
            return base, form
    if name not in NAMES:
        raise unknown_name("CarbonEdge policy", name, NAMES)
    return name, DEFAULT_FORM


def _values(name: str, given: dict[str, float | str]) -> dict[str, float]:
    """Every tunable's value: the given one if it lies in its range, else the default."""
    known = {t.name: t for t in TUNABLES[name]}
    for key, value in given.items():
        if key not in known:
            raise unknown_name(f"parameter of {name}", key, [*known, *(["carbon_form"] * (name in MODES))])
        low, high = known[key].low, known[key].high
        if not isinstance(value, Real) or not low <= float(value) <= high:
            raise InputError(f"Parameter {key} of {name} must lie in {low:g} to {high:g}, got {value!r}.")
    return {key: float(given.get(key, t.default)) for key, t in known.items()}


def _weights(name: str, values: dict[str, float]) -> Weights:
    """The weights of eq (3): w_C as given, the others sharing the rest in their proportions."""
    resource, load, performance, balance = (values[f"{field}_weight"] for field in Weights._fields[:4])
    carbon = values.get("carbon_weight", 0.0)
    if not any((resource, load, performance, balance)) and carbon < 1.0:
        raise InputError(
            f"All weights of {name} but w_C are 0, so nothing can share the remaining {1 - carbon:g}. "
            "Give one of them a value above 0, or carbon_weight 1."
        )
    return with_carbon_weight(Weights(resource, load, performance, balance, 0.0), carbon)
