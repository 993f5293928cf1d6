"""Where requests come from, what the network, servers and grids do, and what a placement costs.

Importing this registers the environment ids where gymnasium is installed, and works without it where it is
not.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("gymnasium") is not None:
    from .registration import register_all

    register_all()
