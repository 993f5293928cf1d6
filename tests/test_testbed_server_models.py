"""The test bed's models on a real Triton server: answers, batching, faults."""

from __future__ import annotations


def test_starts(triton_loopback):
    assert triton_loopback.ready()
