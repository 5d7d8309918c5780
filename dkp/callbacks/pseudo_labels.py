"""Labels from geometry: triangulated points or a registered surface, seen again by all views of their instant."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkp.callbacks.fields import Fields, FieldsCallback, sample_cells, silhouettes
from dkp.captures import Capture, CaptureWriter, SparseLabel, View, write_truth, write_view_files
from dkp.geometry import Camera, pixel_grid
from dkp.reconstruction import (
    ReconstructionSettings,
    Reconstructor,
    RegistrationSettings,
    SurfaceRegistration,
    depth_map,
    in_sight,
)
from dkp.workers import Workers

_CELLS = 32
"""Cells of the depth maps along the longer side of an image."""


@dataclass
class Labelled:
    """What was written of some instants.

    Attributes:
        rows: of the views, for the capture's writer.
        frames: that were written.
        refused: frames whose surface was not believed.
        points: how many labelled points.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    points: int = 0


class InstantLabeller:
    """Writes the views of instants with what all of them say together as labels.

    By triangulation, the points that the views of an instant agree on are projected into all of its views. A view that
    took part in a point is labelled with it where it sees the point now; another view is, where the point is not behind
    other points and lies on the foreground that the detector predicts. The view's mask is that foreground.

    By registration, the surface as a whole is brought to where the views see it, and each view is labelled with the
    points that it shows to it. The view's mask is the captured one, where it has one. Instants whose pixels do not
    agree with the surface are left out, and so are parts of the surface. The surfaces are written as well, as the
    capture's posed surfaces.

    What is outside of a mask is labelled background, and what is inside without a point stays unknown.

    Args:
        capture: path of the capture that the fields are of.
        folder: of the writer of the new capture.
        settings: which surface points, and how they are triangulated.
        method, registration, least_agreement, least_region, captured_masks, keypoints: options of `dkp pseudo-label`.
    """

    def __init__(
        self,
        capture: str | Path,
        folder: Path,
        settings: ReconstructionSettings,
        method: str = "triangulation",
        registration: RegistrationSettings | None = None,
        least_agreement: float = 0.28,
        least_region: float = 0.2,
        captured_masks: bool = True,
        keypoints: Sequence[str] = (),
    ) -> None:
        self.capture = Capture.open(capture)
        self.folder = folder
        self.reconstructor = Reconstructor(self.capture.surface, settings)
        registered = method == "registration"
        surface = self.capture.surface
        self.registration = SurfaceRegistration(surface, registration, keypoints) if registered else None
        self.least_agreement = least_agreement
        self.least_region = least_region
        self.captured_masks = captured_masks and registered
        self._views = {(view.frame, view.camera): view for view in self.capture.views}

    def __call__(self, fields: Fields) -> Labelled:
        """Find the surface in some instants and write their views."""
        camera, present, foreground = fields.camera, fields.present, fields.foreground
        vertices = None
        if self.registration is None:
            points, labelled = self._triangulated(fields.coordinate, foreground, camera, present)
            believed = torch.ones_like(present[:, 0])
        else:
            vertices, points, labelled, believed = self._registered(self.registration, fields)
        result = Labelled()
        for instant in present.any(1).nonzero()[:, 0].tolist():
            (result.frames if believed[instant] else result.refused).append(fields.frame[instant])
            if vertices is not None and believed[instant]:
                posed = vertices[instant].cpu().double() + fields.origin[instant].cpu()
                write_truth(self.folder, fields.frame[instant], posed.numpy(), unit=self.capture.unit)
        for instant, slot in (present & believed[:, None]).nonzero().tolist():
            view = self._views[fields.frame[instant], fields.camera_name[instant][slot]]
            mask = self.capture.mask(view) if self.captured_masks else None
            if mask is None:
                mask = self._mask(view, camera[instant, slot], foreground[instant, slot])
            world = points[instant].cpu().double() + fields.origin[instant].cpu()
            row, count = self._write(view, world, labelled[instant, slot], mask)
            result.rows.append(row)
            result.points += count
        return result

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

    def _registered(self, registration: SurfaceRegistration, fields: Fields) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return registered surfaces: vertices (B, M, 3), points (B, N, 3), views (B, V, N) they label, trust (B)."""
        coordinate, foreground, camera, present = fields.coordinate, fields.foreground, fields.camera, fields.present
        mask = silhouettes(fields) if self.captured_masks else None
        found = registration(coordinate, foreground, camera, present, mask, fields.joints)
        vertices = found.vertices.nan_to_num().to(coordinate)
        seen = self.reconstructor.visible(vertices, camera)
        corners = self.reconstructor.samples.corners(found.region[..., None])[..., 0]
        agree = (corners >= self.least_region * found.agreement[:, None, None]).all(-1)
        believed = (found.agreement >= self.least_agreement) & found.vertices.isfinite().all(-1).all(-1)
        return vertices, self.reconstructor.positions(vertices), seen & agree[:, None], believed

    def _mask(self, view: View, camera: Camera, foreground: Tensor) -> np.ndarray:
        """Return the predicted foreground (h, w) of a stored view; its camera may have a lens and another size."""
        stored = self.capture.camera(view)
        width, height = view.size
        pixels = stored.undistort(pixel_grid(height, width, dtype=torch.float64).reshape(-1, 2))
        seen = camera.to("cpu", torch.float64)
        change = seen.intrinsics @ torch.linalg.inv(stored.intrinsics)  # the pose is the same: no augmentation
        pixels = pixels @ change[:2, :2].T + change[:2, 2]
        values = sample_cells(foreground.cpu()[None], pixels[None], seen.image_size[None])
        return (values > self.reconstructor.settings.foreground).reshape(height, width).numpy()

    def _write(self, view: View, points: Tensor, chosen: Tensor, mask: np.ndarray) -> tuple[dict[str, Any], int]:
        """Write a view; its row, and how many points label it."""
        capture = self.capture
        pixels, depth = (value.numpy() for value in capture.camera(view).project(points))
        inside = ((pixels >= 0) & (pixels <= view.size)).all(axis=1) & (depth > 0) & chosen.cpu().numpy()
        samples = self.reconstructor.samples
        label = None
        if inside.any():
            label = SparseLabel(
                pixels[inside], samples.face[inside].astype(np.int32), samples.barycentric[inside].astype(np.float32)
            )
        row = write_view_files(
            self.folder,
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
            unit=capture.unit,
        )
        return row, int(inside.sum())


class PseudoLabelWriter(FieldsCallback[Labelled]):
    """Label the predicted views of a capture with what all views of their instant say together.

    Args:
        workers: do it, see `InstantLabeller`; inside their ``with`` block.
        writer: of the capture to write, inside its ``with`` block.

    Attributes:
        frames: the frames that were written.
        refused: the frames whose surface was not believed.
        points: how many labelled points were written.
    """

    def __init__(self, workers: Workers[Fields, Labelled], writer: CaptureWriter) -> None:
        super().__init__(workers)
        self.writer = writer
        self.frames: list[str] = []
        self.refused: list[str] = []
        self.points = 0

    def take(self, found: Labelled) -> None:
        """Add the views of some instants."""
        self.frames += found.frames
        self.refused += found.refused
        self.points += found.points
        for row in found.rows:
            self.writer.add_row(row)
