"""Shipped detectors: weights made of our own renderings and of weights under free licences, by name.

Beside NAME.safetensors (half precision) lies NAME.json with the options that build the detector, the checksum and the
card: what it was made from, by which recipe, and what was measured.
"""

from dkp.weights.run import run_detector
from dkp.weights.shipped import Card, card, configuration, list_weights, load, names, shipped_for, weights_file

__all__ = [
    "Card",
    "card",
    "configuration",
    "list_weights",
    "load",
    "names",
    "run_detector",
    "shipped_for",
    "weights_file",
]
