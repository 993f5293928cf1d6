"""What crosses between head and tail, and how much of it arrives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carbonpilot.agents.partition.cuts import WIRES as PLANNED_WIRES
from carbonpilot.agents.partition.cuts import Cut
from carbonpilot.real.segments.wire import ACTIVATION, SCALE, WIRES, WireError, pack, unpack, wire_bytes

VALUES = st.floats(-1e4, 1e4, width=32)
ACTIVATIONS = hnp.arrays(
    np.float32, st.tuples(st.just(1), st.integers(1, 4), st.integers(1, 5)), elements=VALUES
)


def through(activation: np.ndarray, wire: str) -> np.ndarray:
    packed = dict(pack(activation, wire))
    return unpack(packed[ACTIVATION], packed.get(SCALE))


@given(ACTIVATIONS)
def test_float32_loses_nothing(activation):
    assert np.array_equal(through(activation, "float32"), activation)


@given(ACTIVATIONS)
def test_half_precision_keeps_eleven_bits(activation):
    lost = np.abs(through(activation, "float16") - activation)
    assert (lost <= np.maximum(np.abs(activation) * 2.0**-11, 2.0**-25)).all()


@given(ACTIVATIONS)
def test_bytes_are_at_most_half_a_level_off(activation):
    """A level is a 255th of the span; float32's own rounding comes on top."""
    span = float(activation.max()) - float(activation.min())
    largest = float(np.abs(activation).max())
    lost = np.abs(through(activation, "uint8").astype(np.float64) - activation)
    assert lost.max() <= 0.5 * span / 255 * (1 + 1e-4) + 2e-6 * largest + 1e-30


def test_zero_stays_zero_after_relu():
    activation = np.maximum(np.random.default_rng(0).normal(size=(1, 8, 8)), 0).astype(np.float32)
    received = through(activation, "uint8")
    assert (received[activation == 0] == 0).all()
    assert received.max() == pytest.approx(activation.max(), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, -3.25, 1e30])
def test_a_constant_arrives_exactly(value):
    activation = np.full((1, 3, 2), value, np.float32)
    assert np.allclose(through(activation, "uint8"), activation, rtol=1e-6)


@pytest.mark.parametrize(("wire", "size"), [("float32", 4 * 60), ("float16", 2 * 60), ("uint8", 60 + 8)])
def test_bytes_that_cross(wire, size):
    assert wire_bytes(pack(np.ones((1, 3, 4, 5), np.float32), wire)) == size
    planned = Cut(name="cut-001", tensor="a", shape=(3, 4, 5), dtype="float32", after=0)
    assert planned.wire_bytes(wire) == size


def test_the_planner_knows_the_same_wires():
    """The packing travels to the server alone, so that neither can import the other's list."""
    assert PLANNED_WIRES == WIRES


def test_a_batch_keeps_each_requests_own_scale():
    rng = np.random.default_rng(1)
    requests = [(10.0**n * rng.normal(size=(1, 4, 6)) + n).astype(np.float32) for n in range(4)]
    packed = [dict(pack(request, "uint8")) for request in requests]
    together = unpack(
        np.concatenate([p[ACTIVATION] for p in packed]), np.concatenate([p[SCALE] for p in packed])
    )
    alone = np.concatenate([unpack(p[ACTIVATION], p[SCALE]) for p in packed])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("wire", WIRES[1:])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_where_it_would_spoil_the_rest(wire, bad):
    activation = np.ones((1, 4), np.float32)
    activation[0, 2] = bad
    with pytest.raises(WireError, match="not finite"):
        pack(activation, wire)


def test_half_precision_refuses_what_it_would_make_infinite():
    with pytest.raises(WireError, match="beyond half precision"):
        pack(np.array([[1.0, -7e4]], np.float32), "float16")
