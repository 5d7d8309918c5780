from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from dkp.callbacks import PredictionWriter
from dkp.callbacks.predictions import prediction_arrays
from dkp.errors import InputError
from dkp.geometry import Camera
from dkp.surface import Surface


@pytest.fixture
def surface():
    return Surface.plane(0.4, 0.4, 0.1)


def test_vertices_are_the_nearest_ones_on_the_foreground(surface):
    vertices = torch.from_numpy(surface.vertices).float()
    coordinate = (vertices[:4] + torch.tensor([0.02, 0.01, 0.03])).T.reshape(3, 2, 2)
    view = {"foreground": torch.tensor([[0.9, 0.8], [0.2, 0.51]]), "coordinate": coordinate}
    arrays = prediction_arrays(view, surface, 0.5)
    assert arrays["vertex"].tolist() == [[0, 1], [-1, 3]]
    assert arrays["vertex"].dtype == np.int32
    assert arrays["foreground"].dtype == np.float16
    np.testing.assert_allclose(arrays["coordinate"][0, 1], coordinate[:, 0, 1].numpy())


def test_charts_keep_part_and_uv(surface):
    view = {
        "foreground": torch.zeros(2, 3),
        "coordinate": torch.zeros(3, 2, 3),
        "part": torch.tensor([[0, 1, 2], [3, 24, 0]]),
        "uv": torch.rand(2, 2, 3),
    }
    arrays = prediction_arrays(view, surface, 0.5)
    assert (arrays["vertex"] == -1).all()
    assert arrays["part"].tolist() == view["part"].tolist()
    np.testing.assert_array_equal(arrays["uv"][1, 2], view["uv"][:, 1, 2].numpy())


def test_views_that_are_present_are_written_and_errors_are_not_lost(surface, tmp_path):
    writer = PredictionWriter(str(tmp_path / "out"))
    trainer = pl.Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)
    task = SimpleNamespace(surface=surface)
    writer.setup(trainer, task, "predict")
    camera = Camera.create(
        torch.eye(3).expand(1, 2, 3, 3), image_size=torch.tensor([8.0, 8.0]).expand(1, 2, 2), translation=None
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "f0.npz.partial").write_text("half")
    batch = {
        "image": torch.zeros(1, 2, 3, 8, 8),
        "present": torch.tensor([[True, False]]),
        "frame": ["f1"],
        "camera_name": [["left", ""]],
        "camera": camera,
        "origin": [[0.0, 1.0, 2.0]],
    }
    prediction = {"foreground": torch.rand(1, 2, 4, 4), "coordinate": torch.rand(1, 2, 3, 4, 4)}
    writer.write_on_batch_end(trainer, task, prediction, None, batch, 0, 0)
    writer.on_predict_end(trainer, task)
    writer.teardown(trainer, task, "predict")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.npz*")] == ["out/f1/left.npz"]
    with np.load(tmp_path / "out/f1/left.npz") as arrays:
        assert arrays["stride"] == 2
        assert arrays["rotation"].shape == (3, 3)
        assert arrays["image_size"].tolist() == [8, 8]
        assert arrays["origin"].tolist() == [0, 1, 2]

    (tmp_path / "taken").write_text("a file where a folder is expected")
    writer = PredictionWriter(str(tmp_path / "taken"))
    writer.setup(trainer, task, "predict")
    writer.write_on_batch_end(trainer, task, prediction, None, batch, 0, 0)
    with pytest.raises(InputError, match=r"taken.* cannot be written"):
        writer.on_predict_end(trainer, task)
    writer.teardown(trainer, task, "predict")


def test_a_writer_without_any_folder_is_an_input_error(tmp_path):
    trainer = pl.Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)
    with pytest.raises(InputError, match=r"PredictionWriter\.out"):
        PredictionWriter().setup(trainer, SimpleNamespace(), "predict")


@pytest.mark.parametrize("kind", ["embedding", "charts"])
def test_pictures_show_the_field(surface, tmp_path, kind):
    """A plane whose cells on the right half show the surface."""
    x, y = torch.meshgrid((torch.arange(4) + 0.5) / 10, (torch.arange(4) + 0.5) / 10, indexing="xy")
    foreground = (x > 0.2).float() * 0.9
    view = {"foreground": foreground, "coordinate": torch.stack([x, y, torch.zeros(4, 4)])}
    face, weights, _ = surface.locate(view["coordinate"].double().numpy().transpose(1, 2, 0).reshape(-1, 3))
    part, uv = surface.charts(face, weights)
    if kind == "charts":
        view |= {"part": torch.from_numpy(part.astype(np.int64)).view(4, 4)}
        view |= {"uv": torch.from_numpy(uv).T.reshape(2, 4, 4)}
    writer = PredictionWriter(str(tmp_path), overlay=True, iuv=True)
    writer._write(tmp_path / "f" / "left.npz", view, surface, {}, torch.full((3, 8, 8), 0.5))
    read = cv2.imread(str(tmp_path / "f" / "left_iuv.png"), cv2.IMREAD_UNCHANGED)
    assert not read[:, :4].any()
    np.testing.assert_array_equal(read[1::2, 5::2, 0], part.reshape(4, 4)[:, 2:])
    np.testing.assert_allclose(read[1::2, 5::2, 1:], 255 * uv.reshape(4, 4, 2)[:, 2:], atol=0.51)
    drawn = cv2.imread(str(tmp_path / "f" / "left.png"))
    assert (np.abs(drawn[:, :3].astype(int) - 128) <= 1).all()
    assert (np.abs(drawn[:, 6:].astype(int) - 128).max(-1) > 10).all()
    assert (tmp_path / "f" / "left.npz").is_file()
