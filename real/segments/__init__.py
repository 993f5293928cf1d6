"""Segments of split models: the start that the device computes, the rest that a server does, and what travels."""
