"""Executors: the device's own model, and models on Triton servers."""
