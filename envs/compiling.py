"""Compile the physics where numba is installed; run the very same functions as plain Python where it is not.

The step of one request is some two hundred scalar operations. NumPy spends its time between them: the same step
written with arrays reached a quarter of CartPole's speed, compiled it passes it (benchmarks/bench_env.py). numba
comes with the ``train`` extra; the device's light install replays logs uncompiled, slower but equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import numba
except ImportError:
    numba = None

COMPILED = numba is not None


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of scalars, arrays and records; without numba it stays as it is.

    The result is kept on disk, so only the first process after an installation waits. No fast-math: sums must not
    depend on the machine.
    """
    if numba is None:
        return function
    return numba.njit(cache=True, error_model="numpy")(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a small function into its callers: passing a dozen arrays costs more than most of these do."""
    if numba is None:
        return function
    return numba.njit(cache=True, error_model="numpy", inline="always")(function)


def entry_point(function: Any, arguments: tuple) -> Callable[..., Any]:
    """The machine code of a compiled function for arguments of these types, without the look-up of types at each call.

    Working out the types of some forty arrays takes longer than a step of one episode. The caller must pass arrays of
    the very same types and layouts afterwards.
    """
    if numba is None:
        return function
    signature = tuple(numba.typeof(a) for a in arguments)
    function.compile(signature)
    return function.overloads[signature].entry_point
