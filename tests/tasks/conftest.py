"""Batches of a textured plane seen by three cameras, exact and made in memory."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from dkp.geometry import Camera, pixel_grid
from dkp.models import Detector
from dkp.surface import Surface

SIZE, STRIDE, VIEWS = 32, 2, 3
SIDE = 0.4


def texture(points: Tensor) -> Tensor:
    """(..., 2) [m] -> (3, ...) colours that differ over the whole plane."""
    x, y = points.unbind(-1)
    return torch.stack([0.5 + x / SIDE, 0.5 + y / SIDE, 0.5 + 0.5 * torch.sin(40 * x) * torch.cos(40 * y)]).clamp(0, 1)


def instant(seed: int) -> dict[str, Any]:
    """One instant: the plane z = 0 from three cameras around a random place."""
    generator = torch.Generator().manual_seed(seed)
    angle = (torch.rand(VIEWS, generator=generator) - 0.5) * 0.8
    tilt = torch.tensor([-0.5, 0.0, 0.5])
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros(VIEWS), torch.ones(VIEWS)
    roll = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).view(VIEWS, 3, 3)
    cos, sin = tilt.cos(), tilt.sin()
    yaw = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).view(VIEWS, 3, 3)
    rotation = roll @ yaw
    intrinsics = torch.tensor([[60.0, 0, SIZE / 2], [0, 60.0, SIZE / 2], [0, 0, 1]]).expand(VIEWS, 3, 3)
    camera = Camera.create(
        intrinsics,
        rotation=rotation,
        translation=torch.tensor([0.0, 0.0, 1.0]).expand(VIEWS, 3),
        image_size=torch.full((VIEWS, 2), float(SIZE)),
    )

    def plane(stride: int) -> tuple[Tensor, Tensor]:
        pixels = pixel_grid(SIZE // stride, SIZE // stride, stride).reshape(1, -1, 2).expand(VIEWS, -1, 2)
        ends = [camera.unproject(pixels, torch.full(pixels.shape[:2], depth)) for depth in (1.0, 2.0)]
        share = ends[0][..., 2] / (ends[0][..., 2] - ends[1][..., 2])
        points = (ends[0] + share[..., None] * (ends[1] - ends[0]))[..., :2]
        points = points.view(VIEWS, SIZE // stride, SIZE // stride, 2)
        return points, (points.abs() <= SIDE / 2).all(-1)

    points, inside = plane(1)
    image = torch.where(inside, texture(points), torch.full((3, 1, 1, 1), 0.1)).transpose(0, 1)
    points, foreground = plane(STRIDE)
    coordinate = torch.cat([points + SIDE / 2, torch.zeros_like(points[..., :1])], -1).movedim(-1, 1)
    return {
        "image": image.contiguous(),
        "camera": camera,
        "present": torch.ones(VIEWS, dtype=torch.bool),
        "pairs": torch.tensor([[0, 1], [0, 2], [1, 2]]),
        "pair_valid": torch.ones(3, dtype=torch.bool),
        "mask": inside,
        "frame": f"f{seed}",
        "camera_name": ["a", "b", "c"],
        "coordinate": coordinate,
        "foreground": foreground,
        "known": torch.ones_like(foreground),
        "has_label": torch.ones(VIEWS, dtype=torch.bool),
    }


def multiview_batch(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Instants to a multiview batch."""
    batch: dict[str, Any] = {}
    for key, first in items[0].items():
        values = [item[key] for item in items]
        batch[key] = (
            Camera.stack(values) if key == "camera" else torch.stack(values) if isinstance(first, Tensor) else values
        )
    return batch


def labelled_batch(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Instants to a labelled batch of all their views."""
    batch = multiview_batch(items)
    count = len(items) * VIEWS
    keys = [key for key in ("image", "coordinate", "foreground", "known", "part", "uv") if key in batch]
    labelled = {key: batch[key].flatten(0, 1) for key in keys}
    return labelled | {"camera": batch["camera"].reshape(count)}


class PlaneData(pl.LightningDataModule):
    """A few instants of the plane."""

    def __init__(self, kind: str = "both", instants: int = 4, batch: int = 2, **changes: Any) -> None:
        super().__init__()
        self.kind = kind
        self.items = [instant(seed) | changes for seed in range(instants)]
        self.held_out = [instant(seed) for seed in range(100, 103)]
        self.batch = batch

    def train_dataloader(self) -> Any:
        labelled = DataLoader(self.items, batch_size=self.batch, collate_fn=labelled_batch)
        unlabelled = DataLoader(self.items, batch_size=self.batch, collate_fn=multiview_batch)
        loaders = {"labelled": labelled, "unlabelled": unlabelled}
        chosen = loaders if self.kind == "both" else {self.kind: loaders[self.kind]}
        return CombinedLoader(chosen, "max_size_cycle")

    def val_dataloader(self) -> Any:
        return DataLoader(self.held_out, batch_size=2, collate_fn=multiview_batch)

    test_dataloader = predict_dataloader = val_dataloader


@pytest.fixture(scope="session")
def plane() -> Surface:
    return Surface.plane(SIDE, SIDE, 0.05)


@pytest.fixture
def make_detector(plane):
    def make(seed: int = 0, **options: Any) -> Detector:
        torch.manual_seed(seed)
        centre, half_extent = plane.bounds
        chosen = {"width": 8, "levels": 3, "stride": STRIDE, "head_width": 16} | options
        return Detector(surface_centre=centre.tolist(), surface_half_extent=half_extent.tolist(), **chosen)

    return make


@pytest.fixture
def make_trainer(tmp_path):
    def make(**options: Any) -> pl.Trainer:
        chosen = {
            "max_epochs": 1,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return pl.Trainer(**(chosen | options))

    return make


@pytest.fixture
def plane_data():
    return PlaneData


@pytest.fixture
def plane_batch():
    return lambda count=2: multiview_batch([instant(seed) for seed in range(count)])
