"""Labels from geometry: triangulated surface points, seen again by all views of their instant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor
from torch.nn import functional

from dkp.captures import Capture, CaptureWriter, SparseLabel, View
from dkp.geometry import Camera, pixel_grid
from dkp.reconstruction import Reconstructor, depth_map, in_sight

_CELLS = 32
"""Cells of the depth maps along the longer side of an image."""


class PseudoLabelWriter(BasePredictionWriter):
    """Label the predicted views of a capture with the triangulated points of their own instant.

    The points that the views of an instant agree on are projected into all of its views. A view that took part in a
    point is labelled with it where it sees the point now; another view is, where the point is not behind other points
    and lies on the foreground that the detector predicts. The view's mask is that foreground, so what is outside of it
    is labelled background, and what is inside without a point stays unknown.

    Args:
        capture: that the predictions are of.
        writer: of the capture to write, inside its ``with`` block.
        reconstructor: the surface points, and how they are triangulated.

    Attributes:
        frames: the frames that were written.
        points: how many labelled points were written.
    """

    def __init__(self, capture: Capture, writer: CaptureWriter, reconstructor: Reconstructor) -> None:
        super().__init__(write_interval="batch")
        self.capture = capture
        self.writer = writer
        self.reconstructor = reconstructor
        self.frames: list[str] = []
        self.points = 0
        self._views = {(view.frame, view.camera): view for view in capture.views}

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
        """Triangulate the instants of one batch and write their views."""
        camera, present, foreground = batch["camera"], batch["present"], prediction["foreground"].float()
        found = self.reconstructor(prediction["coordinate"], foreground, camera, present)
        depths = depth_map(found.points, camera, _CELLS)
        pixels, seen = in_sight(found.points, camera, depths, self.reconstructor.tolerance)
        size = camera.image_size
        shown = sample_cells(foreground.flatten(0, 1), pixels.flatten(0, 1), size.flatten(0, 1)).unflatten(
            0, present.shape
        )
        labelled = found.inliers | (seen & (shown > self.reconstructor.settings.foreground))
        for instant, slot in present.nonzero().tolist():
            frame = str(batch["frame"][instant])
            view = self._views[frame, batch["camera_name"][instant][slot]]
            if frame not in self.frames[-1:]:
                self.frames.append(frame)
            chosen = labelled[instant, slot]
            mask = self._mask(view, camera[instant, slot], foreground[instant, slot])
            self._write(view, found.points[instant], chosen, mask)

    def _mask(self, view: View, camera: Camera, foreground: Tensor) -> np.ndarray:
        """The predicted foreground (h, w) of a stored view; its camera may have a lens and another size."""
        stored = self.capture.camera(view)
        width, height = view.size
        pixels = stored.undistort(pixel_grid(height, width, dtype=torch.float64).reshape(-1, 2))
        seen = camera.to("cpu", torch.float64)
        change = seen.intrinsics @ torch.linalg.inv(stored.intrinsics)  # the pose is the same: no augmentation
        pixels = pixels @ change[:2, :2].T + change[:2, 2]
        values = sample_cells(foreground.cpu()[None], pixels[None], seen.image_size[None])
        return (values > self.reconstructor.settings.foreground).reshape(height, width).numpy()

    def _write(self, view: View, points: Tensor, chosen: Tensor, mask: np.ndarray) -> None:
        capture = self.capture
        pixels, depth = (value.numpy() for value in capture.camera(view).project(points.cpu().double()))
        inside = ((pixels >= 0) & (pixels <= view.size)).all(axis=1) & (depth > 0) & chosen.cpu().numpy()
        samples = self.reconstructor.samples
        label = None
        if inside.any():
            label = SparseLabel(
                pixels[inside], samples.face[inside].astype(np.int32), samples.barycentric[inside].astype(np.float32)
            )
            self.points += int(inside.sum())
        self.writer.add_view(
            view.frame,
            view.camera,
            capture.path / view.image,
            sequence=view.sequence,
            time=view.time,
            mask=mask,
            points=label,
            crop=view.crop,
            undistorted=view.undistorted,
            override=None if view.override is None else capture.rig_camera(view),
            joints=view.joints,
            domain=view.domain,
        )


def sample_cells(field: Tensor, pixels: Tensor, image_size: Tensor) -> Tensor:
    """A field's values at sub-pixel places, bilinear between cell centres; 0 outside the image.

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
