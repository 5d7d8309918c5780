"""Dumps of DensePose and its table of charts: read without running anything that a file holds."""

import pickle
import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.io import savemat

from dkp.captures import Capture
from dkp.errors import InputError
from dkp.importers.densepose import read_densepose_charts, read_dump
from dkp.importers.fields import import_fields, read_charts
from dkp.pipeline.compare_labels import compare_labels


@pytest.fixture
def result(monkeypatch):
    """Detectron2's class of results under its own name, only while files are written."""

    @dataclass
    class DensePoseChartResultWithConfidences:
        labels: torch.Tensor
        uv: torch.Tensor
        sigma_1: torch.Tensor | None = None

    own = DensePoseChartResultWithConfidences
    own.__module__, own.__qualname__ = "densepose.structures.chart_result", own.__name__
    for name in ("densepose", "densepose.structures", own.__module__):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    setattr(sys.modules[own.__module__], own.__name__, own)
    return own


def entry(result, name, part, uv, box, scores=(0.3, 0.9)):
    """An entry with a person that does not count and one that does."""
    nobody = result(torch.zeros(2, 2), torch.zeros(2, 2, 2))
    person = result(torch.as_tensor(part), torch.as_tensor(uv), torch.ones(2))
    boxes = torch.tensor([[0.0, 0, 2, 2], box])
    return {
        "file_name": name,
        "scores": torch.tensor(scores),
        "pred_boxes_XYXY": boxes,
        "pred_densepose": [nobody, person],
    }


def test_a_dump_labels_a_capture(planes, result, tmp_path, monkeypatch):
    capture = Capture.open(planes / "labelled")
    entries = []
    for view in capture.views:
        label = capture.label(view)
        part, uv = capture.surface.charts(np.maximum(label.face, 0), label.barycentric)
        shown = label.face >= 0
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        cut = slice(box[1], box[3]), slice(box[0], box[2])
        inside = (part * shown)[cut], (uv * shown[..., None])[cut].transpose(2, 0, 1).astype(np.float32)
        entries.append(entry(result, f"data/{view.camera}/{view.frame}.png", *inside, [float(n) + 0.4 for n in box]))
    torch.save(entries, tmp_path / "dump.pkl")
    monkeypatch.undo()
    assert "densepose" not in sys.modules
    import_fields(capture.path, tmp_path / "dump.pkl", tmp_path / "out")
    found = compare_labels(f"{tmp_path / 'out'}#", f"{capture.path}#", size=32)
    assert found.geodesic_median_cm < 2.5
    assert found.iou > 0.9
    assert "densepose" not in sys.modules


class Runs:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda result: Runs(),
            r"is not read \(it (asks for \S*exec|is damaged, or holds more than tensors)\), expected a dump of",
        ),
        (lambda result: [entry(result, "a/b.png", Runs(), 0, [0, 0, 1, 1])], r"asks for|expected"),
        (
            lambda result: {"a": 1},
            r"is no list of entries with file_name, scores, pred_boxes_XYXY, pred_densepose|is not read",
        ),
    ],
)
def test_code_in_a_file_is_refused(result, tmp_path, monkeypatch, save, make, match):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "as_tensor", lambda value: value)
    save(make(result), tmp_path / "dump.pkl")
    with pytest.raises(InputError, match=match):
        read_dump(tmp_path / "dump.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"part": np.full((2, 2), 30)}, "up to 30.0 and uv"),
        ({"uv": np.zeros((2, 3, 2))}, r"expected \(h, w\) of 0 to 24 and \(2, h, w\)"),
        ({"box": [0, 0, 1e9, 1]}, "has the box"),
        ({"uv": np.full((2, 2, 2), np.nan)}, "not finite"),
        ({"scores": (0.1, 0.2, 0.3)}, "has 3 scores and boxes of shape"),
    ],
)
def test_wrong_values_are_named(result, tmp_path, changes, match):
    given = {"part": np.ones((2, 2)), "uv": np.zeros((2, 2, 2)), "box": [0, 0, 2, 2]} | changes
    torch.save([entry(result, "a/b.png", **given)], tmp_path / "dump.pkl")
    with pytest.raises(InputError, match=match):
        read_dump(tmp_path / "dump.pkl")
    (tmp_path / "dump.pkl").write_bytes((tmp_path / "dump.pkl").read_bytes()[:200])
    with pytest.raises(InputError, match="is not read"):
        read_dump(tmp_path / "dump.pkl")


def test_the_published_table_of_charts(planes, tmp_path):
    """Its layout, here of a square of two parts whose common edge has a vertex in each."""
    surface = Capture.open(planes / "labelled").surface
    count = len(surface.vertices)
    u, v = (surface.vertices[:, :2] / surface.vertices[:, :2].max(0)).T
    layout = {
        "All_U_norm": u[:, None], "All_V_norm": v[:, None], "All_vertices": np.arange(1, count + 1)[None],
        "All_Faces": surface.faces + 1, "All_FaceIndices": np.full((len(surface.faces), 1), 3),
    }  # fmt: skip
    savemat(tmp_path / "UV_Processed.mat", layout)
    arrays = read_densepose_charts(tmp_path / "UV_Processed.mat")
    assert set(arrays["part"].tolist()) == {3}
    np.testing.assert_allclose(arrays["uv"], np.stack([u, v], -1))
    charts, parts = read_charts(tmp_path / "UV_Processed.mat", surface)
    face, weights = charts(np.array([3]), np.array([[u[17], v[17]]]))
    np.testing.assert_allclose(surface.coordinates(face, weights)[0], surface.vertices[17], atol=1e-6)
    assert parts == 3
    savemat(tmp_path / "other.mat", layout | {"All_vertices": np.arange(2, count + 2)[None]})
    with pytest.raises(InputError, match=rf"has vertices 1 to {count + 1}, expected the {count} of the surface"):
        read_charts(tmp_path / "other.mat", surface)
    for key, value in (
        ("All_Faces", surface.faces),
        ("All_U_norm", u[:5]),
        ("All_FaceIndices", np.full((len(surface.faces), 1), 2.5)),
    ):
        savemat(tmp_path / "bad.mat", layout | {key: value})
        with pytest.raises(InputError, match=r"bad\.mat: All_"):
            read_charts(tmp_path / "bad.mat", surface)
