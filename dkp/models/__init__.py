"""Networks: from an image to a dense keypoint field, in plain torch."""

from dkp.models.detector import Detector
from dkp.models.weights import load_detector, load_state, read_state, save_detector

__all__ = ["Detector", "load_detector", "load_state", "read_state", "save_detector"]
