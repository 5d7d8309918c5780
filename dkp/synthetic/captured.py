"""A recorded rig to render into: a capture's cameras, its emptied background, its light and sensor noise.

What is rendered stands where the recorded subject stood at one of its instants, before the same cameras. The background
of a camera is the median over a take of what is not the subject; what the subject always hides is filled in. A camera
that moves has the background of the one image. Light from above is drawn as for any rendering; its strength and colour
in each camera are those of the recorded images, and so is the noise.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dkp.captures import Capture, View
from dkp.captures.crops import CropMap, invert_affine
from dkp.captures.rig import camera_arrays, camera_size
from dkp.captures.splits import split_of
from dkp.errors import InputError
from dkp.geometry import Camera, upright
from dkp.synthetic.background import Backdrop
from dkp.synthetic.domains import Domain
from dkp.synthetic.light import Response, sample_lighting
from dkp.synthetic.noise import linear
from dkp.synthetic.render import Conditions
from dkp.synthetic.rig import RigCamera
from dkp.synthetic.species import find_species

IMAGES = 48
"""Most images of a camera and a take that its background is the median of."""

GROWN = 0.04
"""How far a mask is grown before what it hides is filled in, as a share of the image's side."""

REACH = 0.8
"""Half the side of the square that a background covers around the subject, in multiples of its largest side."""

CAMERAS = 64
"""Most backgrounds that are kept."""

CANVAS = 640
"""Most pixels along a side of a background."""

BODY_ALBEDO, SCENE_ALBEDO = 0.25, 0.3
"""Mean share of the light that a subject, and that a scene gives back, from which the strength of the light follows."""


@dataclass(frozen=True)
class Stand:
    """Where the subject stood at an instant, and what looked at it.

    Attributes:
        views: The instant's views.
        cameras: Of the views, in axes with the subject's middle above the origin and the floor at z = 0.
        to_world: (4, 4) map from these axes to the capture's world [m].
        middle: (3,) the subject's middle, in these axes.
    """

    views: tuple[View, ...]
    cameras: tuple[RigCamera, ...]
    to_world: NDArray[np.float64]
    middle: NDArray[np.float64]


class Empty(NamedTuple):
    """What a camera saw without the subject, in linear light.

    Attributes:
        image: (N, N, 3) float32; black outside of the sensor.
        sensor: (N, N) bool.
        from_sensor: (2, 3) map from undistorted sensor pixels.
        level: (3,) linear light that white would have.
        noise: Standard deviation of the noise as a share of white.
    """

    image: NDArray[np.float32]
    sensor: NDArray[np.bool_]
    from_sensor: NDArray[np.float64]
    level: NDArray[np.float64]
    noise: float


