"""Compile the oracles' loops, which hold the physics' functions: their machine code ages with both folders.

`envs.compiling` watches its own folder only; here a change of the physics must be noticed as well, or a bound would
silently be one of yesterday's dynamics.
"""

from __future__ import annotations

from pathlib import Path

from ..envs.compiling import COMPILED, compiled, forget_stale_code

__all__ = ["COMPILED", "compiled"]

if COMPILED:
    _HERE = Path(__file__).resolve().parent
    forget_stale_code(_HERE, _HERE.parent / "envs")
