"""A reconstruction: the surface of a capture's instants in space, as it is written and read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve

from dkp.errors import InputError
from dkp.reconstruction.keypoints import keypoint_weights, keypoints
from dkp.reconstruction.reconstructor import RELATIVE_SIGMA
from dkp.reconstruction.samples import vertex_samples
from dkp.surface import Surface

FILE = "reconstruction.npz"


@dataclass(frozen=True)
class Reconstruction:
    """T instants of one capture; V vertices of the surface, J joints. Lengths are metres in the capture's world.

    Attributes:
        frame: (T,) frame ids, in the order of the capture.
        sequence: (T,) the take that each instant belongs to.
        time: (T,) int64, its index in the take.
        points: (T, V, 3), vertices triangulated each for itself; NaN where the views do not agree on one.
        confidence: (T, V) in [0, 1], mean over the views that agree of foreground probability times matchability.
        residual: (T, V) [px of the detector's crops], root mean square reprojection distance within these views.
        views: (T, V) uint8, how many views agree.
        vertices: (T, V, 3), the registered surface; NaN where it was not found.
        agreement: (T,) in [0, 1], mean robust weight of the pixels at the registered surface.
        seen: (T, V) uint8, how many views the registered surface shows the vertex to.
        colour: (T, V, 3) uint8, mean RGB of these views; 0 where there is none.
        keypoints: (T, J, 3), the surface's named joints, each the mean of the registered skin around it.
        keypoint_names: (J,).
        rest: (V, 3), the canonical surface.
        faces: (F, 3) int32.
        up: (3,), the direction that is up in most images.
        meta: what it was made of and how, plain values.
    """

    frame: np.ndarray
    sequence: np.ndarray
    time: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    residual: np.ndarray
    views: np.ndarray
    vertices: np.ndarray
    agreement: np.ndarray
    seen: np.ndarray
    colour: np.ndarray
    keypoints: np.ndarray
    keypoint_names: np.ndarray
    rest: np.ndarray
    faces: np.ndarray
    up: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def takes(self) -> dict[str, np.ndarray]:
        """Sequence -> indices (T',) of its instants in the order of time."""
        order = np.argsort(self.time, kind="stable")
        return {name: order[self.sequence[order] == name] for name in dict.fromkeys(self.sequence.tolist())}

    def mean_colour(self, index: np.ndarray) -> np.ndarray:
        """(V, 3) uint8, mean over instants (T',) of each vertex's colour; grey where no view ever shows it."""
        seen = (self.seen[index] > 0)[..., None]
        mean = (self.colour[index] * seen).sum(0) / seen.sum(0).clip(1)
        return np.where(seen.any(0), mean, 150).round().astype(np.uint8)

    def save(self, folder: Path) -> None:
        """Write `reconstruction.npz` into a folder; numbers are float32 where that resolves 0.1 mm."""
        arrays = {name: value for name, value in vars(self).items() if name != "meta"}
        far = float(np.nanmax(np.abs(self.vertices), initial=0.0)) > 1000
        for name, value in arrays.items():
            if value.dtype == np.float64 and not far:
                arrays[name] = value.astype(np.float32)
        np.savez_compressed(folder / FILE, meta=np.array(json.dumps(self.meta)), **arrays)

    @classmethod
    def open(cls, path: str | Path) -> Reconstruction:
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, or it is another one.
        """
        file = Path(path) / FILE
        try:
            with np.load(file, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            return cls(**arrays | {"meta": json.loads(str(arrays["meta"]))})
        except FileNotFoundError:
            raise InputError(f"{file} does not exist, expected a folder that dkp reconstruct has written") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} cannot be read ({error}), expected a file of dkp reconstruct") from error

    def smoothed(self, scale: float) -> Reconstruction:
        """Return the registered surfaces smoothed over time: they go on with constant velocity unless pixels differ.

        Minimises over each take sum_t a_t |x_t - y_t|² + scale⁴ sum_t |x_{t+1} - 2 x_t + x_{t-1}|², the filter of
        E. Whittaker, "On a new method of graduation" (1923), with the agreement a_t as weight. Movements that last
        longer than 2 pi `scale` instants stay. Instants without a surface stay without one; a gap ends a take.

        Args:
            scale: in instants, above 0.
        """
        vertices = self.vertices.copy()
        for index in self.takes().values():
            index = index[np.isfinite(self.agreement[index]) & np.isfinite(self.vertices[index]).all((1, 2))]
            for part in np.split(index, np.flatnonzero(np.diff(self.time[index]) > 1) + 1):
                if len(part) < 3:
                    continue
                bend = sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(len(part) - 2, len(part)))
                weight = sparse.diags_array(self.agreement[part].astype(np.float64))
                wanted = weight @ self.vertices[part].reshape(len(part), -1)
                found = spsolve((weight + scale**4 * bend.T @ bend).tocsc(), wanted)
                vertices[part] = np.reshape(found, vertices[part].shape)
        return replace(self, vertices=vertices)

    def with_keypoints(self, surface: Surface) -> Reconstruction:
        """Return it with the keypoints of its vertices, where the surface has joints."""
        if not surface.joints:
            return replace(self, keypoints=np.zeros((len(self), 0, 3)), keypoint_names=np.zeros(0, dtype="U1"))
        found = torch.from_numpy(self.vertices).double()
        positions, _ = keypoints(found, found.nan_to_num(), keypoint_mixture(surface))
        return replace(self, keypoints=positions.numpy(), keypoint_names=np.array(list(surface.joints)))


def keypoint_mixture(surface: Surface) -> torch.Tensor:
    """How much each vertex (V) counts for each joint (J), for `keypoints`."""
    width = RELATIVE_SIGMA * surface.extent
    return torch.from_numpy(keypoint_weights(surface, vertex_samples(surface), width))
