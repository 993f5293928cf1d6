"""Sweeps: algorithms x settings x scenarios x seeds, each trial an ordinary training run."""
