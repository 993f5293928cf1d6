"""Nodes and links that a network is shared out over: the records of a nodes file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...envs.errors import nearest
from ...envs.schema_base import NonNegative, Positive, Strict
from ...envs.strict_yaml import read_yaml
from ...envs.validation import validated

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
_SPEEDS = ("speed", "whole_model_ms", "gmac_per_s")


class ComputeNode(Strict):
    """Something that computes: the device, or a server.

    Attributes:
        name: of the node.
        speed: how many times as fast as this machine it is; goes with measured costs.
        whole_model_ms: how long the whole model takes there; its operations share it by their costs.
        gmac_per_s: thousand million multiply-accumulates a second; goes with costs in MACs.
        active_power_w: above idle while it computes.
        pue: of its site.
        carbon_g_per_kwh: intensity of its grid.
        operators: kinds that it can run; absent: all of ONNX's own.
        domains: of operators beyond ONNX's own that it can run.
        max_opset: the newest version of ONNX's operators that it knows; absent: any.
    """

    name: Name
    speed: Positive | None = None
    whole_model_ms: Positive | None = None
    gmac_per_s: Positive | None = None
    active_power_w: NonNegative
    pue: Annotated[float, Field(ge=1)]
    carbon_g_per_kwh: NonNegative
    operators: Annotated[list[str], Field(min_length=1)] | None = None
    domains: list[str] = Field(default=[])
    max_opset: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_speed(self) -> ComputeNode:
        given = [name for name in _SPEEDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(_SPEEDS)}, got {', '.join(given) or 'none'}")
        return self


class Connection(Strict):
    """What activations cross between two nodes.

    Attributes:
        start, end: nodes; the end comes after the start in the list.
        rate_mbps: in this direction.
        rtt_ms: round trip; half of it is paid on the way there and half on the way back.
        energy_nj_per_bit: of the network.
        carbon_g_per_kwh: intensity of the grid that powers the network.
        transmit_power_w: of the start's radio while it sends; absent: no radio.
    """

    start: Annotated[Name, Field(alias="from")]
    end: Annotated[Name, Field(alias="to")]
    rate_mbps: Positive
    rtt_ms: NonNegative
    energy_nj_per_bit: NonNegative
    carbon_g_per_kwh: NonNegative
    transmit_power_w: NonNegative | None = None


class Chain(Strict):
    """Nodes in the order in which a request visits them.

    Attributes:
        nodes: the device first; each computes a stretch that follows the one before, or nothing.
        links: between nodes; a pair without one of its own is joined by those of the nodes in between.
        payload_kb: what crosses where a node computes from the first operation on (a JPEG); absent: the bare input.
        slo_ms: latency that a plan must keep; absent: any.
    """

    schema_version: Annotated[Literal["carbonpilot/nodes/1"], Field(alias="schema")]
    nodes: Annotated[list[ComputeNode], Field(min_length=1, max_length=8)]
    links: list[Connection]
    payload_kb: Positive | None = None
    slo_ms: Positive | None = None

    @model_validator(mode="after")
    def _references(self) -> Chain:
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError(f"nodes: names must differ, got {names}")
        pairs = [(link.start, link.end) for link in self.links]
        for i, (start, end) in enumerate(pairs):
            for key, name in (("from", start), ("to", end)):
                if name not in names:
                    raise ValueError(
                        f"links.{i}.{key}: '{name}' is not defined.{nearest(name, names)} Known: {names}"
                    )
            if names.index(start) >= names.index(end):
                raise ValueError(
                    f"links.{i}: '{end}' must come after '{start}' in nodes: requests go one way"
                )
        if len(set(pairs)) != len(pairs):
            raise ValueError(f"links: one for a pair, got {pairs}")
        return self


def read_chain(path: str | Path) -> Chain:
    """Read a nodes file.

    Raises:
        InputError: there is none.
        ScenarioError: it is broken; names dotted path and rule.
    """
    return validated(Chain, read_yaml(path), str(path))
