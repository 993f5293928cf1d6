"""Calibration: measure a site and write its site file."""
