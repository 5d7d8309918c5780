"""Random changes of images, by albumentations: colours and noise, and geometry that the camera follows.

Geometry is drawn as one 3 x 3 matrix and not applied here: the caller composes it with its own crop and resize, warps
image, labels and masks once, and gives the camera the same matrix (`follow`).
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from dkp.errors import InputError, check_settings

HALF = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
"""From OpenCV's pixels (centres at integers) to dkp's (centres at integer + 0.5)."""
UNHALF = np.linalg.inv(HALF)


@dataclass
class Augmentation:
    """How training images are changed at random; `Augmentation.none()` leaves them alone.

    Attributes:
        rotate: greatest rotation in the image plane, either way [degrees].
        scale: least and greatest magnification.
        shift: greatest shift along each axis, share of the image's side.
        shear: greatest shear along each axis, either way [degrees].
        perspective: greatest displacement of the image's corners, share of its side; 0 = affine changes only.
        geometric: probability that the geometry changes at all.
        mirror: probability of a left-right mirrored image, whose labels are those of the mirrored person; for labelled
            images only, since the real left hand of a person without labels does not become the right one.
        without_background: probability that what is not the surface is painted black, by label or captured mask; for
            labelled images only. A teacher that knows such images can be spared the clutter of real ones
            (``hide_from_teacher``).
        backgrounds: folders of pictures for other backgrounds and things; what follows is for labelled images only.
        other_background: probability that a picture from `backgrounds` replaces what is not the surface.
        others: probability that other subjects of the capture are put about.
        obstacles: probability that something from `backgrounds` is put before the surface.
        photometric: strength of the changes of colour, sharpness, noise and the cut-out patches; 0 = none, 1 = usual.
        pipeline: file of an albumentations pipeline (yaml or json, from `albumentations.save`) of image-only
            transforms, in place of the built-in ones.
    """

    rotate: float = 20.0
    scale: tuple[float, float] = (0.85, 1.2)
    shift: float = 0.08
    shear: float = 0.0
    perspective: float = 0.0
    geometric: float = 0.9
    mirror: float = 0.0
    without_background: float = 0.0
    backgrounds: list[str] = field(default_factory=list)
    other_background: float = 0.0
    others: float = 0.0
    obstacles: float = 0.0
    photometric: float = 1.0
    pipeline: str | None = None

    def __post_init__(self) -> None:
        checks = {
            "rotate": (0 <= self.rotate <= 180, "0 to 180 degrees"),
            "scale": (0 < self.scale[0] <= self.scale[1], "two positive numbers in ascending order"),
            "shift": (0 <= self.shift < 1, "a share from 0 to below 1"),
            "shear": (0 <= self.shear < 45, "0 to below 45 degrees"),
            "perspective": (0 <= self.perspective < 0.5, "a share from 0 to below 0.5"),
            "geometric": (0 <= self.geometric <= 1, "a probability"),
            "mirror": (0 <= self.mirror <= 1, "a probability"),
            "without_background": (0 <= self.without_background <= 1, "a probability"),
            "other_background": (0 <= self.other_background <= 1, "a probability"),
            "others": (0 <= self.others <= 1, "a probability"),
            "obstacles": (0 <= self.obstacles <= 1, "a probability"),
            "backgrounds": (bool(self.backgrounds) or not self.other_background + self.obstacles, "a folder"),
            "photometric": (self.photometric >= 0, "0 or more"),
        }
        check_settings("augmentation", self, checks)

    @classmethod
    def none(cls) -> Augmentation:
        """Images as they are."""
        return cls(rotate=0.0, scale=(1.0, 1.0), shift=0.0, geometric=0.0, photometric=0.0)


class SharedRandomness:
    """The two generators that albumentations draws from, shared by a pipeline's transforms and cheap to reseed.

    `Compose.set_random_seed` makes two generators per transform, which takes as long as the transforms themselves.
    """

    def __init__(self, *targets: Any) -> None:
        self.generator = np.random.Generator(np.random.PCG64(0))
        self.plain = random.Random(0)
        for target in targets:
            target.set_random_state(self.generator, self.plain)

    def seed(self, number: int) -> None:
        """Start both generators from a number."""
        self.generator.bit_generator.state = np.random.PCG64(number).state
        self.plain.seed(number)


class Photometric:
    """Changes of colour, sharpness and noise: images in, images of the same size out, labels untouched.

    Args:
        settings: `photometric` and `pipeline` are used.
    """

    def __init__(self, settings: Augmentation) -> None:
        if settings.pipeline is not None:
            self._compose = load_pipeline(settings.pipeline)
        else:
            self._compose = built_in(settings.photometric) if settings.photometric > 0 else None
        self._randomness = SharedRandomness(*([] if self._compose is None else [self._compose]))

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Change an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            seed: the same seed gives the same change.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        if self._compose is None:
            return image
        self._randomness.seed(seed)
        changed: np.ndarray = self._compose(image=image)["image"]
        return changed


class Geometric:
    """Random similarity (or shear, or perspective) of an image, as a matrix.

    Args:
        settings: all but the photometric ones are used.
    """

    def __init__(self, settings: Augmentation) -> None:
        albumentations = _albumentations()
        self.probability = settings.geometric
        self._affine = albumentations.Affine(
            rotate=(-settings.rotate, settings.rotate),
            scale=settings.scale,
            translate_percent=(-settings.shift, settings.shift),
            shear=(-settings.shear, settings.shear),
            balanced_scale=False,
            p=1.0,
        )
        self._perspective = (
            albumentations.Perspective(scale=(0.0, settings.perspective), keep_size=True, p=1.0)
            if settings.perspective > 0
            else None
        )
        transforms = [self._affine] + ([] if self._perspective is None else [self._perspective])
        self._randomness = SharedRandomness(*transforms)

    def matrix(self, seed: int, size: int) -> np.ndarray:
        """Draw a change of a square image.

        Args:
            seed: the same seed gives the same matrix.
            size: side of the image [px].

        Returns:
            (3, 3) from old pixels to new ones of an image of the same size, both with centres at integer + 0.5; its
            last row is (0, 0, 1) unless there is perspective.
        """
        self._randomness.seed(seed)
        if self.probability < 1 and self._randomness.plain.random() >= self.probability:
            return np.eye(3)
        shape = {"shape": (size, size, 3)}
        matrix = HALF @ self._affine.get_params_dependent_on_data(shape, {})["matrix"] @ UNHALF
        if self._perspective is not None:
            drawn = self._perspective.get_params_dependent_on_data(shape, {})
            scale = np.diag([size / drawn["max_width"], size / drawn["max_height"], 1.0])
            matrix = scale @ drawn["matrix"] @ matrix
            matrix = matrix / matrix[2, 2]
        return matrix


def warp_image(
    image: np.ndarray, matrix: np.ndarray, size: int, fill: tuple[float, ...] | float = 0.0, nearest: bool = False
) -> np.ndarray:
    """Warp an image.

    Args:
        image: (h, w) or (h, w, c), uint8 or float32.
        matrix: (3, 3) from its pixels to the result's, centres at integer + 0.5.
        size: side of the result [px].
        fill: value of what lies outside.
        nearest: take the nearest pixel instead of interpolating between four.

    Returns:
        (size, size) or (size, size, c).
    """
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    matrix = UNHALF @ matrix @ HALF
    if is_affine(matrix):
        return cv2.warpAffine(image, matrix[:2], (size, size), None, flags, cv2.BORDER_CONSTANT, fill)
    return cv2.warpPerspective(image, matrix, (size, size), None, flags, cv2.BORDER_CONSTANT, fill)


def is_affine(matrix: np.ndarray) -> bool:
    """Whether a 3 x 3 matrix has the last row (0, 0, 1)."""
    return bool(abs(matrix[2, 0]) < 1e-12 and abs(matrix[2, 1]) < 1e-12 and abs(matrix[2, 2] - 1) < 1e-12)


def follow(
    matrix: np.ndarray, intrinsics: np.ndarray, rotation: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the camera (without distortion) of a warped image.

    An affine map changes the intrinsics only. A homography H turns the camera as well: H K = s K' Q with K' upper
    triangular and Q a rotation, so that K' (Q R x + Q t) is the warped projection exactly.

    Args:
        matrix: (3, 3) from old pixels to new ones, centres at integer + 0.5, with a positive last element.
        intrinsics: (3, 3) [px].
        rotation: (3, 3), world to camera.
        translation: (3,) [m].

    Returns:
        intrinsics, rotation and translation of the new camera.
    """
    product = matrix @ intrinsics
    if is_affine(matrix):
        return product, rotation, translation
    upper, turn = _rq(product)
    upper = upper / upper[2, 2]
    return upper, turn @ rotation, turn @ translation


