"""From captures to batches: caching, pairing, augmentation, and the LightningDataModules."""

from dkp.data.augmentation import Augmentation as Augmentation
from dkp.data.cache import CaptureImages as CaptureImages
from dkp.data.collate import collate as collate
from dkp.data.labelled import LabelledViews as LabelledViews
from dkp.data.modules import (
    LabelledDataModule as LabelledDataModule,
    SemiSupervisedDataModule as SemiSupervisedDataModule,
)
from dkp.data.multiview import MultiviewInstants as MultiviewInstants
from dkp.data.pairing import Pairing as Pairing
from dkp.data.sampling import KeyedSampler as KeyedSampler
from dkp.data.views import HideBackground as HideBackground, ViewMaker as ViewMaker
