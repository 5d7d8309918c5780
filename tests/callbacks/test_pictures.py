"""Pictures of validation reach the loggers that show pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from dkp.callbacks.pictures import ValidationPictures
from dkp.data import SemiSupervisedDataModule, collate
from dkp.models import Detector
from dkp.tasks import LabelledTask


class Board(TensorBoardLogger):
    def __init__(self):
        self.shown = {}

    @property
    def experiment(self):
        return SimpleNamespace(add_image=self.add)

    def add(self, tag, image, step, dataformats):
        assert dataformats == "HWC"
        self.shown[tag] = image, step


class Biases(WandbLogger):
    def __init__(self):
        self.shown = {}

    def log_image(self, key, images, step):
        (self.shown[key],) = [(image, step) for image in images]


@pytest.fixture(scope="module")
def evaluated(planes):
    """A task that has learned nothing, and a batch of two instants of three views."""
    data = SemiSupervisedDataModule(test=f"{planes / 'mine'}#test", size=32, stride=2)
    data.setup("test")
    (dataset,) = data.datasets["test"]
    return LabelledTask(Detector(width=4, levels=3).eval(), dataset.surface), collate([dataset[0], dataset[1]])


def test_fields_and_epipolar_errors_are_shown_once(evaluated):
    task, batch = evaluated
    board, biases = Board(), Biases()
    trainer = SimpleNamespace(loggers=[board, biases], sanity_checking=False, is_global_zero=True, global_step=7)
    pictures = ValidationPictures()
    pictures.on_validation_batch_end(trainer, task, None, batch, 1)
    assert board.shown == {}
    pictures.on_validation_batch_end(trainer, task, None, batch, 0)
    assert list(board.shown) == list(biases.shown) == ["val/fields", "val/epipolar"]
    for tag, (image, step) in board.shown.items():
        assert (image.dtype, image.shape[2], step) == (np.uint8, 3, 7)
        assert np.ptp(image) > 200
        np.testing.assert_array_equal(image, biases.shown[tag][0])
    pictures.on_validation_batch_end(trainer, task, None, batch, 0, dataloader_idx=1)
    assert "val_1/fields" in board.shown


def test_without_such_a_logger_nothing_is_drawn(evaluated):
    _, batch = evaluated
    trainer = SimpleNamespace(loggers=[object()], sanity_checking=False, is_global_zero=True, global_step=7)
    ValidationPictures().on_validation_batch_end(trainer, None, None, batch, 0)
