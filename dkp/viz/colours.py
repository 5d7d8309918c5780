"""Surface coordinates as colours: left warm, right cool, the middle pale, the back darker than the front."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dkp.surface import Surface


def oklab_to_srgb(colour: np.ndarray) -> np.ndarray:
    """Oklab (..., 3), lightness in [0, 1], to sRGB (..., 3) in [0, 1], clipped to the gamut.

    Source: B. Ottosson, "A perceptual color space for image processing" (2020).

    Examples:
        >>> oklab_to_srgb(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).round(3).tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    lightness, a, b = np.moveaxis(np.asarray(colour, dtype=np.float64), -1, 0)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
        ],
        axis=-1,
    ).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def surface_axes(surface: "Surface") -> np.ndarray:
    """Directions of a surface as a person would name them.

    Joints decide where there are any (left shoulder, neck, middle of the hips); else the mirror map gives left and
    right and the longest other side is upright; else the sides of the bounding box by length: upright, across, deep.
    A flat surface keeps x across and y upright.

    Returns:
        (3, 3), orthonormal rows: to the subject's left, up, to the front.
    """
    joints = surface.joints
    axes = np.eye(3)
    if surface.flat:
        return axes
    extent = surface.bounds[1]
    if all(name in joints for name in ("left_shoulder", "right_shoulder", "neck", "mid_hip")):
        left = joints["left_shoulder"] - joints["right_shoulder"]
        up = joints["neck"] - joints["mid_hip"]
    elif surface.mirror is not None:
        across = surface.vertices - surface.vertices[surface.mirror]
        left = np.linalg.svd(across, full_matrices=False)[2][0]
        left = left * np.sign(left[np.abs(left).argmax()])
        up = axes[np.argmax(extent * (1 - np.abs(left)))]
    else:
        order = np.argsort(-extent, kind="stable")
        up, left = axes[order[0]], axes[order[1]]
    left = left / np.linalg.norm(left)
    up = up - left * (left @ up)
    up = up / np.linalg.norm(up)
    return np.stack([left, up, np.cross(left, up)])


class CoordinateColours:
    """Colours of the points of one surface.

    With a left and a right: height is the hue, running from red over orange to yellow on the left and from violet over
    blue to cyan on the right, and the lightness, so that no kind of colour vision takes one for the other; the midline
    is pale, limbs far from it and the back are darker. Any other surface: its two long sides span a plane of hues and
    its depth is the lightness.

    Args:
        surface: The template.
    """

    def __init__(self, surface: "Surface") -> None:
        self.axes = surface_axes(surface)
        placed = surface.vertices @ self.axes.T
        self.low, self.high = placed.min(axis=0), placed.max(axis=0)
        self.sided = surface.mirror is not None

    def turned(self, coordinate: np.ndarray) -> np.ndarray:
        """Surface coordinates (..., 3) [m] as (..., 3) [m] to the left, up and to the front."""
        return np.asarray(coordinate, dtype=np.float64) @ self.axes.T

    def __call__(self, coordinate: np.ndarray) -> np.ndarray:
        """Colours of surface coordinates.

        Args:
            coordinate: (..., 3) [m]; outside the surface's bounds the nearest bound's colour is given, and what is not
                finite is black.

        Returns:
            (..., 3) sRGB in [0, 1].
        """
        coordinate = np.asarray(coordinate, dtype=np.float64)
        finite = np.isfinite(coordinate).all(axis=-1)
        placed = self.turned(np.where(finite[..., None], coordinate, 0.0)).clip(self.low, self.high)
        colour = self._sided(placed) if self.sided else self._plane(placed)
        return np.where(finite[..., None], oklab_to_srgb(colour), 0.0)

    def _sided(self, placed: np.ndarray) -> np.ndarray:
        size = self.high - self.low
        middle = (self.high + self.low)[0] / 2
        across, height, depth = placed[..., 0] - middle, (placed[..., 1] - self.low[1]) / size[1], placed[..., 2]
        front = np.tanh((depth - np.median([self.low[2], self.high[2]])) / (0.15 * size[2]))
        side = np.tanh(across / (0.025 * size[1]))
        warm, cool = 20 + 85 * height, 300 - 110 * height
        turn = np.deg2rad(np.where(across > 0, warm, cool))
        chroma = 0.155 * np.abs(side)
        lightness = 0.65 + 0.30 * height - 0.30 * np.abs(across) / size[0] - 0.06 * np.abs(side) + 0.07 * (front - 1)
        return np.stack([lightness, chroma * np.cos(turn), chroma * np.sin(turn)], axis=-1)

    def _plane(self, placed: np.ndarray) -> np.ndarray:
        share = 2 * (placed - self.low) / np.maximum(self.high - self.low, 1e-9) - 1
        depth = np.where(self.high[2] - self.low[2] > 1e-3, share[..., 2], 0.0)
        return np.stack([0.70 + 0.12 * depth, 0.11 * share[..., 0], 0.11 * share[..., 1]], axis=-1)
