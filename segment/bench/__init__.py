"""Measurements: what `segment bench` prints."""