class CapturedRig:
    """A capture to render subjects into.

    Args:
        rig: PATH or PATH#SPLIT of the capture.
        size: Side of the rendered images [px].
        species: Of what is rendered; by default that of the capture's surface.

    Raises:
        InputError: there is no such capture or split, nothing in it that two cameras see, or it is of something else.
    """

    def __init__(self, rig: str, size: int, species: str | None = None) -> None:
        path, split = split_of(rig, "")
        self.capture = Capture.open(path)
        self.species = find_species(species or self.capture.surface.name)
        if self.capture.surface.name != self.species.name:
            raise InputError(f"{path} is on the surface {self.capture.surface.name}, expected {self.species.name}")
        self.size = size
        self.instants = [instant for instant in self.capture.instants(split or None) if len(instant.views) > 1]
        if not self.instants:
            raise InputError(f"{rig} has no instant of two views or more, expected some to find the subject in")
        up = upright(self.capture.cameras.values())
        right = np.cross(np.eye(3)[np.abs(up).argmin()], up)
        right /= np.linalg.norm(right)
        self._axes = np.stack([right, np.cross(up, right), up])
        self.stand = cache(self._stand)
        self.empty = lru_cache(CAMERAS)(self._empty)

    def take(self, number: int) -> str:
        """Return the take (its sequence) whose turn it is with a subject's number."""
        takes = list(dict.fromkeys(instant.sequence for instant in self.instants))
        return takes[number % len(takes)]

    def conditions(self, domain: Domain, number: int, rng: np.random.Generator) -> Conditions:
        """Draw an instant of the take whose turn it is with a subject's number, and light from above."""
        take = self.take(number)
        index = int(rng.choice([i for i, instant in enumerate(self.instants) if instant.sequence == take]))
        stand, instant = self.stand(index), self.instants[index]
        lighting = sample_lighting(domain, rng)
        body = (lighting.sky + lighting.ground) / 2 + 0.3 * lighting.colours.sum(0)
        scene = lighting.sky + 0.6 * lighting.colours[0]
        backdrops, responses = [], []
        strength = 2.0 ** rng.uniform(-0.4, 0.4) * (1 + rng.normal(0, 0.04, 3))
        for view in stand.views:
            empty = self.empty(instant.sequence, view.camera, index if view.override else None)
            gain = empty.level / body * strength
            image = np.dstack([empty.image / (gain * scene), np.ones(empty.sensor.shape)]).astype(np.float32)
            depth = np.where(empty.sensor, np.float32(1e6), np.float32(0))  # nothing is seen beyond the sensor
            backdrops.append(Backdrop(image, depth, empty.from_sensor))
            responses.append(Response(gain, empty.noise, 0.0, 0.0))
        overrides = {view.camera: self.capture.rig_camera(view) for view in stand.views if view.override}
        return Conditions(stand.cameras, lighting, backdrops, responses, stand.to_world, overrides)

    def _stand(self, index: int) -> Stand:
        """Find where the subject of an instant stood."""
        views = self.instants[index].views
        cameras = [self.capture.camera(view) for view in views]
        boxes = [self._box(view) for view in views]
        pixels = torch.tensor(
            np.array([[[(x0 + x1) / 2, (y0 + y1) / 2], [(x0 + x1) / 2, y1]] for x0, y0, x1, y1 in boxes])
        )
        rays = np.stack([camera.rays(two).numpy() for camera, two in zip(cameras, pixels, strict=True)]) @ self._axes.T
        centres = np.stack([camera.centre().numpy() for camera in cameras]) @ self._axes.T
        middle = _nearest_to_lines(centres, rays[:, 0])
        floor = middle[2] - self.species.middle
        if any(view.mask for view in views):  # where the lowest rays are nearest to the upright line through the middle
            flat = rays[:, 1, :2]
            along = ((middle - centres)[:, :2] * flat).sum(1) / np.maximum((flat**2).sum(1), 1e-6)
            lowest = (centres[:, 2] + along * rays[:, 1, 2]).max()  # a foot before the line looks lower
            floor = lowest if 0.2 < (middle[2] - lowest) / self.species.middle < 3 else floor
        to_world = np.eye(4)
        to_world[:3, :3], origin = self._axes.T, np.array([middle[0], middle[1], floor])
        to_world[:3, 3] = self._axes.T @ origin
        local = []
        for view in views:
            arrays = camera_arrays(camera := self.capture.rig_camera(view))
            turned = arrays["rotation"] @ self._axes.T
            moved = turned @ origin + arrays["translation"]
            local.append(RigCamera(view.camera, arrays["intrinsics"], turned, moved, camera_size(camera), _turn(view)))
        return Stand(views, tuple(local), to_world, np.array([0, 0, middle[2] - floor]))

    def _box(self, view: View) -> NDArray[np.float64]:
        """(4,) x0 y0 x1 y1 around the subject in an image [px]: of its mask, or else the image."""
        mask = self.capture.mask(view)
        if mask is None or not mask.any():
            return np.array([0, 0, *view.size], float)
        (rows,), (columns,) = np.nonzero(mask.any(1)), np.nonzero(mask.any(0))
        return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)

    def _empty(self, sequence: str, camera: str, only: int | None) -> Empty:
        """Find what a camera sees without the subject in a take, or in one instant."""
        chosen = [i for i, one in enumerate(self.instants) if (one.sequence == sequence if only is None else i == only)]
        chosen = chosen[:: -(-len(chosen) // IMAGES)]
        found = [
            (self.stand(i), k, v) for i in chosen for k, v in enumerate(self.instants[i].views) if v.camera == camera
        ]
        pinholes = [stand.cameras[k] for stand, k, _ in found]
        middles = np.concatenate([c.project(s.middle[None]) for c, (s, _, _) in zip(pinholes, found, strict=True)])
        depths = np.array([c.to_camera(s.middle[None])[0, 2] for c, (s, _, _) in zip(pinholes, found, strict=True)])
        radius = REACH * self.species.extent * pinholes[0].intrinsics[0, 0] / np.maximum(depths, 1e-3)
        low, high = (middles - radius[:, None]).min(0), (middles + radius[:, None]).max(0)
        side = float((high - low).max())
        scale = min(1.0, self.size / float(np.median(radius)), CANVAS / side)
        pixels = max(16, int(np.ceil(side * scale)))
        affine = np.array([[scale, 0, -scale * low[0]], [0, scale, -scale * low[1]]])
        rig_camera = self.capture.rig_camera(found[0][2])
        images, hidden, levels, noises = [], [], [], []
        for (_, _, view), middle, reach in zip(found, middles, radius, strict=True):
            cut = self.cut(view, rig_camera, affine, pixels)
            whole, mask = self.capture.image(view), self.capture.mask(view)
            image, outside = cut.image(whole), ~cut.inside(*view.size)
            if mask is None:  # a ball around the subject
                centre = affine[:, :2] @ middle + affine[:, 2]
                rows, columns = np.mgrid[:pixels, :pixels] + 0.5
                covered = np.hypot(columns - centre[0], rows - centre[1]) < scale * reach / REACH / 2
                levels.append(_level(image, ~outside, None))
            else:
                rounds = max(1, round(GROWN * view.size[0]))
                grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=rounds)
                covered = cut.image(grown * 255) > 10
                levels.append(_level(image, ~outside, cut.mask(mask) & ~outside))
            images.append(image)
            hidden.append(covered | outside)
            noises.append(_noise(image if view.crop is None else whole))
        sensor = self.cut(None, rig_camera, affine, pixels).inside(*camera_size(rig_camera))
        image = linear(_emptied(np.stack(images), np.stack(hidden), sensor) / np.float32(255))
        return Empty(image.astype(np.float32), sensor, affine, np.median(levels, 0), float(np.median(noises)))

    def cut(self, view: View | None, camera: Camera, affine: np.ndarray, pixels: int) -> CropMap:
        """Return where the pixels of a square lie in a view's image, or (None) on the sensor.

        Args:
            view: The view.
            camera: Its rig camera.
            affine: (2, 3) map from undistorted sensor pixels to those of the square.
            pixels: Side of the square [px].
        """
        lens = None if view is not None and view.undistorted else camera
        frame_map = None if view is None or view.crop is None else invert_affine(np.array(view.crop))
        return CropMap.create(lens, affine, pixels, frame_map)


def _turn(view: View) -> NDArray[np.float64] | None:
    """Return the rotation (2, 2) of a view's crop, so that what is rendered is turned alike; None where it has none."""
    if view.crop is None:
        return None
    linear_part = np.array(view.crop)[:, :2]
    area = np.linalg.det(linear_part)
    if area <= 0 or abs(linear_part[0, 1]) < 1e-6 * np.sqrt(area):  # mirrored, or straight
        return None
    return np.asarray(linear_part / np.sqrt(area))


def _nearest_to_lines(origins: np.ndarray, directions: np.ndarray) -> NDArray[np.float64]:
    """Return the point (3,) that is nearest to lines through origins (N, 3) along unit directions (N, 3)."""
    off = np.eye(3) - directions[:, :, None] * directions[:, None]
    point: NDArray[np.float64] = np.linalg.lstsq(off.sum(0), (off @ origins[:, :, None]).sum(0)[:, 0], rcond=None)[0]
    return point


def _emptied(images: np.ndarray, hidden: np.ndarray, sensor: np.ndarray) -> np.ndarray:
    """Return the median (N, N, 3) of images (T, N, N, 3) uint8 where they are not hidden (T, N, N), the rest filled in.

    What only one image in sixteen shows is filled in, too. Black where there is no sensor (N, N).
    """
    count = len(images) - hidden.sum(0)
    ordered = np.sort(np.where(hidden[..., None], np.uint16(999), images), 0)
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None, ..., None] // 2, 0)[0]
    missing = (count < 1 + len(images) // 16) | ~sensor
    picture = np.where(missing[..., None], 0, middle).astype(np.uint8)
    return np.where(sensor[..., None], cv2.inpaint(picture, missing.astype(np.uint8), 3, cv2.INPAINT_TELEA), 0)


def _level(image: np.ndarray, known: np.ndarray, mask: np.ndarray | None) -> NDArray[np.float64]:
    """Return the linear light (3,) that white would have in an image (N, N, 3) uint8 of which a part is known.

    Its strength is such that the subject, or else the scene, has its usual albedo; half of the mean colour is taken for
    the light's.
    """
    if not known.any():
        return np.ones(3)
    light = linear(image / 255.0)
    mean = light[known].mean(0) + 1e-3
    level = light[mask].mean() / BODY_ALBEDO if mask is not None and mask.any() else mean.mean() / SCENE_ALBEDO
    return np.asarray(np.sqrt(mean / mean.mean()) * (level + 1e-3))


def _noise(image: np.ndarray) -> float:
    """Return the standard deviation of the noise in an image (H, W, 3) uint8, as a share of white.

    After J. Immerkær, "Fast noise variance estimation", CVIU 64 (1996): two crossed second differences leave little
    but noise. The flattest fifth of what is neither black nor white is looked at, where texture is least.
    """
    green = image[..., 1].astype(np.float32)
    second = np.array([1.0, -2.0, 1.0])
    response = np.abs(cv2.sepFilter2D(green, -1, second, second))[(green > 4) & (green < 251)]
    return float(np.quantile(response, 0.2)) / (0.2533 * 6 * 255) if response.size else 0.0