def _rq(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a matrix into U Q with U upper triangular, U[1, 1] and U[2, 2] positive, and Q a rotation."""
    q, r = np.linalg.qr(matrix[::-1].T)
    upper, turn = r.T[::-1, ::-1], q.T[::-1]
    sign = np.sign(np.diag(upper))
    upper, turn = upper * sign, sign[:, None] * turn
    if np.linalg.det(turn) < 0:
        upper, turn = upper * [-1.0, 1.0, 1.0], turn * np.array([[-1.0], [1.0], [1.0]])
    return upper, turn


def mirrored(matrix: np.ndarray, size: int) -> np.ndarray:
    """Return a warp followed by a left-right mirror of its (size, size) result."""
    return np.array([[-1.0, 0.0, size], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix


def map_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (..., 2) [px] by a 3 x 3 matrix."""
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    if is_affine(matrix):
        return moved
    return moved / (points @ matrix[2, :2] + matrix[2, 2])[..., None]


def built_in(strength: float) -> Any:
    """Return the built-in photometric pipeline, chosen so that it takes about half a millisecond at 64 px."""
    a = _albumentations()
    s = float(strength)

    def probability(value: float) -> float:
        return min(1.0, value * s)

    return a.Compose(
        [
            a.RandomBrightnessContrast(min(0.3 * s, 0.9), min(0.3 * s, 0.9), p=probability(0.8)),
            a.HueSaturationValue(round(12 * s), round(40 * s), round(15 * s), p=probability(0.5)),
            a.RandomGamma((100 / (1 + 0.35 * s), 100 * (1 + 0.35 * s)), p=probability(0.3)),
            a.ChannelShuffle(p=probability(0.03)),
            a.ToGray(p=probability(0.03)),
            a.OneOf(
                [
                    a.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 0.4 + 0.7 * s)),
                    a.MotionBlur(blur_limit=(3, 5)),
                    a.Downscale(scale_range=(max(0.3, 1 - 0.5 * s), 0.9)),
                ],
                p=probability(0.35),
            ),
            a.GaussNoise(std_range=(0.005, 0.05 * s + 0.005), p=probability(0.35)),
            a.ImageCompression(quality_range=(max(20, round(95 - 50 * s)), 95), p=probability(0.3)),
            a.CoarseDropout((1, 3), (0.06, 0.2), (0.06, 0.2), fill="random_uniform", p=probability(0.3)),
        ]
    )


