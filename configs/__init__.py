"""Shipped YAML: scenarios, links, zones, training settings."""
