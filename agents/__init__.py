"""Policies that choose placements: baselines, training, evaluation, frozen bundles."""