def load_pipeline(path: str) -> Any:
    """Read a serialised albumentations pipeline of image-only transforms.

    Raises:
        InputError: the file is missing, is no pipeline, or would move pixels.
    """
    a = _albumentations()
    kind = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}.get(Path(path).suffix)
    if kind is None or not Path(path).is_file():
        raise InputError(f"augmentation.pipeline {path}: expected an existing .yaml or .json file")
    try:
        compose = a.load(path, data_format=kind)
    except Exception as error:  # albumentations raises many kinds for files that are no pipeline
        raise InputError(f"augmentation.pipeline {path}: not an albumentations pipeline ({error})") from error
    for transform in _leaves(compose):
        if not isinstance(transform, a.ImageOnlyTransform | a.NoOp):
            raise InputError(
                f"augmentation.pipeline {path}: {type(transform).__name__} moves pixels where only image-only "
                "transforms are expected; use rotate, scale, shift, shear and perspective for geometry"
            )
    return compose if isinstance(compose, a.Compose) else a.Compose([compose])


def _leaves(transform: Any) -> list[Any]:
    inner = getattr(transform, "transforms", None)
    return [transform] if inner is None else [leaf for part in inner for leaf in _leaves(part)]


@cache
def _albumentations() -> ModuleType:
    """Import albumentations at first use (it takes seconds) without its look-up of newer releases."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations
