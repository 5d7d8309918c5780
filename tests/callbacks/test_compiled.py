"""Prediction with a compiled detector: the same fields, and the detector is left as it was."""

import shutil
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from dkp.callbacks import CompiledPrediction
from dkp.errors import InputError
from dkp.models import Detector


class Predictor(pl.LightningModule):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.compiled: list[bool] = []

    def predict_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.compiled.append(is_compiled(self.detector))
        return self.detector(batch).coordinate


def is_compiled(detector: Detector) -> bool:
    return "forward_tensors" in vars(detector)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_fields_are_the_same_and_the_detector_is_left_as_it_was(tmp_path):
    torch.manual_seed(0)
    task = Predictor(Detector(width=8, levels=3, norm="batch"))
    images = torch.rand(5, 3, 16, 16)  # the last batch is smaller

    def predict(callbacks):
        trainer = pl.Trainer(
            logger=False, accelerator="cpu", callbacks=callbacks, default_root_dir=tmp_path,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        return torch.cat(trainer.predict(task, DataLoader(images, batch_size=2)))

    plain = predict([])
    assert task.compiled == [False] * 3
    torch.testing.assert_close(predict([CompiledPrediction()]), plain, rtol=1e-4, atol=1e-5)
    assert task.compiled[3:] == [True] * 3
    assert not is_compiled(task.detector)


def test_a_model_without_a_detector_is_refused():
    with pytest.raises(InputError, match="found NoneType, expected a Detector"):
        CompiledPrediction().on_predict_start(None, SimpleNamespace())
