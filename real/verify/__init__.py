"""Verification: a run's own log, replayed through the simulator."""
