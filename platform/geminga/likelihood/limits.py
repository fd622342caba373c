"""Limits that all of this room keeps."""

LEAST_BACKGROUND = 1e-6
"""Expected counts of a pixel: no background is believed to be lower."""
