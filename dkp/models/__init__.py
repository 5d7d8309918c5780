"""Networks: from an image to a dense keypoint field, in plain torch."""

from dkp.models.detector import (
    Detector as Detector,
    detector_sheet as detector_sheet,
    load_detector as load_detector,
    save_detector as save_detector,
)
from dkp.models.weights import load_state as load_state, read_state as read_state
