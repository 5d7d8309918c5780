"""Packing a run into a shipped detector, and finding it by name; on a small network in a folder of its own."""

import json

import pytest
import torch
import yaml

from dkp.errors import InputError
from dkp.models import Detector
from dkp.tasks import SemiSupervisedTask
from dkp.weights import card, configuration, list_weights, load, names, shipped, weights_file
from dkp.weights.pack import pack_weights

OPTIONS = {"encoder": "unet", "width": 8, "levels": 4, "stride": 2, "norm": "batch", "uncertainty": True}
TEXT = {"summary": "A toy.", "licence": "CC0-1.0", "data": ["none"], "recipe": "toy.yaml", "limits": ["all"]}


@pytest.fixture
def run(tmp_path):
    """A run's folder with the checkpoint of a detector."""
    torch.manual_seed(3)
    detector = Detector(**OPTIONS)
    detector.train()(torch.rand(4, 3, 32, 32))
    config = {"size": 32, "surface": "human", "model": {"init_args": {"detector": {"init_args": OPTIONS}}}}
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    state = {f"detector.{key}": value for key, value in detector.state_dict().items()}
    torch.save({"state_dict": state}, folder / "checkpoints" / "last.ckpt")
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(TEXT))
    metrics = {"metrics": {"test/joint_cm": 8.12345, "test/pair/a": 1.0}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    return folder, detector.eval()


@pytest.fixture
def toy(run, tmp_path, monkeypatch):
    """The detector of the run, shipped as "toy"."""
    folder, detector = run
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    card.cache_clear()
    measured = {"a person": str(tmp_path / "metrics.json")}
    pack_weights(folder, "toy", tmp_path / "card.yaml", measured, tmp_path / "shipped")
    yield detector
    card.cache_clear()


def test_packed_detector_is_the_runs(toy):
    assert names() == ["toy"]
    image = torch.rand(2, 3, 32, 32)
    rounded = Detector(**OPTIONS).eval()
    rounded.load_state_dict({key: value.half() for key, value in toy.state_dict().items()})
    for ours, halved, full in zip(*(one.forward_tensors(image) for one in (load("toy"), rounded, toy)), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, halved)
        torch.testing.assert_close(ours, full, atol=0.02, rtol=0.02)


def test_card(toy):
    found = card("toy")
    assert (found.size, found.surface, found.summary) == (32, "human", "A toy.")
    assert found.metrics == {"a person": {"joint_cm": 8.123}}
    assert "toy" in list_weights()
    assert "a person: joint_cm 8.123" in list_weights("toy")
    with pytest.raises(InputError, match="dkp ships no weights 'nobody', expected one of toy"):
        card("nobody")


def test_damage_is_noticed(toy, tmp_path):
    file = tmp_path / "shipped" / "toy.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(InputError, match="damaged"):
        weights_file("toy")


def test_configuration_builds_the_detector(toy):
    settings = configuration("toy")
    assert (settings["size"], settings["stride"], settings["surface"]) == (32, 2, "human")
    detector = Detector(**settings["model"]["init_args"]["detector"]["init_args"]).eval()
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(detector(image).coordinate, load("toy")(image).coordinate)


def test_a_name_is_a_teacher(toy):
    task = SemiSupervisedTask(Detector(width=8, levels=4), teacher="toy", start_from_teacher=False)
    task.configure_models("fit")
    assert task.teacher is not None
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(task.teacher(image).coordinate, load("toy")(image).coordinate)
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())


def test_a_file_of_that_name_comes_first(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").write_text("mine")
    assert str(weights_file("toy")) == "toy"
    assert str(weights_file("other.ckpt")) == "other.ckpt"


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"none/config\.yaml does not exist"):
        pack_weights(tmp_path / "none", "toy", tmp_path / "card.yaml", folder=tmp_path / "shipped")
