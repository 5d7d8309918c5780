"""LightningModules: labelled training and the semi-supervised twin."""

from dkp.tasks.base import DenseKeypointTask as DenseKeypointTask
from dkp.tasks.evaluation import Evaluation as Evaluation, EvaluationSettings as EvaluationSettings
from dkp.tasks.labelled import LabelledTask as LabelledTask
from dkp.tasks.semi_supervised import SemiSupervisedTask as SemiSupervisedTask
from dkp.tasks.terms import TrainingDiverged as TrainingDiverged, WeightedTerm as WeightedTerm
