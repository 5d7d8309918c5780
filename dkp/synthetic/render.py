"""One image of one subject: shaded, anti-aliased, composed with the backdrop, with exact labels.

Colours are rendered on a grid twice as fine whose every other sample lies on a pixel centre, and weighted with a tent
of one pixel's half-width, so that image and labels stay aligned: the label of a pixel is the sample at its centre.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from dkp.geometry import Camera
from dkp.synthetic.background import Backdrop
from dkp.synthetic.domains import Domain
from dkp.synthetic.light import Lighting, Response
from dkp.synthetic.noise import random_colour
from dkp.synthetic.rasteriser import interpolate, rasterise, vertex_normals
from dkp.synthetic.regions import Regions
from dkp.synthetic.rig import RigCamera, crop_around, cropped_intrinsics, look_at

SHADOW_BIAS = 0.03
"""A point this far behind the first surface towards the light is in shadow [m]."""
SHADOW_SIDE = 128
"""Side of the shadow map [px]."""


FINER = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]])
"""From pixels to pixels of the fine grid: its sample k lies at k / 2, so the pixel centre i + 1/2 is sample 2 i + 1."""

CENTRES = slice(1, None, 2)
"""The samples of the fine grid that lie on pixel centres, along one axis."""


def at_pixels(light: NDArray) -> NDArray:
    """Return the fine grid (2 S + 1, 2 S + 1, C) weighted with a tent around each pixel centre: (S, S, C)."""
    tent = np.array([0.25, 0.5, 0.25])
    return cv2.sepFilter2D(light, -1, tent, tent)[CENTRES, CENTRES]


@dataclass(frozen=True)
class Subject:
    """A person or an animal as it looks, not yet posed.

    Attributes:
        regions: Of the template.
        stand_off: (V, 2), how far the visible surface stands off the skin, along the normal and straight forward [m].
        paint: Gives albedo (N, 3) in linear light and gloss (N,) in [0, 1] of points with interpolated columns (N, C).
    """

    regions: Regions
    stand_off: NDArray
    paint: Callable[[NDArray], tuple[NDArray, NDArray]]


@dataclass(frozen=True)
class Moment:
    """A subject at one instant; what all cameras share.

    Attributes:
        vertices: (V, 3) float64 [m] in the world, exactly representable in float32.
        attributes: (V, C + 4) float32: the region columns, the unit normal, the share of the main light that arrives.
        move: (V, 3) float32 [m], how far each vertex moves during the exposure, whose middle the instant is; or None.
    """

    vertices: NDArray[np.float64]
    attributes: NDArray[np.float32]
    move: NDArray[np.float32] | None = None


def pose_subject(
    subject: Subject, skin: NDArray, head_front: NDArray, lighting: Lighting, move: NDArray | None = None
) -> Moment:
    """Dress a posed body and find which of it the main light reaches.

    Args:
        subject: Gives clothes or fur, and regions.
        skin: (V, 3) vertices of the posed body in the world [m].
        head_front: (3,) unit direction in which the head faces.
        lighting: Gives the main light.
        move: (V, 3), how far the skin moves during the exposure [m].
    """
    faces = subject.regions.faces
    normals = vertex_normals(skin, faces)
    vertices = skin + subject.stand_off[:, :1] * normals + subject.stand_off[:, 1:] * head_front
    # Rounded before it is stored and rendered: labels, truth and images then belong to the same numbers, whatever
    # the number of threads of the matrix product that posed the body.
    vertices = np.round(vertices, 6).astype(np.float32).astype(np.float64)
    normals = vertex_normals(vertices, faces)
    lit = _lit(vertices, faces, lighting.directions[0])
    for _ in range(2):
        lit = subject.regions.spread @ lit
    attributes = np.column_stack([subject.regions.columns, normals, lit]).astype(np.float32)
    return Moment(vertices, attributes, move)


def _lit(vertices: NDArray, faces: NDArray, direction: NDArray) -> NDArray:
    """Share of the light from a direction that arrives at the vertices (V,), by a coarse shadow map."""
    middle = (vertices.min(0) + vertices.max(0)) / 2
    radius = float(np.linalg.norm(vertices - middle, axis=1).max())
    far = 40.0 * radius
    rotation, translation = look_at(middle + far * direction, middle)
    from_light = vertices @ rotation.T + translation
    side = SHADOW_SIDE
    focal = 0.5 * (side - 2) * far / radius
    intrinsics = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    first = rasterise(from_light, faces, intrinsics, side, side, cull_back=True).depth
    pixel = (focal * from_light[:, :2] / from_light[:, 2:] + side / 2).astype(np.int64).clip(0, side - 1)
    return (from_light[:, 2] < first[pixel[:, 1], pixel[:, 0]] + SHADOW_BIAS).astype(np.float64)


@dataclass(frozen=True)
class Conditions:
    """Under which conditions a clip is recorded.

    Attributes:
        rig: The cameras.
        lighting: Of the scene.
        backdrops: Of every camera.
        responses: Of every camera.
        to_world: (4, 4) map from the cameras' axes to the world of the capture [m].
        overrides: Cameras by name, in the world of the capture, that differ from those of the capture's rig.
    """

    rig: Sequence[RigCamera]
    lighting: Lighting
    backdrops: Sequence[Backdrop]
    responses: Sequence[Response]
    to_world: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    overrides: Mapping[str, Camera] = field(default_factory=dict)


@dataclass(frozen=True)
class RenderedView:
    """An image and its labels.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        face: (S, S) int32, -1 where the subject is not seen.
        barycentric: (S, S, 3) float32.
        crop: (2, 3) affine map from sensor pixels to pixels of the image.
    """

    image: NDArray[np.uint8]
    face: NDArray[np.int32]
    barycentric: NDArray[np.float32]
    crop: NDArray[np.float64]


def render_view(
    subject: Subject,
    moment: Moment,
    camera: RigCamera,
    backdrop: Backdrop,
    lighting: Lighting,
    response: Response,
    domain: Domain,
    size: int,
    rng: np.random.Generator,
) -> RenderedView:
    """Render a square crop around a subject.

    Args:
        subject: The person or animal.
        moment: The subject's pose.
        camera: The camera of the rig.
        backdrop: What that camera sees without the subject.
        lighting: Light of the scene.
        response: Of the camera.
        domain: Ranges of margin, shift, occluders and compression.
        size: Side of the image [px].
        rng: Source of what varies between images: crop, occluder, noise.
    """
    shift = rng.uniform(-domain.shift, domain.shift, 2)
    crop = crop_around(camera.project(moment.vertices), size, rng.uniform(*domain.margin), shift, camera.turn)
    side = 2 * size + 1
    to_fine = (FINER @ np.vstack([crop, [0, 0, 1]]))[:2]
    intrinsics = cropped_intrinsics(camera.intrinsics, to_fine)
    seen = rasterise(camera.to_camera(moment.vertices), subject.regions.faces, intrinsics, side, side, cull_back=True)
    canvas, depth = backdrop.crop(to_fine, side)
    light = np.ascontiguousarray(canvas[..., :3])
    light *= lighting.sky.astype(np.float32) + 0.6 * lighting.colours[0].astype(np.float32)
    if depth is not None:
        _cast_shadow(light, canvas[..., 3], moment.vertices, camera, to_fine, lighting)
    face = seen.face
    if depth is not None:
        face = np.where(seen.depth < depth, face, -1)
    spot = np.flatnonzero(face.ravel() >= 0)
    corner, weights = face.ravel()[spot], seen.barycentric.reshape(-1, 3)[spot]
    shaded = _shade(subject, moment, camera, lighting, corner, weights)
    if moment.move is None:
        light.reshape(-1, 3)[spot] = shaded
    else:
        way = (camera.project(moment.vertices + moment.move) - camera.project(moment.vertices)) @ to_fine[:, :2].T
        way = interpolate(way, subject.regions.faces, corner, weights)
        light = _smear(light, spot, shaded, way, seen.depth.ravel()[spot])
    if rng.random() < domain.occluders:
        face = _occlude(light, face, domain, rng)

    label = np.ascontiguousarray(face[CENTRES, CENTRES])
    barycentric = seen.barycentric[CENTRES, CENTRES] * (label >= 0)[..., None]
    image = response.develop(at_pixels(light), domain, rng)
    return RenderedView(image, label.astype(np.int32), barycentric.astype(np.float32), crop)


def _shade(
    subject: Subject, moment: Moment, camera: RigCamera, lighting: Lighting, face: NDArray, barycentric: NDArray
) -> NDArray:
    """Linear light (N, 3) of samples of the subject."""
    values = interpolate(moment.attributes, subject.regions.faces, face, barycentric)
    columns, normals, lit = values[:, :-4], values[:, -4:-1], values[:, -1]
    albedo, gloss = subject.paint(columns)
    normals = normals / np.sqrt(np.maximum(np.einsum("ni,ni->n", normals, normals), 1e-12))[:, None]
    towards_eye = camera.centre - moment.vertices.mean(0)
    towards_eye = (towards_eye / np.linalg.norm(towards_eye)).astype(np.float32)
    return lighting.shade(albedo.astype(np.float32), gloss, normals, towards_eye, lit)


def _smear(scene: NDArray, spot: NDArray, shaded: NDArray, way: NDArray, depth: NDArray) -> NDArray:
    """Return the mean over an exposure of a scene (S, S, 3) with samples before it that move.

    Args:
        scene: Light without the subject.
        spot: (N,) flat indices of the subject's samples in the middle of the exposure.
        shaded: (N, 3) their light.
        way: (N, 2) how far they move in all [samples].
        depth: (N,) [m]; near ones cover far ones.
    """
    side = scene.shape[0]
    order = np.argsort(-depth, kind="stable")
    row, column = np.divmod(spot[order], side)
    shaded, way = shaded[order], way[order]
    steps = int(np.clip(np.ceil(np.abs(way).max(initial=0)), 1, 16))
    result = np.zeros_like(scene)
    for share in (np.arange(steps) + 0.5) / steps - 0.5:
        x = np.floor(column + share * way[:, 0] + 0.5).astype(np.int64).clip(0, side - 1)
        y = np.floor(row + share * way[:, 1] + 0.5).astype(np.int64).clip(0, side - 1)
        instant = scene.copy()
        instant[y, x] = shaded
        result += instant
    return result / np.float32(steps)


def _cast_shadow(
    light: NDArray, floor: NDArray, vertices: NDArray, camera: RigCamera, to_fine: NDArray, lighting: Lighting
) -> None:
    """Darken the floor where the subject stands before the main light, in place."""
    side = light.shape[0]
    direction = lighting.directions[0]
    some = vertices[::3]
    on_floor = some - direction * (some[:, 2:] / direction[2])
    on_floor[:, 2] = 0.0
    pixel = camera.project(on_floor) @ to_fine[:, :2].T + to_fine[:, 2]
    coarse = max(side // 4, 1)
    cells = np.floor(pixel * (coarse / side)).astype(np.int64)
    cells = cells[((cells >= 0) & (cells < coarse)).all(1)]
    hits = np.bincount(cells[:, 1] * coarse + cells[:, 0], minlength=coarse * coarse).reshape(coarse, coarse)
    shadow = cv2.GaussianBlur(np.minimum(hits, 1).astype(np.float32), (0, 0), 1.2)
    shadow = np.minimum(cv2.resize(shadow, (side, side), interpolation=cv2.INTER_LINEAR) * 1.6, 1.0)
    key = lighting.colours[0].mean()
    light *= (1 - 0.8 * key / (key + 2 * lighting.sky.mean()) * shadow * floor)[..., None]


def _occlude(light: NDArray, face: NDArray, domain: Domain, rng: np.random.Generator) -> NDArray:
    """Put something before the lens: paints in place, returns the faces with what it hides set to -1."""
    side = light.shape[0]
    colour = random_colour(rng, domain.surroundings_saturation, domain.surroundings_value)
    centre = tuple(float(v) for v in rng.uniform(0.1, 0.9, 2) * side)
    axes = tuple(float(v) for v in rng.uniform(0.08, 0.45, 2) * side)
    corners = cv2.boxPoints((centre, axes, float(rng.uniform(0, 180))))
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
    hidden = mask.astype(bool)
    light[hidden] = (colour * rng.uniform(0.3, 0.8)).astype(np.float32)
    return np.where(hidden, -1, face).astype(np.int32)
