"""LightningModules: labelled training and the semi-supervised twin."""

from dkp.tasks.base import DenseKeypointTask
from dkp.tasks.evaluation import Evaluation, EvaluationSettings
from dkp.tasks.labelled import LabelledTask
from dkp.tasks.semi_supervised import SemiSupervisedTask
from dkp.tasks.terms import TrainingDiverged, WeightedTerm

__all__ = [
    "DenseKeypointTask",
    "Evaluation",
    "EvaluationSettings",
    "LabelledTask",
    "SemiSupervisedTask",
    "TrainingDiverged",
    "WeightedTerm",
]
