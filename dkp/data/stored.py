"""The stored arrays of views: images, cameras, labels, masks, in memory or mapped from files, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dkp.captures import View
from dkp.data.augmentation import map_points
from dkp.data.cells import DenseCoordinates, PointCoordinates
from dkp.data.disk import reopened
from dkp.data.layout import StoredPoints
from dkp.data.squares import fit
from dkp.surface import Surface


@dataclass
class NextViews:
    """Flow from some views to the next frame of the same camera, in pixels of the stored images.

    Attributes:
        view: (N,) index of the next view, -1 where there is none.
        row: (N,) index into the arrays, -1 where there is no next view.
        flow: (F, S, S, 2) float16 [px], from a pixel centre of the view to where it is in the next view.
        valid: (F, S, S) bool, pixels whose flow is known and whose surface point is seen in both.
    """

    view: np.ndarray
    row: np.ndarray
    flow: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> NextViews | None:
        """Return what is stored by `add_next_views`, or None where nothing is."""
        if "flow" not in columns:
            return None
        return cls(columns["next_view"], columns["next_row"], columns["flow"], columns["flow_valid"])

    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return self.flow.nbytes + self.valid.nbytes


class StoredImages:
    """Views as square, undistorted images of one size; `dkp.data.cache.CaptureImages` fills them from a capture.

    Attributes:
        images: (N, S, S, 3) uint8 RGB.
        intrinsics, rotation, translation: (N, 3, 3) [px], (N, 3, 3), (N, 3) [m], float64, of the stored images.
        mean_colour: (N, 3) float, of each image.
        label_row: (N,) index into the label arrays, -1 where a view has no dense label.
        coordinate, foreground, known: (L, S, S, 3) float16 [m], (L, S, S) bool, (L, S, S) bool.
        part, uv: (L, S, S) uint8 and (L, S, S, 2) float16, or None.
        points: labelled points, by view.
        mask_row, masks: (N,) index into (M, S, S) bool, -1 where a view has no mask.
        joints: (N, J, 3) x, y [px], confidence (0 where missing).
        frame, camera_name, domain: lists of N.
        instants: for each instant the indices of its views.
        vertices: for each instant the posed surface (V, 3) float32 [m], or None; an empty list without `truth`.
    """

    name: str
    joint_names: tuple[str, ...]
    surface: Surface
    side: int
    gap: float
    _folder: Path | None

    def __len__(self) -> int:
        return len(self.views)

    def _adopt(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take stored arrays as attributes."""
        self.chosen = arrays["chosen"]
        self.images = arrays["images"]
        self.mean_colour = arrays["mean_colour"]
        self.intrinsics, self.rotation = arrays["intrinsics"], arrays["rotation"]
        self.translation = arrays["translation"]
        self.label_row = arrays["label_row"]
        self.coordinate, self.foreground, self.known = arrays["coordinate"], arrays["foreground"], arrays["known"]
        self.part, self.uv = arrays.get("part"), arrays.get("uv")
        self.mask_row, self.masks = arrays["mask_row"], arrays["masks"]
        self.points: Mapping[int, PointCoordinates] = StoredPoints(arrays)
        self.vertices: list[np.ndarray | None] = [
            None if row < 0 else arrays["vertices"][row] for row in arrays.get("vertices_row", ())
        ]
        self.next: NextViews | None = NextViews.of(arrays)

    def _describe(self, chosen: list[View]) -> None:
        """Keep what the list of views says of those that are stored."""
        self.views = [chosen[index] for index in self.chosen]
        self.frame = [view.frame for view in self.views]
        self.camera_name = [view.camera for view in self.views]
        self.domain = [view.domain for view in self.views]
        self.joints = self._joints()
        groups: dict[str, list[int]] = {}
        for index, frame in enumerate(self.frame):
            groups.setdefault(frame, []).append(index)
        self.instants = [np.asarray(indices) for indices in groups.values()]

    def __getstate__(self) -> dict[str, Any]:
        """Arrays that lie in files do not travel to other processes: these open the files themselves."""
        kept = vars(self)
        return {name: kept[name] for name in kept if self._folder is None or name not in ADOPTED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._folder is not None:
            self._adopt(reopened(self._folder))

    def _joints(self) -> np.ndarray:
        joints = np.zeros((len(self.views), len(self.joint_names), 3), np.float32)
        for row, view in enumerate(self.views):
            scale = fit(view.size, self.side)
            for column, name in enumerate(self.joint_names):
                found = (view.joints or {}).get(name)
                if found is not None and np.isfinite(found).all():
                    joints[row, column, :2] = map_points(scale, np.asarray(found[:2], np.float64))
                    joints[row, column, 2] = found[2]
        return joints

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool: views with a dense or sparse label."""
        labelled = self.label_row >= 0
        labelled[list(self.points)] = True
        return labelled

    def label(self, index: int) -> DenseCoordinates | None:
        """Return the dense label of a view, as views into the stored arrays, or None."""
        row = self.label_row[index]
        if row < 0:
            return None
        label = DenseCoordinates(self.coordinate[row], self.foreground[row], self.known[row])
        if self.part is not None and self.uv is not None:
            label.part, label.uv = self.part[row], self.uv[row]
        return label

    def mask(self, index: int) -> np.ndarray | None:
        """(S, S) bool mask of a view, or None."""
        row = self.mask_row[index]
        return None if row < 0 else self.masks[row]

    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        return sum(array.nbytes for array in arrays) + (0 if self.next is None else self.next.nbytes())


ADOPTED = frozenset(
    (
        "chosen", "images", "mean_colour", "intrinsics", "rotation", "translation", "label_row", "coordinate",
        "foreground", "known", "part", "uv", "mask_row", "masks", "points", "vertices", "next",
    )
)  # fmt: skip
"""The attributes that are stored arrays, or made of such."""
