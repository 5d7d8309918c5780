"""Tests of weight files."""

import json

import pytest
import safetensors.torch
import timm
import torch

from dkp.errors import InputError
from dkp.models import Detector, load_detector, save_detector

SMALL = {"width": 8, "levels": 4}


@pytest.mark.parametrize(
    "options",
    [
        {"surface_centre": (0.1, 0.2, 0.3), "surface_half_extent": (0.5, 1.0, 0.25), "norm": "batch", **SMALL},
        {"representation": "charts", "parts": 4, "stride": 4, **SMALL},
        {"encoder": "test_resnet"},
    ],
)
def test_there_and_back(tmp_path, options):
    torch.manual_seed(0)
    detector = Detector(**options)
    image = torch.rand(2, 3, 32, 32)
    detector.train()(image)
    path = save_detector(detector, tmp_path / "sub" / "best.pt")
    assert path == tmp_path / "sub" / "best.safetensors"
    again = load_detector(path)
    assert not again.training
    assert again.config == detector.config
    for a, b in zip(detector.eval().forward_tensors(image), again.forward_tensors(image), strict=True):
        torch.testing.assert_close(a, b)
    assert sorted(p.name for p in path.parent.iterdir()) == ["best.json", "best.safetensors"]


def test_weights_option_reads_every_kind_of_file(tmp_path):
    detector = Detector(**SMALL)
    state = detector.state_dict()
    save_detector(detector, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    checkpoint = {
        "state_dict": {f"detector.{k}": v for k, v in state.items()} | {"other.x": torch.zeros(1)},
        "epoch": 3,
    }
    torch.save(checkpoint, tmp_path / "c.ckpt")
    for name in ("a.safetensors", "b.pt", "c.ckpt"):
        again = Detector(weights=str(tmp_path / name), **SMALL)
        assert all(torch.equal(again.state_dict()[k], v) for k, v in state.items())


def test_weights_that_do_not_fit(tmp_path):
    path = save_detector(Detector(**SMALL), tmp_path / "a")
    with pytest.raises(InputError, match=r"do not fit the configured model: .* where .* is expected"):
        Detector(weights=str(path), width=16, levels=4)
    with pytest.raises(InputError, match="tensors missing, such as"):
        Detector(weights=str(path), width=8, levels=5)
    with pytest.raises(InputError, match="unknown, such as"):
        Detector(weights=str(path), width=8, levels=3)


def test_unreadable_weights(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Detector(weights=str(tmp_path / "none.pt"), **SMALL)
    for name in ("bad.safetensors", "bad.pt"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(InputError, match="neither safetensors nor a plain torch weights file"):
            Detector(weights=str(tmp_path / name), **SMALL)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="found list where a dictionary of tensors"):
        Detector(weights=str(tmp_path / "list.pt"), **SMALL)


class Evil:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('ran code from a weights file')",))


def test_weights_never_run_code(tmp_path):
    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="neither safetensors nor a plain torch weights file"):
        Detector(weights=str(tmp_path / "evil.pt"), **SMALL)


def test_encoder_weights(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("test_resnet")
    path = tmp_path / "encoder.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    detector = Detector("test_resnet", encoder_weights=str(path))
    own = dict(detector.body.backbone.named_parameters())
    shared = [name for name in own if name in source.state_dict()]
    assert len(shared) > 10
    assert all(torch.equal(own[name], source.state_dict()[name]) for name in shared)
    with pytest.raises(InputError, match=r"encoder_weights .* do not fit the timm model 'lcnet_050'"):
        Detector("lcnet_050", encoder_weights=str(path))
    with pytest.raises(InputError, match="encoder_weights"):
        Detector("test_resnet", encoder_weights=str(tmp_path / "missing.safetensors"))


def test_damaged_descriptions(tmp_path):
    path = save_detector(Detector(**SMALL), tmp_path / "a")
    sheet = path.with_suffix(".json")
    good = json.loads(sheet.read_text())
    sheet.write_text("{")
    with pytest.raises(InputError, match="not a JSON file"):
        load_detector(path)
    sheet.write_text(json.dumps({**good, "version": 9}))
    with pytest.raises(InputError, match=r'"version": 1'):
        load_detector(path)
    sheet.write_text(json.dumps({**good, "detector": {"size": 3}}))
    with pytest.raises(InputError, match="do not describe a detector"):
        load_detector(path)
    sheet.unlink()
    with pytest.raises(InputError, match=r"a\.json: no such file"):
        load_detector(path)


def test_half_precision_keeps_what_it_cannot_hold(tmp_path):
    """A running variance of 70,000 would be infinite in half precision."""
    detector = Detector(norm="batch", **SMALL).eval()
    large = next(buffer for name, buffer in detector.named_buffers() if name.endswith("running_var"))
    large[0] = 7e4
    loaded = load_detector(save_detector(detector, tmp_path / "one", half=True))
    found = next(buffer for name, buffer in loaded.named_buffers() if name.endswith("running_var"))
    assert float(found[0]) == 7e4
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(loaded(image).coordinate, detector(image).coordinate, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    detector = Detector(**SMALL)
    with torch.no_grad():
        next(one for one in detector.parameters() if one.ndim == 1)[0] = value
    path = save_detector(detector, tmp_path / "one")
    with pytest.raises(InputError, match=r"one\.safetensors: \S+ holds infinity or what is no number"):
        load_detector(path)
