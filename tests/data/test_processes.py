"""Evaluation over two processes covers every instant once."""

import pytorch_lightning as pl
import torch

from dkp.data import LabelledDataModule


class Collect(pl.LightningModule):
    """Writes down which frames each process saw."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, index):
        batch = batch["labelled"]
        with (self.folder / f"train_{self.global_rank}").open("a") as file:
            file.write("".join(f"{value:.6f}\n" for value in batch["camera"].intrinsics[:, 0, 2].tolist()))
        return self.weight * batch["image"].mean()

    def test_step(self, batch, index):
        with (self.folder / f"test_{self.global_rank}").open("a") as file:
            file.write("".join(f"{frame}\n" for frame in batch["frame"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_two_processes(make_capture, tmp_path):
    path = make_capture(tmp_path / "c", frames=5, angles=(0, 40), size=32).path
    module = LabelledDataModule(
        train=f"{path}#", test=f"{path}#", batch_size=2, steps_per_epoch=2, eval_batch_size=1, size=16, num_workers=0
    )
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp_fork", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    model = Collect(tmp_path)
    trainer.fit(model, datamodule=module)
    trainer.test(model, datamodule=module, verbose=False)
    seen = [(tmp_path / f"test_{rank}").read_text().split() for rank in range(2)]
    assert sorted(len(frames) for frames in seen) == [2, 3]
    assert sorted(seen[0] + seen[1]) == ["f00", "f01", "f02", "f03", "f04"]
    trained = [(tmp_path / f"train_{rank}").read_text().split() for rank in range(2)]
    assert len(trained[0]) == len(trained[1]) == 4
    assert not set(trained[0]) & set(trained[1]), "the processes draw different samples"
