"""Reading a capture: a folder with a rig of calibrated cameras, their images and, where they exist, labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from dkp.captures.arrays import parse_slice
from dkp.captures.images import read_image, read_mask
from dkp.captures.labels import (
    DenseLabel,
    SparseLabel,
    normalised,
    read_dense_label,
    read_npz,
    read_sparse_label,
)
from dkp.captures.manifest import CAPTURE_FILE, Instant, Manifest, View, instants_of, read_manifest, read_views
from dkp.captures.rig import METRES_PER_UNIT, overridden
from dkp.errors import InputError
from dkp.geometry import Camera

if TYPE_CHECKING:
    from dkp.surface import Surface

Label = TypeVar("Label", DenseLabel, SparseLabel)


class Capture:
    """An opened capture. Open one with :meth:`open`, write one with :class:`dkp.captures.writer.CaptureWriter`.

    Lengths are metres and pixel centres lie at integer + 0.5, whatever the capture's own unit. A capture holds only
    plain data, so data-loading workers can take a copy of it.

    Attributes:
        path: the folder.
        name: the capture's name.
        unit: "m", "cm" or "mm", the unit of the files.
        source: where the data come from, free text.
        licence: under which licence, free text.
        fps: how many units of a view's `time` are a second; None where nothing says it.
        splits: split name -> frame ids.
        cameras: rig camera name -> camera: float64, no batch dimension, metres, with lens distortion.
        views: all views, in the order of ``views.jsonl``.
    """

    def __init__(self, path: Path, manifest: Manifest, views: list[View]):
        self.path = path
        self.name = manifest.name
        self.unit = manifest.unit
        self.source = manifest.source
        self.licence = manifest.licence
        self.fps = manifest.fps
        self.splits: dict[str, list[str]] = manifest.splits
        self.cameras: dict[str, Camera] = manifest.cameras
        self.views = views
        self._surface_name = manifest.surface

    @classmethod
    def open(cls, path: str | Path, *, allow_missing: bool = False) -> Capture:
        """Open a capture and check everything that needs no image or label to be decoded.

        Args:
            path: the capture's folder.
            allow_missing: whether images, masks and labels that are named may be missing; reading one is then an error.

        Raises:
            InputError: one sentence with the file and key, what was found and what was expected.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        return cls(folder, manifest, read_views(folder, manifest, allow_missing=allow_missing))

    def __repr__(self) -> str:
        counts = f"{len(self.cameras)} cameras, {len(self.frames)} frames, {len(self.views)} views"
        return f"Capture({str(self.path)!r}: {counts})"

    @property
    def metres_per_unit(self) -> float:
        """Metres per unit of the capture's files."""
        return METRES_PER_UNIT[self.unit]

    @property
    def surface_source(self) -> str:
        """Name or file of the surface, by which another capture or a run takes it."""
        name = self._surface_name
        return str(self.path / name) if name.endswith(".npz") else name

    @cached_property
    def surface(self) -> Surface:
        """The canonical surface that labels refer to, loaded at first use."""
        from dkp.surface import Surface

        return Surface.load(self.surface_source)

    @cached_property
    def frames(self) -> dict[str, Instant]:
        """Frame id -> instant, in the order in which frames first appear."""
        return {instant.frame: instant for instant in instants_of(self.views)}

    def instants(self, split: str | None = None) -> list[Instant]:
        """Return the instants of a split, or all of them, in the order of ``views.jsonl``.

        Args:
            split: its name; None takes all. "SPLIT:start:stop:step" takes some of its instants,
                ":start:stop:step" some of all.

        Raises:
            InputError: the capture has no such split, or it has none of these instants.
        """
        if split is None:
            return list(self.frames.values())
        name, mark, chosen = split.partition(":")
        if name not in self.splits and (name or not mark):
            raise InputError(
                f"{self.path / CAPTURE_FILE} has no split {name!r}, expected one of "
                f"{', '.join(self.splits) or 'none: the capture has no splits'}"
            )
        wanted = set(self.splits[name]) if name else self.frames.keys()
        found = [instant for frame, instant in self.frames.items() if frame in wanted]
        start, stop, step = parse_slice(chosen, f"the choice in {split!r}")
        some = found[start:stop:step]
        if mark and not some:
            raise InputError(f"{split!r} selects none of {len(found)} instants of {self.path}")
        return some

    def image(self, view: View) -> np.ndarray:
        """Read a view's image: (H, W, 3) uint8 RGB."""
        return read_image(self.path / view.image, view.size)

    def mask(self, view: View) -> np.ndarray | None:
        """Read a view's foreground mask: (H, W) bool, or None where it has none."""
        return None if view.mask is None else read_mask(self.path / view.mask, view.size)

    def label(self, view: View) -> DenseLabel | None:
        """Read and check a view's dense label, or return None where it has none."""
        label = self._checked(view, view.label, read_dense_label)
        return None if label is None else normalised(label)

    def points(self, view: View) -> SparseLabel | None:
        """Read and check a view's sparse label, or return None where it has none."""
        return self._checked(view, view.points, read_sparse_label)

    def _checked(self, view: View, file: str | None, read: Callable[[Path], Label]) -> Label | None:
        """Read a label of a view from its file, where it has one, and refuse what cannot be of the view."""
        if file is None:
            return None
        label = read(self.path / file)
        if problem := label.problem(len(self.surface.faces), view.size):
            raise InputError(f"{self.path / file} {problem}")
        return label

    def rig_camera(self, view: View) -> Camera:
        """Return the camera that took the view, before any crop: the rig's, or the view's own where it differs."""
        camera = self.cameras[view.camera]
        return camera if view.override is None else overridden(camera, view.override, self.metres_per_unit)

    def camera(self, view: View) -> Camera:
        """Return the camera of the view's image: crop applied, without distortion where the image is undistorted.

        Returns:
            The camera: float64, no batch dimension, metres; ``image_size`` is the view's.
        """
        camera = self.rig_camera(view)
        if view.undistorted:
            camera = camera.without_distortion()
        if view.crop is None:
            return camera
        matrix = torch.tensor([*view.crop, (0.0, 0.0, 1.0)], dtype=torch.float64)
        return camera.transform(matrix, *view.size)

    def truth(self, frame: str) -> np.ndarray | None:
        """Read the posed surface of a frame: (V, 3) float64 m in the world, or None where it is not known."""
        path = self.path / "truth" / f"{frame}.npz"
        if not path.is_file():
            return None
        vertices = read_npz(path, ("vertices",))["vertices"].astype(np.float64)
        expected = (len(self.surface.vertices), 3)
        if vertices.shape != expected or not np.isfinite(vertices).all():
            raise InputError(f"{path}: vertices has shape {vertices.shape}, expected {expected} finite numbers")
        return vertices * self.metres_per_unit
