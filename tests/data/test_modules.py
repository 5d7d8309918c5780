"""Tests of the Lightning data modules."""

import pytest
import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentParser

from dkp.batches import LabelledBatch, MultiviewBatch, TrainingBatch
from dkp.captures.splits import all_captures, split_of
from dkp.data import Augmentation, LabelledDataModule, MultiviewInstants, SemiSupervisedDataModule, capture_module
from dkp.errors import InputError

QUICK = {"num_workers": 0, "augmentation": Augmentation.none()}


def batches(loader):
    iterator = iter(loader)
    return [item[0] if isinstance(item, tuple) else item for item in iterator]


def test_labelled(capture):
    module = LabelledDataModule(
        train=str(capture.path), test=str(capture.path), val=f"{capture.path}#train", batch_size=3, **QUICK
    )
    module.setup("fit")
    assert len(module.labelled) == 8
    found = batches(module.train_dataloader())
    assert len(found) == 2
    assert found[0]["labelled"]["image"].shape == (3, 3, 64, 64)
    (val,) = module.val_dataloader()
    assert batches(val)[0]["frame"] == ["f00", "f01"]
    module.setup("test")
    (test,) = module.test_dataloader()
    (batch,) = batches(test)
    assert batch["frame"] == ["f02", "f03"]
    assert bool(batch["has_label"].all())
    assert bool(batch["posed"].all())
    module.setup("predict")
    (predicted,) = batches(module.predict_dataloader()[0])
    assert predicted["frame"] == ["f02", "f03"]
    assert "vertices" not in predicted


def test_no_validation(capture):
    module = LabelledDataModule(train=str(capture.path), **QUICK)
    module.setup("fit")
    assert module.val_dataloader() == []
    with pytest.raises(InputError, match=r"data\.test names no capture"):
        module.setup("test") or module.test_dataloader()


def test_a_capture_in_several_parts_is_one_data_set(capture, tmp_path):
    for disk in ("disk1", "disk2"):
        (tmp_path / disk).mkdir()
        (tmp_path / disk / "part").symlink_to(capture.path, target_is_directory=True)
    whole = SemiSupervisedDataModule(unlabelled=f"{capture.path}#train", **QUICK)
    parts = SemiSupervisedDataModule(unlabelled=f"{tmp_path}/disk?/part#train", **QUICK)
    for module in (whole, parts):
        module.setup("fit")
    assert len(parts.unlabelled) == 2 * len(whole.unlabelled)
    assert len(parts.labelled) == 2 * len(whole.labelled)
    assert all_captures(f"{tmp_path}/disk*/part") == [f"{tmp_path}/disk1/part", f"{tmp_path}/disk2/part"]
    with pytest.raises(InputError, match=r"no folder matches the pattern .*disk3\*"):
        all_captures(f"{tmp_path}/disk3*#val")


def test_each_process_reads_its_own_parts(capture, monkeypatch):
    parts = [f"{capture.path}#train", f"{capture.path}#test", f"{capture.path}#"]
    read = []
    for rank in (0, 1):
        monkeypatch.setattr(capture_module, "process", lambda rank=rank: (rank, 2))
        module = SemiSupervisedDataModule(unlabelled=parts, own_parts=True, steps_per_epoch=3, **QUICK)
        module.setup("fit")
        read.append([maker.images.name.partition(" split ")[2] for maker in module.unlabelled.makers])
        assert len(module.labelled.makers) == len(module.unlabelled.makers)
        sampler = module.train_dataloader().iterables["unlabelled"].sampler
        assert {index for index, _ in sampler} <= {*range(len(module.unlabelled))}
    assert read == [["'train'", ""], ["'test'"]]
    monkeypatch.setattr(capture_module, "process", lambda: (0, 4))
    with pytest.raises(InputError, match="3 training captures where at least one for each of 4 processes"):
        SemiSupervisedDataModule(unlabelled=parts, own_parts=True, steps_per_epoch=3, **QUICK).setup("fit")
    with pytest.raises(InputError, match=r"data\.steps_per_epoch"):
        SemiSupervisedDataModule(unlabelled=parts, own_parts=True, **QUICK)


def test_few_labels(capture):
    module = LabelledDataModule(train=f"{capture.path}#", labelled_share=0.25, **QUICK)
    module.setup("fit")
    assert len(module.labelled) == 4
    assert len(set(module.labelled.makers[0].images.frame)) == 1


