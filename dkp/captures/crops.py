"""Square crops without lens distortion, cut from raw frames in one resampling.

A crop is described by an affine map from the rig camera's undistorted pixels to the crop's pixels (centres at
integer + 0.5). Undistorting, cropping and resizing are one ``cv2.remap``; where the crop is smaller than what it shows,
the frame is first averaged down over areas, so that nothing aliases.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from dkp.geometry import Camera


def square_box(box: np.ndarray, margin: float = 0.15) -> np.ndarray:
    """Return the square around a box: same centre, the longer side plus ``margin`` of it on each of its two ends.

    Args:
        box: (4,) x0 y0 x1 y1 [px].
        margin: share of the longer side.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return np.array([x - half, y - half, x + half, y + half])


def crop_affine(box: np.ndarray, size: int, flip: bool = False, turn: np.ndarray | None = None) -> np.ndarray:
    """Return the (2, 3) affine map that takes a box to a whole image.

    Args:
        box: (4,) x0 y0 x1 y1 [px].
        size: side of the image [px].
        flip: whether the image is mirrored left to right.
        turn: (2, 2) rotation of the image about the box's middle, before it is cut; None = none.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    sx, sy = size / (x1 - x0), size / (y1 - y0)
    if turn is not None:
        middle = np.array([x0 + x1, y0 + y1]) / 2
        straight = crop_affine(box, size, flip)
        return np.column_stack([straight[:, :2] @ turn, apply_affine(straight, middle - turn @ middle)])
    if flip:
        return np.array([[-sx, 0.0, x1 * sx], [0.0, sy, -y0 * sy]])
    return np.array([[sx, 0.0, -x0 * sx], [0.0, sy, -y0 * sy]])


def apply_affine(affine: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) affine map to pixels (..., 2)."""
    return pixels @ affine[:, :2].T + affine[:, 2]


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """Return the inverse (2, 3) of an affine map (2, 3)."""
    inverse = np.linalg.inv(affine[:, :2])
    return np.column_stack([inverse, -inverse @ affine[:, 2]])


def undistorted(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """Move pixels (N, 2) of a rig camera to where it would see them without lens distortion [px]."""
    if not len(pixels):
        return np.zeros((0, 2))
    return camera.undistort(torch.as_tensor(pixels, dtype=torch.float64)).numpy()


@dataclass(frozen=True)
class CropMap:
    """Where every pixel of a crop lies in the raw frame.

    Attributes:
        pixels: (H, W, 2) [px] of the raw frame, centres at integer + 0.5.
        shrink: how many raw pixels a crop pixel spans, at least 1.
    """

    pixels: np.ndarray
    shrink: float

    @classmethod
    def create(
        cls, camera: Camera | None, affine: np.ndarray, size: int, frame_map: np.ndarray | None = None
    ) -> CropMap:
        """Build the map.

        Args:
            camera: the rig camera, no batch dimension, with its distortion; None = a frame that has none.
            affine: (2, 3), the camera's undistorted pixels to crop pixels.
            size: side of the crop [px].
            frame_map: (2, 3) affine map from raw frame pixels to the camera's, where frames are not as calibrated.
        """
        centres = np.arange(size) + 0.5
        pixels = apply_affine(invert_affine(affine), np.stack(np.meshgrid(centres, centres), -1))
        if camera is not None:
            pixels = camera.distort(torch.from_numpy(pixels.reshape(-1, 2))).numpy().reshape(size, size, 2)
        if frame_map is not None:
            pixels = apply_affine(invert_affine(frame_map), pixels)
        across = pixels[size // 2, -1] - pixels[size // 2, 0]
        down = pixels[-1, size // 2] - pixels[0, size // 2]
        spans = [np.linalg.norm(line) / max(size - 1, 1) for line in (across, down)]
        return cls(pixels=pixels, shrink=max(1.0, float(min(spans))))

    def image(self, frame: np.ndarray) -> np.ndarray:
        """Cut the crop (H, W, ...) from a raw frame; black where the frame does not reach."""
        return self._sample(frame)

    def mask(self, frame: np.ndarray) -> np.ndarray:
        """Cut a crop (H, W) bool from a mask (H, W) bool of the raw frame; true where most of a pixel's area is."""
        return self._sample(frame.astype(np.uint8) * 255) > 127

    def inside(self, width: int, height: int) -> np.ndarray:
        """Return (H, W) bool, pixels of the crop that lie in a raw frame of this size [px]."""
        x, y = self.pixels[..., 0], self.pixels[..., 1]
        return (x >= 0) & (y >= 0) & (x < width) & (y < height)

    def _sample(self, frame: np.ndarray) -> np.ndarray:
        pixels = self.pixels
        height, width = frame.shape[:2]
        # Only the part of the frame that the crop shows is averaged down.
        reach = self.shrink + 2
        low, high = (np.array([limit(pixels[..., i]) for i in range(2)]) for limit in (np.min, np.max))
        x0, y0 = np.clip(np.floor(low - reach), 0, (width - 1, height - 1)).astype(int)
        x1, y1 = np.clip(np.ceil(high + reach), (x0 + 1, y0 + 1), (width, height)).astype(int)
        part = frame[y0:y1, x0:x1]
        pixels = pixels - (x0, y0)
        if self.shrink > 1.05:
            smaller = tuple(max(1, round(n / self.shrink)) for n in part.shape[1::-1])
            pixels = pixels * (np.array(smaller) / part.shape[1::-1])
            part = cv2.resize(part, smaller, interpolation=cv2.INTER_AREA)
        x, y = ((pixels[..., i] - 0.5).astype(np.float32) for i in range(2))
        return cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
