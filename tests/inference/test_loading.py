"""A detector by name, run, checkpoint, weights file or exported model; and what is said of anything else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import dkp
from dkp.errors import InputError
from dkp.inference import export as export_module
from dkp.inference.export import export
from dkp.inference.loading import load, load_torch
from dkp.models import Detector, detector_sheet, save_detector

SMALL = {"encoder": "unet", "width": 8, "levels": 4, "stride": 2}
CARD = {"size": 32, "surface": "human", "summary": "A toy.", "licence": "CC0-1.0"}


def weights_file(folder: Path, **options) -> Path:
    torch.manual_seed(0)
    return save_detector(Detector(**{**SMALL, **options}), folder / "toy", header=True, card=CARD)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8)


def tensors(predictor, picture):
    return predictor.network(np.stack([picture[:32, :32], picture[10:42, 20:52]]))


def test_the_public_names_are_quick_and_whole():
    code = "import sys, dkp; assert 'torch' not in sys.modules; print(*dkp.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in done.stdout.split():
        assert getattr(dkp, name).__doc__ or name == "__version__"
    assert {*dkp.__all__} <= {*dir(dkp)}
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = dkp.lod


def test_a_shipped_detector_is_found_by_name():
    predictor = dkp.load("human-small", batch=3)
    assert (predictor.size, predictor.surface.name, predictor.batch) == (192, "human", 3)
    prediction = predictor.predict(np.zeros((40, 60, 3), np.uint8), boxes=[0, 0, 60, 40])
    assert prediction.foreground.shape == (96, 96)
    assert prediction.error.shape == (96, 96)


@pytest.mark.parametrize("representation", ["embedding", "charts"])
def test_a_run_and_its_checkpoint(tmp_path, picture, representation):
    options = {**SMALL, "representation": representation}
    torch.manual_seed(1)
    detector = Detector(**options).eval()
    config = {"size": 32, "surface": "human", "model": {"init_args": {"detector": {"init_args": options}}}}
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    state = {f"detector.{key}": value for key, value in detector.state_dict().items()}
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": state}, checkpoint)
    images = torch.from_numpy(picture[:32, :32]).movedim(-1, 0)[None].float() / 255
    for source in (tmp_path / "run", checkpoint):
        predictor = load(source)
        found = predictor.network(picture[None, :32, :32])
        for one, other in zip(found, detector.forward_tensors(images), strict=True):
            torch.testing.assert_close(one, other)
        assert predictor.predict(picture, boxes=[0, 0, 32, 32]).vertices().shape == (48, 60)


def test_the_card_is_in_the_header_of_the_file(tmp_path):
    path = weights_file(tmp_path)
    assert not path.with_suffix(".json").exists()
    assert detector_sheet(path)["card"] == CARD
    assert load_torch(path).card == CARD
    assert load(path, size=64).size == 64


def test_what_is_no_detector_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.pt2").write_bytes(b"")
    (tmp_path / "a.onnx").write_bytes(b"")
    bare = save_detector(Detector(**SMALL), tmp_path / "bare")
    lost = save_detector(Detector(**SMALL), tmp_path / "lost", header=True, card={**CARD, "surface": "gone.npz"})
    for source, message in (
        ("humann-small", "humann-small is not there, expected one of dog-small, human-small"),
        (tmp_path / "a.txt", "no kind of file that dkp knows"),
        (tmp_path / "a.pt2", "may execute anything when it is loaded"),
        (bare, "does not say its surface, expected --surface"),
        (lost, "its surface cannot be loaded .*give --surface"),
        (tmp_path, r"config\.yaml does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            load(source)
    assert load(bare, surface="human", size=32).size == 32
    with pytest.raises(
        InputError, match=r"a\.onnx is exported already, expected what it was exported from, or a \.saf"
    ):
        load_torch(tmp_path / "a.onnx")


def test_without_onnx_runtime_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"needs onnx and ONNX Runtime, which are not installed: pip install 'dkp\[onnx\]'"
    ):
        load(tmp_path / "a.onnx")
    with pytest.raises(InputError, match="needs onnx and ONNX Runtime"):
        export(weights_file(tmp_path), out=tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"uncertainty": True},
        {"representation": "charts", "parts": 24},
        {"encoder": "tf_mobilenetv3_small_minimal_100"},
    ],
)
def test_onnx_says_what_torch_says(tmp_path, picture, options):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = weights_file(tmp_path, **options)
    said = export(path, out=tmp_path / "a.onnx")
    assert "greatest difference on 8 crops" in said
    one, other = load(path), load(tmp_path / "a.onnx")
    assert (other.size, other.charts, other.stride, other.surface.name) == (32, one.charts, 2, "human")
    for theirs, ours in zip(tensors(other, picture), tensors(one, picture), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    larger = np.random.default_rng(1).integers(0, 256, (3, 66, 98, 3), np.uint8)
    for theirs, ours in zip(other.network(larger), one.network(larger), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    predictions = [predictor.predict(picture, boxes=[5, 5, 40, 40]) for predictor in (one, other)]
    np.testing.assert_allclose(predictions[0].coordinate, predictions[1].coordinate, atol=1e-3)
    assert other.network.description["card"] == CARD
    kinds = [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node]
    assert "Pad" not in kinds  # timm's padding is the convolutions' own
    stem = {*kinds[: kinds.index("Conv")]}
    assert {"Mul", "Sub"} <= stem
    assert "Div" not in stem  # images are normalised by products


def test_damaged_onnx_is_said(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"a\.onnx is no model that dkp export wrote"):
        load(tmp_path / "a.onnx")


def test_a_program_and_a_weights_file_say_what_torch_says(tmp_path, picture):
    path = weights_file(tmp_path)
    assert "dkp: wrote" in export(path, out=tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    crops = np.stack([picture[:32, :32]] * 3)
    for theirs, ours in zip(program(torch.from_numpy(crops)), load(path).network(crops), strict=True):
        torch.testing.assert_close(theirs, ours)
    export(path, out=tmp_path / "b.safetensors")
    assert load_torch(tmp_path / "b.safetensors").card["summary"] == "A toy."
    with pytest.raises(InputError, match="exists; give another --out"):
        export(path, out=tmp_path / "a.pt2")
    with pytest.raises(InputError, match=r"a file ending in \.onnx, \.pt2, \.safetensors"):
        export(path, out=tmp_path / "a.tflite")


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch):
    def wrong(network, loaded, crops, path):
        path.write_bytes(b"")
        return [value + 0.01 for value in network(torch.from_numpy(crops))]

    monkeypatch.setattr(export_module, "write_program", wrong)
    with pytest.raises(export_module.NotEqual, match=r"where at most 0\.001 is expected"):
        export(weights_file(tmp_path), out=tmp_path / "a.pt2")
    assert not list(tmp_path.glob("a.pt2*"))
