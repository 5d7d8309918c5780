"""An ellipsoid with exact fields, seen by a ring of cameras."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dkp.geometry import Camera
from dkp.surface import Surface
from dkp.synthetic.rasteriser import rasterise

SIZE, CELLS, VIEWS = 64, 32, 6


def ellipsoid(columns: int = 32, rows: int = 20) -> Surface:
    """An ellipsoid of 1.2 x 1.6 x 0.8 m, oriented outwards."""
    angle = np.arange(columns) / columns * 2 * np.pi
    height = np.linspace(0, np.pi, rows + 1)[1:-1]
    ring = np.stack([np.sin(height)[:, None] * np.cos(angle), np.cos(height)[:, None] + 0 * angle,
                     np.sin(height)[:, None] * np.sin(angle)], axis=-1)  # fmt: skip
    vertices = np.concatenate([ring.reshape(-1, 3), [[0, 1, 0], [0, -1, 0]]]) * [0.6, 0.8, 0.4]
    index = np.arange(ring.shape[0] * columns).reshape(-1, columns)
    after = np.roll(index, -1, axis=1)
    faces = [np.stack([index[:-1], after[:-1], index[1:]], -1), np.stack([after[:-1], after[1:], index[1:]], -1)]
    top, bottom = len(vertices) - 2, len(vertices) - 1
    caps = [np.stack([np.full(columns, top), after[0], index[0]], -1),
            np.stack([np.full(columns, bottom), index[-1], after[-1]], -1)]  # fmt: skip
    joined = np.concatenate([part.reshape(-1, 3) for part in faces + caps])
    return Surface("ellipsoid", vertices, joined, np.ones(len(joined)), np.zeros((len(joined), 3, 2)), ["all"])


def ring(distance: float = 4.0) -> Camera:
    """Six cameras (V,) around the origin, y up."""
    cameras = []
    for number in range(VIEWS):
        a = 2 * np.pi * number / VIEWS + 0.2
        centre = np.array([distance * np.sin(a), 0.5 * (-1) ** number, distance * np.cos(a)])
        z = -centre / np.linalg.norm(centre)
        x = np.cross(z, [0, 1, 0])
        x /= np.linalg.norm(x)
        rotation = np.stack([x, np.cross(z, x), z])
        intrinsics = torch.tensor([[115.0, 0, 33], [0, 115.0, 31], [0, 0, 1]], dtype=torch.float64)
        cameras.append(
            Camera.create(intrinsics, rotation, -rotation @ centre, image_size=torch.tensor([float(SIZE)] * 2))
        )
    return Camera.stack(cameras)


def turned(vertices: np.ndarray, angle: float) -> np.ndarray:
    """Vertices turned about the y axis and moved: the posed surface."""
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return vertices @ turn.T + [0.05, -0.03, 0.02]


@pytest.fixture(scope="session")
def surface():
    return ellipsoid()


@pytest.fixture(scope="session")
def scene(surface):
    """Two instants: coordinate (2, 6, 3, 32, 32), foreground (2, 6, 32, 32), camera (2, 6), vertices (2, V, 3)."""
    cameras = ring()
    coordinate = np.zeros((2, VIEWS, CELLS, CELLS, 3), np.float32)
    foreground = np.zeros((2, VIEWS, CELLS, CELLS), np.float32)
    posed = np.stack([turned(surface.vertices, angle) for angle in (0.3, 1.1)])
    scale = np.diag([CELLS / SIZE, CELLS / SIZE, 1.0])
    for instant, view in np.ndindex(2, VIEWS):
        camera = cameras[view]
        local = posed[instant] @ camera.rotation.numpy().T + camera.translation.numpy()
        seen = rasterise(local, surface.faces, scale @ camera.intrinsics.numpy(), CELLS, CELLS)
        shown = seen.face >= 0
        foreground[instant, view] = shown
        coordinate[instant, view][shown] = surface.coordinates(seen.face[shown], seen.barycentric[shown])
    return SimpleNamespace(
        coordinate=torch.from_numpy(coordinate).movedim(-1, 2).contiguous(),
        foreground=torch.from_numpy(foreground),
        camera=Camera.stack([cameras, cameras]),
        vertices=torch.from_numpy(posed),
    )