def test_a_share_for_each_capture(capture):
    captures = [f"{capture.path}#train", f"{capture.path}#test"]
    module = LabelledDataModule(train=captures, labelled_share=[0.5, 1.0], **QUICK)
    module.setup("fit")
    assert [len(maker.images) for maker in module.labelled.makers] == [4, 8]
    module = LabelledDataModule(train=captures, labelled_share=[0.0, 0.5], **QUICK)
    module.setup("fit")
    assert [len(maker.images) for maker in module.labelled.makers] == [4]
    with pytest.raises(InputError, match="3 shares where one number, or one for each of the 2 labelled captures"):
        LabelledDataModule(train=captures, labelled_share=[1.0, 1.0, 1.0], **QUICK).setup("fit")


def test_few_unlabelled_instants(capture):
    def frames(share):
        module = SemiSupervisedDataModule(unlabelled=f"{capture.path}#", unlabelled_share=share, **QUICK)
        module.setup("fit")
        return set(module.unlabelled.makers[0].images.frame)

    assert len(frames(1.0)) == 4
    assert len(frames(0.5)) == 2
    assert frames(0.25) < frames(0.5)
    with pytest.raises(InputError, match=r"unlabelled_share is 0\.0"):
        frames(0.0)


def test_semi_supervised(capture):
    module = SemiSupervisedDataModule(
        unlabelled=f"{capture.path}#",
        labelled_share=0.5,
        labelled_batch_size=2,
        unlabelled_batch_size=2,
        steps_per_epoch=5,
        **QUICK,
    )
    module.setup("fit")
    found = batches(module.train_dataloader())
    assert len(found) == 5
    assert found[0]["labelled"]["image"].shape == (2, 3, 64, 64)
    assert found[0]["unlabelled"]["image"].shape == (2, 2, 3, 64, 64)
    assert "coordinate" not in found[0]["unlabelled"]
    assert "mask" in found[0]["unlabelled"]
    assert len(module.labelled) == 8


def test_batches_hold_what_their_types_say(capture):
    """The keys of dkp.batches, neither fewer nor more."""
    everything = {"pseudo_labels": True, "next_frame": "truth", "charts": True}
    module = SemiSupervisedDataModule(unlabelled=f"{capture.path}#", test=f"{capture.path}#", **everything, **QUICK)
    module.setup("fit")
    module.setup("test")
    training = batches(module.train_dataloader())[0]
    evaluated = batches(module.test_dataloader()[0])[0]
    assert set(training) == set(TrainingBatch.__annotations__)
    assert set(training["labelled"]) == set(LabelledBatch.__annotations__)
    assert {*training["unlabelled"], *evaluated, "joints"} == set(MultiviewBatch.__annotations__)


def test_labels_of_unlabelled_views_come_only_where_they_are_pseudo_labels(capture):
    module = SemiSupervisedDataModule(unlabelled=str(capture.path), labelled_share=0, pseudo_labels=True, **QUICK)
    module.setup("fit")
    (batch,) = batches(module.train_dataloader())
    views = batch["unlabelled"]
    assert views["coordinate"].shape[:2] == views["has_label"].shape == views["image"].shape[:2]
    assert views["has_label"].any()
    assert (views["foreground"] & views["known"])[views["has_label"]].any()


def test_semi_supervised_without_labels(capture, make_capture, tmp_path):
    module = SemiSupervisedDataModule(unlabelled=str(capture.path), labelled_share=0, views_per_instant="all", **QUICK)
    module.setup("fit")
    assert module.labelled is None
    (batch,) = batches(module.train_dataloader())
    assert set(batch) == {"unlabelled"}
    assert batch["unlabelled"]["image"].shape[1] == 4
    bare = make_capture(tmp_path / "bare", frames=2, labels="none")
    missing = SemiSupervisedDataModule(unlabelled=f"{bare.path}#", **QUICK)
    with pytest.raises(InputError, match="none of its 8 views has a label"):
        missing.setup("fit")
    borrowed = SemiSupervisedDataModule(unlabelled=f"{bare.path}#", labelled=str(capture.path), **QUICK)
    borrowed.setup("fit")
    assert len(borrowed.labelled) == 8


def test_temporal_batches(capture):
    module = SemiSupervisedDataModule(unlabelled=f"{capture.path}#", labelled_share=0, next_frame="flow", **QUICK)
    module.setup("fit")
    (batch,) = batches(module.train_dataloader())[:1]
    assert {"next_image", "flow", "flow_valid"} <= batch["unlabelled"].keys()


@pytest.mark.parametrize("option", ["mirror", "without_background"])
def test_some_changes_are_for_labels_only(capture, option):
    module = SemiSupervisedDataModule(
        unlabelled=str(capture.path), augmentation=Augmentation(**{option: 0.5}), num_workers=0
    )
    module.setup("fit")
    assert getattr(module.labelled.makers[0].augmentation, option) == 0.5
    assert getattr(module.unlabelled.makers[0].augmentation, option) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_workers_changes_nothing(capture, workers):
    def first(count):
        module = LabelledDataModule(train=str(capture.path), batch_size=4, num_workers=count)
        module.setup("fit")
        return [batch["labelled"] for batch in batches(module.train_dataloader())]

    for a, b in zip(first(1), first(workers), strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["camera"].intrinsics, b["camera"].intrinsics)


class Probe(pl.LightningModule):
    """Records what a trainer feeds it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []
        self.evaluated = []

    def training_step(self, batch, index):
        self.seen.append(batch["labelled"]["camera"].intrinsics.clone())
        return self.weight * batch["unlabelled"]["image"].mean()

    def validation_step(self, batch, index):
        self.evaluated += batch["frame"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_trainer_draws_anew_every_epoch(capture, tmp_path):
    module = SemiSupervisedDataModule(
        unlabelled=str(capture.path), val=f"{capture.path}#test", steps_per_epoch=2, num_workers=1
    )
    probe = Probe()
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(probe, datamodule=module)
    assert len(probe.seen) == 4
    assert not torch.equal(probe.seen[0], probe.seen[2])
    assert probe.evaluated == ["f02", "f03"] * 2


def test_command_line_configuration(capture):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments((LabelledDataModule, SemiSupervisedDataModule), "data")
    config = parser.parse_args(
        [
            "--data=dkp.data.SemiSupervisedDataModule",
            f"--data.unlabelled=[{capture.path}]",
            "--data.views_per_instant=3",
            "--data.augmentation.rotate=45",
            "--data.augmentation.scale=[0.5, 2]",
            "--data.pairing.max_angle=90",
            "--data.hide_background=noise",
        ]
    )
    module = parser.instantiate_classes(config).data
    assert isinstance(module, SemiSupervisedDataModule)
    assert module.augmentation.rotate == 45
    assert module.augmentation.scale == (0.5, 2.0)
    assert module.pairing.max_angle == 90
    assert module.views_per_instant == 3
    assert module.unlabelled_captures == [str(capture.path)]


def test_split_of():
    assert split_of("a/b", "train") == ("a/b", "train")
    assert split_of("a/b#test", "train") == ("a/b", "test")
    assert split_of("a/b#", "train") == ("a/b", None)


def test_a_mark_in_the_name_of_a_folder_that_is_there_is_no_split(tmp_path):
    folder = tmp_path / "take#2" / "mine"
    folder.mkdir(parents=True)
    assert split_of(str(folder), "train") == (str(folder), "train")
    assert split_of(f"{folder}#test", "train") == (str(folder), "test")
    assert split_of(f"{folder}#", "train") == (str(folder), None)
    assert all_captures(f"{tmp_path}/take#2/m*#test") == [f"{folder}#test"]


def test_evaluation_keeps_views_without_foreground(make_capture, tmp_path):
    path = make_capture(tmp_path / "c", frames=2, empty=[("f00", "cam_1")]).path
    module = LabelledDataModule(test=f"{path}#", **QUICK)
    module.setup("test")
    dataset = module.datasets["test"][0]
    assert isinstance(dataset, MultiviewInstants)
    assert dataset[0]["present"].all()
    assert not dataset[0]["foreground"][1].any()


def test_bad_numbers():
    with pytest.raises(InputError, match=r"data\.steps_per_epoch is 0"):
        LabelledDataModule(train="x", steps_per_epoch=0)
    with pytest.raises(InputError, match=r"data\.train names no capture"):
        LabelledDataModule().setup("fit")


def test_keypoints_of_the_unlabelled_views(capture):
    """They move with the crop; a name that the capture does not have has the confidence 0."""

    def joints(keypoints, **augmentation):
        module = SemiSupervisedDataModule(
            unlabelled=f"{capture.path}#",
            keypoints=keypoints,
            num_workers=0,
            augmentation=Augmentation(**({"rotate": 0.0, "scale": (1.0, 1.0), "photometric": 0.0} | augmentation)),
        )
        module.setup("fit")
        return batches(module.train_dataloader())[0]["unlabelled"].get("joints")

    still = joints(["nose", "nobody"], shift=0.0)[0, 0]
    assert still.tolist() == [[15, 20, pytest.approx(0.9)], [pytest.approx(v) for v in still[1, :2].tolist()] + [0]]
    moved = joints(["nose"], shift=0.2, geometric=1.0)[..., 0, :2]
    assert (moved - still[0, :2]).abs().max() > 0.5
    assert joints(None) is None
