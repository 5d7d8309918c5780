"""Labels from geometry: triangulated points or a registered surface, seen again by all views of their instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor
from torch.nn import functional

from dkp.captures import Capture, CaptureWriter, SparseLabel, View
from dkp.geometry import Camera, pixel_grid
from dkp.reconstruction import Reconstructor, SurfaceRegistration, depth_map, in_sight

_CELLS = 32
"""Cells of the depth maps along the longer side of an image."""


class PseudoLabelWriter(BasePredictionWriter):
    """Label the predicted views of a capture with what all views of their instant say together.

    Without a registration, the points that the views of an instant agree on are projected into all of its views. A view
    that took part in a point is labelled with it where it sees the point now; another view is, where the point is not
    behind other points and lies on the foreground that the detector predicts. The view's mask is that foreground.

    With a registration, the surface as a whole is brought to where the views see it, and each view is labelled with the
    points that it shows to it. The view's mask is the captured one, where it has one. Instants whose pixels do not
    agree with the surface are left out.

    What is outside of a mask is labelled background, and what is inside without a point stays unknown.

    Args:
        capture: that the predictions are of.
        writer: of the capture to write, inside its ``with`` block.
        reconstructor: the surface points, and how they are triangulated.
        registration: of the surface; None = the points are triangulated each for itself.
        least_agreement: mean weight of the pixels of an instant whose registered surface is believed.
        captured_masks: whether a registration looks at the captured masks; if not, or where there is none, it takes the
            predicted foreground.

    Attributes:
        frames: the frames that were written.
        refused: the frames whose surface was not believed.
        points: how many labelled points were written.
    """

    def __init__(
        self,
        capture: Capture,
        writer: CaptureWriter,
        reconstructor: Reconstructor,
        registration: SurfaceRegistration | None = None,
        least_agreement: float = 0.28,
        captured_masks: bool = True,
    ) -> None:
        super().__init__(write_interval="batch")
        self.capture = capture
        self.writer = writer
        self.reconstructor = reconstructor
        self.registration = registration
        self.least_agreement = least_agreement
        self.captured_masks = captured_masks and registration is not None
        self.frames: list[str] = []
        self.refused: list[str] = []
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
        """Find the surface in the instants of one batch and write their views."""
        camera, present, foreground = batch["camera"], batch["present"], prediction["foreground"].float()
        coordinate = prediction["coordinate"]
        if self.registration is None:
            points, labelled = self._triangulated(coordinate, foreground, camera, present)
            believed = torch.ones_like(present[:, 0])
        else:
            points, labelled, believed = self._registered(coordinate, foreground, batch)
        for instant in present.any(1).nonzero()[:, 0].tolist():
            (self.frames if believed[instant] else self.refused).append(str(batch["frame"][instant]))
        for instant, slot in (present & believed[:, None]).nonzero().tolist():
            view = self._views[str(batch["frame"][instant]), batch["camera_name"][instant][slot]]
            mask = self.capture.mask(view) if self.captured_masks else None
            if mask is None:
                mask = self._mask(view, camera[instant, slot], foreground[instant, slot])
            self._write(view, points[instant], labelled[instant, slot], mask)

    def _triangulated(
        self, coordinate: Tensor, foreground: Tensor, camera: Camera, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Triangulated points (B, N, 3) and which views (B, V, N) they label."""
        found = self.reconstructor(coordinate, foreground, camera, present)
        depths = depth_map(found.points, camera, _CELLS)
        pixels, seen = in_sight(found.points, camera, depths, self.reconstructor.tolerance)
        size = camera.image_size
        shown = sample_cells(foreground.flatten(0, 1), pixels.flatten(0, 1), size.flatten(0, 1)).unflatten(
            0, present.shape
        )
        return found.points, found.inliers | (seen & (shown > self.reconstructor.settings.foreground))

    def _registered(
        self, coordinate: Tensor, foreground: Tensor, batch: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points (B, N, 3) of registered surfaces, the views (B, V, N) they label, and which surfaces are believed."""
        assert self.registration is not None
        camera, present = batch["camera"], batch["present"]
        mask = None
        if self.captured_masks and batch.get("mask") is not None:
            size = (foreground.shape[-2], foreground.shape[-1])
            mask = functional.adaptive_avg_pool2d(batch["mask"].to(foreground).flatten(0, 1), size) > 0.5
            mask = mask.unflatten(0, present.shape)
        found = self.registration(coordinate, foreground, camera, present, mask)
        vertices = found.vertices.nan_to_num().to(coordinate)
        return (
            self.reconstructor.positions(vertices),
            self.reconstructor.visible(vertices, camera),
            found.agreement >= self.least_agreement,
        )

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
