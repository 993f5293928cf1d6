"""Compile the physics where numba is installed; run the very same functions as plain Python where it is not.

The step of one request is some two hundred scalar operations. NumPy spends its time between them: written with arrays
it reached a fifth of CartPole's speed at most; compiled it has four tenths of it at 1024 environments, over half with
a second thread (`helper_thread`), and passes it at 64 (benchmarks/bench_env.py). numba comes with the ``train`` extra;
the device's light install replays logs uncompiled, slower and equal up to rounding. CARBONPILOT_NUMBA=0 in the
environment leaves numba out where it is installed; `carbonpilot run` does so, to start in time and stay small.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    if os.environ.get("CARBONPILOT_NUMBA") == "0":
        raise ImportError("numba is not wanted in this process")
    import numba
except ImportError:
    numba = None

COMPILED = numba is not None


def forget_stale_code(folder: Path, *also: Path) -> bool:
    """Delete the compiled code that numba keeps for a folder if a source has changed; tell whether it did.

    numba looks at the file of the outermost function only, so after an edit (or a pull) of a function that is compiled
    into others it would go on running the old one: a silent wrong result. Where the folder cannot be written, a package
    manager installed it, and an upgrade gives every file a new time, which numba does notice.

    Args:
        folder: whose compiled code it is.
        also: further folders whose sources are compiled into it.
    """
    digest = hashlib.sha256()
    for source in (file for place in (folder, *also) for file in sorted(place.glob("*.py"))):
        digest.update(source.read_bytes())
    cache = folder / "__pycache__"
    stamp = cache / "compiled-from.sha256"
    with contextlib.suppress(OSError):
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return False
        cache.mkdir(exist_ok=True)
        for code in cache.glob("*.nb?"):
            code.unlink(missing_ok=True)
        stamp.write_text(digest.hexdigest())
    return True


if COMPILED:
    forget_stale_code(Path(__file__).resolve().parent)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of scalars, arrays and records; without numba it stays as it is.

    The result is kept on disk, so only the first process after an installation waits. No fast-math: sums must not
    depend on the machine. Other Python threads run meanwhile.
    """
    if numba is None:
        return function
    return numba.njit(cache=True, error_model="numpy", nogil=True)(function)


def counting_nothing(function: Callable[..., Any]) -> Any:
    """`compiled`, for a function that only reads and writes its arguments: it must not make an array.

    The arrays it works on are then not counted as in use or free, which numba otherwise does some thirty
    times a step with atomic operations; the caller holds them anyway.
    """
    if numba is None:
        return function
    options: dict[str, Any] = {"_nrt": False}  # numba's run time, which counts
    return numba.njit(cache=True, error_model="numpy", **options)(function)


def sharing(function: Callable[..., Any]) -> Any:
    """`counting_nothing`, for a function that lets other Python threads run meanwhile."""
    if numba is None:
        return function
    options: dict[str, Any] = {"_nrt": False}
    return numba.njit(cache=True, error_model="numpy", nogil=True, **options)(function)


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
