"""Compile the oracles' loops, which hold the physics' functions: their machine code ages with both folders.

numba looks at the file of the outermost function only. `envs.compiling` watches its own folder; here a change of the
physics must be noticed as well, or a bound would silently be one of yesterday's dynamics.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from ..envs.compiling import COMPILED, compiled

__all__ = ["COMPILED", "compiled"]


def forget_stale_code(folder: Path, sources: list[Path]) -> bool:
    """Delete the machine code that numba keeps for a folder if any of the sources has changed; tell whether it did."""
    digest = hashlib.sha256()
    for source in sources:
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
    _HERE = Path(__file__).resolve().parent
    forget_stale_code(_HERE, sorted(_HERE.glob("*.py")) + sorted((_HERE.parent / "envs").glob("*.py")))
