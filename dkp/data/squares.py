"""Views of any size and lens as undistorted squares."""

import cv2
import numpy as np
import torch

from dkp.captures import DenseLabel
from dkp.geometry import Camera, pixel_grid


def fit(size: tuple[int, int], side: int) -> np.ndarray:
    """(3, 3) map from the pixels of a (width, height) image to those of the square it is resized into."""
    width, height = scaled(size, side)
    return np.diag([width / size[0], height / size[1], 1.0])


def scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height of an image whose longer side becomes `side`."""
    longer = max(size)
    return max(1, round(size[0] * side / longer)), max(1, round(size[1] * side / longer))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image resized to fit a square, by area where it shrinks, padded with black on the right or below."""
    height, width = image.shape[:2]
    target = scaled((width, height), side)
    if target != (width, height):
        image = cv2.resize(
            image, target, interpolation=cv2.INTER_AREA if max(target) < max(width, height) else cv2.INTER_LINEAR
        )
    if target == (side, side):
        return image
    square = np.zeros((side, side, 3), image.dtype)
    square[: target[1], : target[0]] = image
    return square


def lens_map(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of an undistorted (width, height) image is found in the distorted one.

    Returns:
        x and y, each (H, W) float32, in indices (pixel centres at integers).
    """
    width, height = size
    pixels = pixel_grid(height, width, dtype=torch.float64).reshape(-1, 2)
    source = (camera.distort(pixels) - 0.5).reshape(height, width, 2).numpy().astype(np.float32)
    return source[..., 0], source[..., 1]


def undistorted(
    camera: Camera, image: np.ndarray, mask: np.ndarray | None, label: DenseLabel | None
) -> tuple[np.ndarray, np.ndarray | None, DenseLabel | None]:
    """Image, mask and dense label as the same camera without distortion sees them."""
    x, y = lens_map(camera, (image.shape[1], image.shape[0]))
    image = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if mask is not None:
        mask = cv2.remap(mask.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT) > 0
    return image, mask, None if label is None else undistorted_label(label, x, y)


def undistorted_label(label: DenseLabel, x: np.ndarray, y: np.ndarray) -> DenseLabel:
    """Return a dense label read at the nearest pixels of a `lens_map`."""
    height, width = label.face.shape
    column, row = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    column, row = column.clip(0, width - 1), row.clip(0, height - 1)
    return DenseLabel(
        np.where(inside, label.face[row, column], -1),
        label.barycentric[row, column],
        label.known_pixels[row, column] & inside,
    )
