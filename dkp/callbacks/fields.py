"""The fields of all views of an instant, handed from the detector to workers that make something of them together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor
from torch.nn import functional

from dkp.batches import MultiviewBatch
from dkp.geometry import Camera
from dkp.workers import Workers

Result = TypeVar("Result")


@dataclass
class Fields:
    """What a detector says of the views of some instants.

    Attributes:
        frame: (B,) frame ids.
        camera_name: (B, V).
        camera: (B, V), of the images that the detector saw.
        present: (B, V) bool.
        coordinate: (B, V, 3, H, W) [m].
        foreground: (B, V, H, W) probability.
        origin: (B, 3) [m], where the world of the cameras has its origin in the capture's.
        image: (B, V, 3, h, w) in [0, 1].
        mask: (B, V, h, w) bool, the captured masks, or None.
        joints: (B, V, J, 3) detected keypoints, x, y [px] of the images and confidence, or None.
    """

    frame: list[str]
    camera_name: list[list[str]]
    camera: Camera
    present: Tensor
    coordinate: Tensor
    foreground: Tensor
    origin: Tensor
    image: Tensor
    mask: Tensor | None
    joints: Tensor | None = None

    @classmethod
    def of_batch(cls, batch: MultiviewBatch, coordinate: Tensor, foreground: Tensor) -> Fields:
        """Fields of the views of a batch: (B, V, 3, H, W) [m] and (B, V, H, W)."""
        origin = torch.tensor(batch["origin"], dtype=torch.float64)
        views = (batch["camera_name"], batch["camera"], batch["present"], coordinate, foreground.float())
        seen = batch["image"], batch.get("mask"), batch.get("joints")
        return cls([str(frame) for frame in batch["frame"]], *views, origin, *seen)

    def cpu(self) -> Fields:
        """On the CPU."""
        mask, joints = (None if one is None else one.cpu() for one in (self.mask, self.joints))
        views = self.camera.to("cpu"), self.present.cpu(), self.coordinate.cpu(), self.foreground.cpu()
        return Fields(self.frame, self.camera_name, *views, self.origin, self.image.cpu(), mask, joints)


class FieldsCallback(BasePredictionWriter, Generic[Result]):
    """Has the fields of each predicted batch worked on, and takes the results in the order of the batches.

    Subclasses write `take`.

    Args:
        workers: inside their ``with`` block.
    """

    def __init__(self, workers: Workers[Fields, Result]) -> None:
        super().__init__(write_interval="batch")
        self.workers = workers
        self._waiting: deque[Future[Result]] = deque()

    def take(self, found: Result) -> None:
        """Do something with what was made of a batch."""
        raise NotImplementedError

    def hand_over(self, fields: Fields) -> None:
        """Hand the instants of one batch to the workers, and take what they have done."""
        self._waiting.append(self.workers.submit(fields if self.workers.alone else fields.cpu()))
        self.finish(self.workers.ahead)

    def finish(self, rest: int = 0) -> None:
        """Take results until so many wait."""
        while len(self._waiting) > rest:
            self.take(self.workers.result(self._waiting.popleft()))

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Hand one batch to the workers."""
        self.hand_over(Fields.of_batch(batch, prediction["coordinate"], prediction["foreground"]))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the rest."""
        self.finish()


def silhouettes(fields: Fields) -> Tensor | None:
    """(B, V, H, W) bool, the captured masks as cells of the fields; None where there are none."""
    if fields.mask is None:
        return None
    foreground = fields.foreground
    size = (foreground.shape[-2], foreground.shape[-1])
    share: Tensor = functional.adaptive_avg_pool2d(fields.mask.to(foreground).flatten(0, 1), size)
    inside: Tensor = (share > 0.5).unflatten(0, foreground.shape[:2])
    return inside


def sample_cells(field: Tensor, pixels: Tensor, image_size: Tensor) -> Tensor:
    """Return a field's values at sub-pixel places, bilinear between cell centres; 0 outside the image.

    Args:
        field: (R, H, W).
        pixels: (R, N, 2) [px] of the image.
        image_size: (R, 2) width and height [px].

    Returns:
        (R, N).
    """
    size = image_size.to(pixels)[:, None]
    inside = ((pixels >= 0) & (pixels <= size)).all(-1)
    grid = torch.where(inside[..., None], 2 * pixels / size - 1, 0.0).to(field)[:, :, None]
    values = functional.grid_sample(field[:, None], grid, padding_mode="border", align_corners=False)[:, 0, :, 0]
    return torch.where(inside, values, 0.0)
