"""Readers, checks and generators for grid, network and arrival traces."""
