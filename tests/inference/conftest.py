"""A detector without a network: it reads the plane's coordinates off the colours of painted cards."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dkp.geometry import Camera
from dkp.inference import Predictor
from dkp.surface import Surface

SIDE = 0.4
"""Of the plane [m]."""


def paint(image: np.ndarray, x: float, y: float, width: float, height: float) -> np.ndarray:
    """Paint the plane as a card: red and green are its coordinates, blue says that it is there."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    u, v = (columns - x) / width, (rows - y) / height
    inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
    image[inside] = np.stack([255 * u, 255 * v, np.full(u.shape, 255.0)], -1)[inside].round().astype(np.uint8)
    return image


def looking(x, distortion=None):
    """A camera 2 m above the plane z = 0, aside of its middle, that looks down at it."""
    centre, middle = np.array([x, -0.3, 2.0]), np.array([SIDE / 2, SIDE / 2, 0.0])
    forward = (middle - centre) / np.linalg.norm(middle - centre)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    intrinsics = [[900.0, 0, 320], [0, 900, 240], [0, 0, 1]]
    return Camera.create(intrinsics, rotation, -rotation @ centre, distortion, (640, 480))


def read_colours(crops: np.ndarray) -> list[torch.Tensor]:
    """What the detector sees: cells of 2 x 2 pixels."""
    count, size = crops.shape[:2]
    cells = crops.reshape(count, size // 2, 2, size // 2, 2, 3).mean((2, 4))
    blue = cells[..., 2]
    place = SIDE * cells[..., :2] / np.maximum(blue, 1.0)[..., None]
    coordinate = np.concatenate([place, np.zeros_like(place[..., :1])], -1).clip(0, SIDE)
    doubt = np.log(np.where(blue > 200, 0.002, 0.5))
    tensors = (blue - 127.5) / 10, np.moveaxis(coordinate, -1, 1), np.repeat(doubt[:, None], 3, 1)
    return [torch.from_numpy(value).float() for value in tensors]


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(read_colours, 64, Surface.plane(SIDE, SIDE, SIDE / 8))


@pytest.fixture
def card() -> Callable[..., np.ndarray]:
    """Paints a card on black: card(x, y, width, height, size=(160, 120))."""

    def make(x, y, width, height, size=(160, 120)):
        return paint(np.zeros((size[1], size[0], 3), np.uint8), x, y, width, height)

    return make
