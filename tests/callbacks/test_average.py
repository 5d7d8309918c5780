import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from dkp.callbacks import AverageWithStart, DetectorAverage
from dkp.callbacks.average import TRAINED
from dkp.errors import InputError

RATE = 0.25


class Falling(pl.LightningModule):
    """A detector of one weight that falls by a constant in every step: w_n = -n RATE."""

    def __init__(self):
        super().__init__()
        self.detector = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.detector.weight)
        self.seen = []

    def training_step(self, batch, batch_idx):
        return self.detector.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.seen.append(self.detector.weight.item())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=RATE)


def averages(steps, decay):
    """The average after each step, by its definition."""
    average, values = 0.0, []
    for step in range(1, steps + 1):
        kept = min(decay, (1 + step) / (10 + step))
        average = kept * average + (1 - kept) * -step * RATE
        values.append(average)
    return values


def fit(tmp_path, task, average, epochs, further=(), **options):
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        callbacks=[average, *further],
    )
    loader = DataLoader(torch.zeros(3, 1))
    trainer.fit(task, loader, DataLoader(torch.zeros(1, 1)), **options)
    return trainer


@pytest.mark.parametrize("decay", [0.999, 0.2])
def test_validation_sees_the_average_and_training_goes_on_from_the_weights(tmp_path, decay):
    task = Falling()
    fit(tmp_path, task, DetectorAverage(decay), 2)
    expected = averages(6, decay)
    assert task.seen == pytest.approx([expected[2], expected[5]])
    assert task.detector.weight.item() == pytest.approx(expected[5])


def checkpoint_of(tmp_path, task, average):
    """The checkpoint that an epoch of three steps leaves."""

    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    fit(tmp_path, task, average, 1, further=[Save()])
    return torch.load(tmp_path / "saved.ckpt", weights_only=True)


def test_checkpoints_hold_the_average_and_resume_from_the_weights(tmp_path):
    content = checkpoint_of(tmp_path, Falling(), DetectorAverage())
    assert content["state_dict"]["detector.weight"].item() == pytest.approx(averages(3, 0.999)[2])
    assert content[TRAINED]["weight"].item() == pytest.approx(-3 * RATE)

    task = Falling()
    fit(tmp_path, task, DetectorAverage(), 2, ckpt_path=tmp_path / "saved.ckpt")
    assert task.detector.weight.item() == pytest.approx(averages(6, 0.999)[5])


def test_the_average_with_the_start_is_seen_and_kept_and_training_goes_on_from_the_weights(tmp_path):
    task = Falling()
    torch.nn.init.ones_(task.detector.weight)
    fit(tmp_path, task, AverageWithStart(0.4), 2)
    assert task.seen == pytest.approx([1 - 0.4 * 3 * RATE, 1 - 0.4 * 6 * RATE])
    assert task.detector.weight.item() == pytest.approx(1 - 0.4 * 6 * RATE)


def test_a_resumed_average_with_the_start_knows_the_start(tmp_path):
    task = Falling()
    torch.nn.init.ones_(task.detector.weight)
    content = checkpoint_of(tmp_path, task, AverageWithStart(0.3))
    assert content["state_dict"]["detector.weight"].item() == pytest.approx(1 - 0.3 * 3 * RATE)
    assert content[TRAINED]["weight"].item() == pytest.approx(1 - 3 * RATE)

    resumed = Falling()
    fit(tmp_path, resumed, AverageWithStart(0.3), 2, ckpt_path=tmp_path / "saved.ckpt")
    assert resumed.detector.weight.item() == pytest.approx(1 - 0.3 * 6 * RATE)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_that_is_no_average_is_refused(share):
    with pytest.raises(InputError, match=r"AverageWithStart\.share is .*, expected a number between 0 and 1"):
        AverageWithStart(share)
