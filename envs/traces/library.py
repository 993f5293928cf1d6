"""Recorded traces as libraries that episodes are cut from."""

from .grid_library import GridLibrary, GridWindows
from .network_library import NetworkLibrary
from .patterns import assert_disjoint

__all__ = ["GridLibrary", "GridWindows", "NetworkLibrary", "assert_disjoint"]
