"""Probes of links and servers: round-trip time, loss, uplink rate and load, each with its age, in the background.

docs/probes.md says which feature of the observation each of them fills.
"""
