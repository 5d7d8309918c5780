"""From captures to batches: caching, pairing, augmentation, and the LightningDataModules."""

from dkp.data.augmentation import Augmentation
from dkp.data.cache import CaptureImages
from dkp.data.collate import collate
from dkp.data.labelled import LabelledViews
from dkp.data.modules import LabelledDataModule, SemiSupervisedDataModule
from dkp.data.multiview import MultiviewInstants
from dkp.data.pairing import Pairing
from dkp.data.sampling import KeyedSampler
from dkp.data.views import HideBackground, ViewMaker

__all__ = [
    "Augmentation",
    "CaptureImages",
    "HideBackground",
    "KeyedSampler",
    "LabelledDataModule",
    "LabelledViews",
    "MultiviewInstants",
    "Pairing",
    "SemiSupervisedDataModule",
    "ViewMaker",
    "collate",
]
