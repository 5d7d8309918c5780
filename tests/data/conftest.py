"""A small capture whose image colours are the surface coordinates, so that every warp can be checked by its content."""

import numpy as np
import pytest
import torch

from dkp.captures import Capture, CaptureWriter, DenseLabel, SparseLabel
from dkp.geometry import Camera
from dkp.surface import Surface
from dkp.synthetic.rasteriser import rasterise

SIZE = 128


def ellipsoid(columns: int = 24, rows: int = 16) -> Surface:
    """An ellipsoid of 1.2 x 1.6 x 0.8 m with a left-right mirror map."""
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
    made = Surface.from_mesh(vertices, np.concatenate([part.reshape(-1, 3) for part in faces + caps]), "ellipsoid")
    distance = np.linalg.norm(vertices[:, None] * [-1, 1, 1] - vertices[None], axis=-1)
    return Surface("ellipsoid", made.vertices, made.faces, made.face_part, made.corner_uv, made.part_names,
                   mirror=distance.argmin(axis=1))  # fmt: skip


def ring_camera(degrees: float, size: int = SIZE) -> Camera:
    """A camera 4 m away that looks at the origin, y up in the world."""
    a = np.deg2rad(degrees)
    centre = np.array([4 * np.sin(a), 0.5, 4 * np.cos(a)])
    z = -centre / np.linalg.norm(centre)
    x = np.cross(z, [0, 1, 0])
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    focal = 2.0 * size
    intrinsics = np.array([[focal, 0, size / 2 + 3], [0, focal, size / 2 - 2], [0, 0, 1.0]])
    return Camera.create(
        torch.from_numpy(intrinsics), rotation, -rotation @ centre, image_size=torch.tensor([float(size)] * 2)
    )


def posed(surface: Surface, time: int) -> np.ndarray:
    """(V, 3) the surface turned and shifted at a time."""
    a = 0.15 * time
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return surface.vertices @ turn.T + [0.04 * time, 0.02 * time, 0]


def colours(surface: Surface, coordinate: np.ndarray) -> np.ndarray:
    """Coordinates as colours 40..215."""
    centre, extent = surface.bounds
    return 127.5 + (coordinate - centre) / extent * 87.5


@pytest.fixture(scope="session")
def surface():
    return ellipsoid()


@pytest.fixture(scope="session")
def make_capture(surface):
    """Writes a capture of the ellipsoid."""

    def make(
        path,
        frames=4,
        angles=(0, 40, 80, 180),
        size=SIZE,
        labels="dense",
        masks=True,
        truth=True,
        skip=(),
        empty=(),
        distortion=None,
    ):
        cameras = {}
        for index, degrees in enumerate(angles):
            camera = ring_camera(degrees, size)
            if distortion is not None:
                camera = Camera.create(
                    camera.intrinsics, camera.rotation, camera.translation, distortion, camera.image_size
                )
            cameras[f"cam_{index}"] = camera
        ids = [f"f{t:02d}" for t in range(frames)]
        splits = {"train": ids[: frames // 2], "test": ids[frames // 2 :]}
        with CaptureWriter(path, name="ellipsoid", surface=surface, cameras=cameras, splits=splits) as writer:
            for time, frame in enumerate(ids):
                vertices = posed(surface, time)
                for name, camera in cameras.items():
                    if (frame, name) in skip:
                        continue
                    local = vertices @ camera.rotation.numpy().T + camera.translation.numpy()
                    seen = rasterise(local, surface.faces, camera.intrinsics.numpy(), size, size)
                    face, barycentric = np.array(seen.face), np.array(seen.barycentric)
                    if (frame, name) in empty:
                        face[:] = -1
                    shown = face >= 0
                    image = np.full((size, size, 3), 10.0)
                    image[shown] = colours(surface, surface.coordinates(face[shown], barycentric[shown]))
                    dense = DenseLabel(face.astype(np.int32), np.where(shown[..., None], barycentric, 0))
                    points = None
                    if labels == "sparse" and shown.any():
                        rows, columns = [a[::97] for a in shown.nonzero()]
                        points = SparseLabel(
                            np.stack([columns + 0.5, rows + 0.5], -1),
                            face[rows, columns].astype(np.int32),
                            barycentric[rows, columns].astype(np.float32),
                        )
                    writer.add_view(
                        frame,
                        name,
                        np.rint(image).astype(np.uint8),
                        sequence="s0",
                        time=time,
                        mask=shown if masks else None,
                        label=dense if labels == "dense" else None,
                        points=points,
                        undistorted=distortion is None,
                        joints={"nose": (30.0, 40.0, 0.9)},
                    )
                if truth:
                    writer.add_truth(frame, vertices)
        return Capture.open(path)

    return make


@pytest.fixture(scope="session")
def capture(make_capture, tmp_path_factory):
    """Four cameras at 0, 40, 80 and 180 degrees, four frames, dense labels and masks."""
    return make_capture(tmp_path_factory.mktemp("capture") / "ellipsoid")
