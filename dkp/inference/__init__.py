"""A trained detector at work: images, videos or files of other programs in, fields in the images' own pixels out."""

from dkp.inference.loading import load
from dkp.inference.prediction import Prediction, SurfacePoints
from dkp.inference.predictor import Predictor
from dkp.inference.space import SurfacePositions, reconstruct

__all__ = ["Prediction", "Predictor", "SurfacePoints", "SurfacePositions", "load", "reconstruct"]
