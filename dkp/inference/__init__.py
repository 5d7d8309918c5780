"""A trained detector at work: images, videos or files of other programs in, fields in the images' own pixels out."""

from dkp.inference.loading import load as load
from dkp.inference.prediction import Prediction as Prediction, SurfacePoints as SurfacePoints
from dkp.inference.predictor import Predictor as Predictor
from dkp.inference.space import SurfacePositions as SurfacePositions, reconstruct as reconstruct
