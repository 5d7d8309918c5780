"""The skinned bodies, human and dog: shape space and linear blend skinning in NumPy."""

from __future__ import annotations

import json
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from dkp.errors import InputError

_ASSETS = Path(__file__).parent.parent / "surface" / "assets"


class SkinnedBody:
    """A body whose vertices and faces are those of the surface of the same name.

    Body axes: x the body's own left, y up, z forward; metres; the origin is midway between the hips of the human, and
    in the median plane between shoulders and hips of the dog. Every bone's rest orientation is the identity, so a local
    rotation is expressed in the body axes of the rest pose, about the bone's head, and is inherited by the bones below.

    Attributes:
        name: the body's name.
        faces: (F, 3) int64.
        bone_names: J names; the first is the root (pelvis or torso), whose head is the origin.
        parents: (J,) index of each bone's parent, -1 for the root; parents come before children.
        shape_dim: number S of shape coefficients, each distributed as N(0, 1) over adults.
        joint_names: the named joints that ``pose`` returns.
        skin: sparse (V, J) skin weights.
    """

    def __init__(self, arrays: dict[str, np.ndarray], meta: dict) -> None:
        self.name: str = meta["name"]
        self.faces = arrays["faces"].astype(np.int64)
        self.bone_names: list[str] = list(meta["bone_names"])
        self.joint_names: list[str] = list(meta["joint_names"])
        self.parents = arrays["bone_parents"].astype(np.int64)
        self._joint_bone = arrays["joint_bone"].astype(np.int64)
        self._counts = (len(arrays["vertices"]), len(self.bone_names), len(self.joint_names))
        self._mean = np.concatenate([arrays["vertices"], arrays["bone_heads"], arrays["joints"]]).astype(np.float32)
        self.shape_dim = len(arrays["shape_basis"])
        scale = np.float32(arrays["shape_scale"])
        self._basis = (arrays["shape_basis"].astype(np.float32) * scale).reshape(self.shape_dim, -1)
        rows = np.repeat(np.arange(self._counts[0]), arrays["skin_bones"].shape[1])
        weights = arrays["skin_weights"].astype(np.float32)
        weights /= weights.sum(1, keepdims=True)
        self.skin = csr_matrix(
            (weights.ravel(), (rows, arrays["skin_bones"].ravel().astype(np.int64))), self._counts[:2]
        )

    @classmethod
    def load(cls, name: str = "human") -> SkinnedBody:
        """Load a shipped body.

        Raises:
            InputError: if there is no body of that name.
        """
        path = _ASSETS / f"{name}.npz"
        if not path.exists():
            raise InputError(
                f"body: found '{name}', expected one of {', '.join(sorted(p.stem for p in _ASSETS.glob('*.npz')))}"
            )
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
        return cls(arrays, json.loads(str(arrays["meta"])))

    @cached_property
    def bone_index(self) -> dict[str, int]:
        """Position of each bone by name."""
        return {name: k for k, name in enumerate(self.bone_names)}

    def rest(self, shape: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rest vertices (V, 3), bone heads (J, 3) and joints (N, 3) of a shape [m], float32."""
        values = self._mean
        if shape is not None:
            shape = np.asarray(shape, dtype=np.float32)
            if shape.shape != (self.shape_dim,):
                raise InputError(f"shape: found an array of shape {shape.shape}, expected ({self.shape_dim},)")
            values = values + (shape @ self._basis).reshape(-1, 3)
        vertices, heads, joints = np.split(values, np.cumsum(self._counts[:2]))
        return vertices, heads, joints

    def pose(
        self, shape: np.ndarray | None, rotations: np.ndarray, root: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Pose the body.

        Args:
            shape: (S,) shape coefficients, or None for the mean body.
            rotations: (J, 3, 3) local rotations.
            root: (4, 4) rigid map from the body axes to the world [m]; identity by default.

        Returns:
            Vertices (V, 3) float32 [m] and the named joints, each (3,) float32 [m], in the world.
        """
        vertices, heads, joints = self.rest(shape)
        transforms = self._transforms(heads, rotations, root)
        blended = (self.skin @ transforms.reshape(len(transforms), 12)).reshape(-1, 3, 4)
        posed = np.einsum("vij,vj->vi", blended[..., :3], vertices) + blended[..., 3]
        return posed, self._carried(joints, transforms)

    def joint_positions(
        self, shape: np.ndarray | None, rotations: np.ndarray, root: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Only the named joints of ``pose``, without skinning."""
        _, heads, joints = self.rest(shape)
        return self._carried(joints, self._transforms(heads, rotations, root))

    def _carried(self, joints: np.ndarray, transforms: np.ndarray) -> dict[str, np.ndarray]:
        """Rest joints (N, 3) moved by the maps (J, 3, 4) of their bones."""
        carried = transforms[self._joint_bone]
        at = np.einsum("nij,nj->ni", carried[..., :3], joints) + carried[..., 3]
        return dict(zip(self.joint_names, at, strict=True))

    def _transforms(self, heads: np.ndarray, rotations: np.ndarray, root: np.ndarray | None) -> np.ndarray:
        """Return maps (J, 3, 4) from the rest pose to the world."""
        rotations = np.asarray(rotations, dtype=np.float32)
        if rotations.shape != (len(self.bone_names), 3, 3):
            raise InputError(f"rotations: found shape {rotations.shape}, expected ({len(self.bone_names)}, 3, 3)")
        turned = np.empty_like(rotations)
        at = np.empty_like(heads)
        base = np.eye(4, dtype=np.float32) if root is None else np.asarray(root, dtype=np.float32)
        for k, parent in enumerate(self.parents):
            if parent < 0:
                turned[k] = base[:3, :3] @ rotations[k]
                at[k] = base[:3, :3] @ heads[k] + base[:3, 3]
            else:
                turned[k] = turned[parent] @ rotations[k]
                at[k] = at[parent] + turned[parent] @ (heads[k] - heads[parent])
        offset = at - np.einsum("jik,jk->ji", turned, heads)
        return np.concatenate([turned, offset[..., None]], axis=2)


@cache
def load_body(name: str) -> SkinnedBody:
    """Return a shipped body, loaded once per process."""
    return SkinnedBody.load(name)
