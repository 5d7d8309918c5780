"""Networks: from an image to a dense keypoint field, in plain torch."""

from dkp.models.detector import Detector, detector_sheet, load_detector, save_detector
from dkp.models.weights import load_state, read_state

__all__ = ["Detector", "detector_sheet", "load_detector", "load_state", "read_state", "save_detector"]
