"""What stands behind a subject: rooms, open ground and studios cast from each camera, or flat pictures.

Scenes are three-dimensional and shared by the cameras of a rig, so what the cameras see of them is consistent; they
are cast once per camera, coarsely, and every crop is cut from that picture. Colours are in linear light.
"""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dkp.synthetic.domains import Domain
from dkp.synthetic.noise import choose, fractal, random_colour, skin_colour
from dkp.synthetic.rig import RigCamera

BORDER = 0.3
"""How far a backdrop reaches beyond the sensor on each side, as a share of its size; crops may leave the sensor."""

ARENA = 1.15
"""Things that stand about keep this multiple of the cameras' distance from the middle, except obstacles."""


@dataclass(frozen=True)
class Thing:
    """A box or an ellipsoid that stands about.

    Attributes:
        low: (3,) least corner of its box [m].
        high: (3,) greatest corner [m].
        colour: (3,) linear light.
        round: An ellipsoid in the box instead of the box.
        stripes: Period of horizontal stripes (shelves, windows) [m], 0 for none.
    """

    low: NDArray
    high: NDArray
    colour: NDArray
    round: bool = False
    stripes: float = 0.0


@dataclass(frozen=True)
class Scene:
    """What stands around the subject, in three dimensions.

    Attributes:
        floor: (3,) colour.
        tile: Side of the floor's tiles [m], 0 for a plain floor.
        tile_contrast: Darkening of every other tile.
        extent: (4,) walls at least x, y and greatest x, y [m]; infinite for open ground.
        walls: (4, 3) colours of the walls, or of the sky at the horizon (0) and overhead (1).
        ceiling: Height of the ceiling [m].
        grain: Strength of the texture of floor and walls.
        things: What stands about.
        light: (3,) unit direction towards the main light.
        fade: Share of floor and walls that melt into one another, as in a seamless studio.
    """

    floor: NDArray
    tile: float
    tile_contrast: float
    extent: NDArray
    walls: NDArray
    ceiling: float
    grain: float
    things: tuple[Thing, ...]
    light: NDArray
    fade: float = 0.0


@dataclass(frozen=True)
class Backdrop:
    """What one camera sees without the subject.

    Attributes:
        image: (H, W, 4) float32, linear RGB and whether it is floor that can hold a shadow.
        depth: (H, W) float32 [m] along the optical axis, or None for a flat picture behind everything.
        from_sensor: (2, 3) affine map from sensor pixels to pixels of the backdrop.
    """

    image: NDArray[np.float32]
    depth: NDArray[np.float32] | None
    from_sensor: NDArray[np.float64]

    def crop(self, crop: NDArray, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return what a square crop sees.

        Args:
            crop: (2, 3) affine map from sensor pixels to the crop's pixels.
            side: Side of the crop [px].

        Returns:
            (side, side, 4) picture and (side, side) depth [m] or None.
        """
        whole = np.vstack([crop, [0, 0, 1]])
        to_backdrop = np.vstack([self.from_sensor, [0, 0, 1]]) @ np.linalg.inv(whole)
        # OpenCV counts pixel centres as integers, dkp as integers + 0.5.
        to_backdrop[:2, 2] += to_backdrop[:2, :2] @ [0.5, 0.5] - 0.5
        flags, border = cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101
        matrix = to_backdrop[:2]
        image = cv2.warpAffine(self.image, matrix, (side, side), flags=flags | cv2.INTER_LINEAR, borderMode=border)
        if self.depth is None:
            return image.astype(np.float32, copy=False), None
        depth = cv2.warpAffine(self.depth, matrix, (side, side), flags=flags | cv2.INTER_NEAREST, borderMode=border)
        return image.astype(np.float32, copy=False), depth.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Surroundings:
    """The surroundings of one recording, from which each camera's backdrop follows.

    Attributes:
        kind: ``gradient``, ``noise``, ``collage``, ``studio``, ``room`` or ``outdoor``.
        scene: What stands around, None for the flat kinds.
        domain: Ranges for the flat kinds.
        seed: Of the textures.
    """

    kind: str
    scene: Scene | None
    domain: Domain
    seed: tuple[int, ...] = field(default=())


def make_surroundings(
    domain: Domain, rig: list[RigCamera], light: NDArray, seed: np.random.SeedSequence
) -> Surroundings:
    """Draw the surroundings of one recording.

    Args:
        domain: Weights of the kinds and ranges.
        rig: The cameras; things keep out of their way.
        light: (3,) unit direction towards the main light.
        seed: Source of randomness.
    """
    rng = np.random.default_rng(seed)
    kind = choose(domain.backdrops, rng)
    reach = max(float(np.linalg.norm(camera.centre[:2])) for camera in rig)
    scene = None
    if kind in ("studio", "room", "outdoor"):
        scene = _scene(kind, domain, reach, light, rng)
    return Surroundings(kind, scene, domain, tuple(int(v) for v in seed.generate_state(4)))


def make_backdrop(surroundings: Surroundings, camera: RigCamera, index: int, scale: float) -> Backdrop:
    """Return the backdrop of one camera.

    Args:
        surroundings: Where the recording takes place.
        camera: The camera.
        index: Its number in the rig; varies the flat kinds.
        scale: Pixels of the backdrop per pixel of the sensor.
    """
    rng = np.random.default_rng([*surroundings.seed, index])
    width, height = (round(side * (1 + 2 * BORDER) * scale) for side in camera.size)
    from_sensor = np.array(
        [[scale, 0, BORDER * camera.size[0] * scale], [0, scale, BORDER * camera.size[1] * scale]], np.float64
    )
    if surroundings.scene is None:
        image = _picture(surroundings.kind, surroundings.domain, height, width, rng)
        flat = np.concatenate([image, np.zeros_like(image[..., :1])], 2).astype(np.float32)
        return Backdrop(flat, None, from_sensor)
    image, depth = _cast(surroundings.scene, camera, from_sensor, height, width, rng)
    return Backdrop(image, depth, from_sensor)


def _scene(kind: str, domain: Domain, reach: float, light: NDArray, rng: np.random.Generator) -> Scene:
    saturation, value = domain.surroundings_saturation, domain.surroundings_value
    arena = ARENA * reach
    count = int(rng.integers(*domain.clutter, endpoint=True))
    things = [part for _ in range(count) for part in _thing(kind, domain, arena, rng)]
    for _ in range(int(rng.integers(0, domain.obstacles + 1))):
        azimuth, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.8) * reach
        size = np.array([rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.55)])
        middle = np.array([radius * np.cos(azimuth), radius * np.sin(azimuth), size[2] / 2])
        things.append(Thing(middle - size / 2, middle + size / 2, random_colour(rng, saturation, value)))
    if kind == "outdoor":
        green = rng.random() < 0.6
        ground = np.array([0.10, 0.19, 0.05]) if green else random_colour(rng, (0.05, 0.35), (0.35, 0.65))
        sky = np.array([[0.72, 0.80, 0.92], [0.22, 0.42, 0.80]]) if rng.random() < 0.7 else np.full((2, 3), 0.65)
        everywhere = np.array([-np.inf, -np.inf, np.inf, np.inf])
        walls = np.concatenate([sky, sky]) * rng.uniform(0.6, 1.0)
        return Scene(ground * rng.uniform(0.7, 1.4), 0.0, 0.0, everywhere, walls, np.inf, 0.2, tuple(things), light)
    walls = np.stack([random_colour(rng, saturation, value) for _ in range(4)])
    if rng.random() < 0.7:  # mostly all four walls are painted alike
        walls[:] = walls[0] * rng.uniform(0.85, 1.1, (4, 1))
    extent = np.array([-1, -1, 1, 1]) * (arena + rng.uniform(1.2, 3.0, 4))
    floor = random_colour(rng, (0.5 * saturation[0], 0.5 * saturation[1]), value)
    if kind == "studio":
        floor = walls[0] * rng.uniform(0.9, 1.1)
        return Scene(floor, 0.0, 0.0, extent, walls, 6.0, 0.02, tuple(things), light, fade=1.0)
    tile = rng.choice([0.0, rng.uniform(0.15, 0.8)])
    contrast, grain = rng.uniform(0.05, 0.4), rng.uniform(0.03, 0.2)
    return Scene(floor, tile, contrast, extent, walls, rng.uniform(2.6, 4.0), grain, tuple(things), light)


def _thing(kind: str, domain: Domain, arena: float, rng: np.random.Generator) -> list[Thing]:
    """One thing that stands about outside the arena: a piece of furniture, a bystander, a tree, a house."""
    saturation, value = domain.surroundings_saturation, domain.surroundings_value
    azimuth, radius = rng.uniform(0, 2 * np.pi), arena + rng.uniform(0.1, 1.1)
    if kind == "outdoor":
        radius = arena * rng.uniform(1.2, 3.5)
    foot = np.array([radius * np.cos(azimuth), radius * np.sin(azimuth), 0.0])
    colour = random_colour(rng, saturation, value)
    if rng.random() < domain.skin_clutter:
        colour = skin_colour(rng.random(), rng)
    what = rng.random()

    def upright(width: float, depth: float, bottom: float, top: float, tint: NDArray, **more: Any) -> Thing:
        low = foot + np.array([-width / 2, -depth / 2, bottom])
        return Thing(low, low + np.array([width, depth, top - bottom]), tint, **more)

    if kind == "outdoor" and what < 0.5:  # a tree
        top, crown = rng.uniform(2.5, 7), rng.uniform(1.2, 3.5)
        green = np.array([0.06, 0.14, 0.03]) * rng.uniform(0.6, 1.8)
        trunk = upright(0.3, 0.3, 0, top, np.array([0.09, 0.06, 0.04]))
        return [trunk, upright(crown, crown, top * 0.35, top + crown * 0.3, green, round=True)]
    if kind == "outdoor" and what < 0.75:  # a house
        foot = foot * 2.5
        wide, deep = rng.uniform(4, 9, 2)
        return [upright(wide, deep, 0, rng.uniform(3, 9), colour, stripes=rng.choice([0.0, 1.4]))]
    if what < 0.25:  # somebody standing by, coarse
        skin, tall = skin_colour(rng.random(), rng), rng.uniform(1.5, 1.85)
        shirt = colour if rng.random() > domain.skin_clutter else skin
        return [
            upright(0.2, 0.2, tall - 0.26, tall, skin, round=True),
            upright(0.5, 0.28, 0.5 * tall, tall - 0.2, shirt, round=True),
            upright(0.34, 0.24, 0.0, 0.56 * tall, random_colour(rng, saturation, value)),
            upright(0.66, 0.12, 0.45 * tall, 0.72 * tall, skin, round=True),
        ]
    if what < 0.4:  # a ball or a plant
        side = rng.uniform(0.25, 0.9)
        return [upright(side, side, 0.0, side * rng.uniform(1, 2), colour, round=True)]
    if what < 0.6:  # a cupboard or shelf
        wide = rng.uniform(0.5, 1.6)
        return [
            upright(wide, rng.uniform(0.3, 0.6), 0, rng.uniform(1.2, 2.3), colour, stripes=rng.choice([0, 0.35, 0.5]))
        ]
    if what < 0.8:  # a table, or an exercise machine with its upright and console
        wide, tall = rng.uniform(0.6, 1.6), rng.uniform(0.15, 0.8)
        parts = [upright(wide, rng.uniform(0.5, 1.6), 0.6 * tall, tall, colour)]
        if rng.random() < 0.5:
            parts.append(upright(0.08, 0.6, 0, rng.uniform(1.0, 1.5), random_colour(rng, saturation, value)))
        return parts
    wide, deep = rng.uniform(0.08, 0.9, 2)
    return [upright(wide, deep, 0, rng.uniform(0.3, 1.9), colour)]


def _cast(
    scene: Scene, camera: RigCamera, from_sensor: NDArray, height: int, width: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Picture (H, W, 4) and depth (H, W) of a scene from a camera."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    to_sensor = np.linalg.inv(np.vstack([from_sensor, [0, 0, 1]]))
    to_ray = camera.rotation.T @ np.linalg.inv(camera.intrinsics) @ to_sensor
    pixels = np.stack([columns.ravel(), rows.ravel(), np.ones(height * width)])
    ray = (to_ray @ pixels).T.astype(np.float32)  # unit length along the optical axis, so t is depth
    ray = np.where(np.abs(ray) < 1e-6, 1e-6, ray)
    eye = camera.centre.astype(np.float32)

    depth, colour, floor = _ground(scene, eye, ray, rng)
    for thing in scene.things:
        near, normal, spot = _hit(thing, eye, ray)
        seen = np.flatnonzero(near < depth[spot])
        if len(seen) == 0:
            continue
        spot, near, normal = spot[seen], near[seen], normal[seen]
        shade = 0.55 + 0.45 * np.clip(normal @ scene.light.astype(np.float32), -0.6, 1)
        if thing.stripes:
            level = eye[2] + ray[spot, 2] * near
            shade = shade * np.where(np.mod(level, thing.stripes) < 0.12 * thing.stripes, 0.45, 1.0)
        depth[spot], floor[spot] = near, 0.0
        colour[spot] = thing.colour.astype(np.float32) * shade[:, None]
    texture = 1 + scene.grain * 0.35 * fractal((height, width), rng, 1.0).ravel()
    colour *= np.clip(texture, 0.3, 1.9)[:, None]
    image = np.concatenate([colour, floor[:, None]], 1).reshape(height, width, 4).astype(np.float32)
    smooth = cv2.GaussianBlur(image, (0, 0), 0.6)  # one ray a pixel leaves jagged edges
    return np.ascontiguousarray(smooth, np.float32), np.ascontiguousarray(depth.reshape(height, width), np.float32)


def _ground(scene: Scene, eye: NDArray, ray: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """Depth (N,), colour (N, 3) and floor share (N,) of floor, walls, ceiling and sky."""
    to_floor = np.where(ray[:, 2] < 0, -eye[2] / ray[:, 2], np.inf)
    distances = [to_floor]
    if np.isfinite(scene.extent).all():
        for axis in range(2):
            side = np.where(ray[:, axis] > 0, scene.extent[axis + 2], scene.extent[axis]).astype(np.float32)
            distances.append((side - eye[axis]) / ray[:, axis])
        distances.append(np.where(ray[:, 2] > 0, (scene.ceiling - eye[2]) / ray[:, 2], np.inf))
    hit = np.argmin(distances, 0)
    depth = np.min(distances, 0).astype(np.float32)
    far = ~np.isfinite(depth)
    point = eye + ray * np.where(far, 1.0, depth)[:, None]
    colour = np.empty((len(ray), 3), np.float32)

    noise = fractal((256, 256), rng)
    patch = noise[np.mod((point[:, 0] * 40).astype(int), 256), np.mod((point[:, 1] * 40).astype(int), 256)]
    ground = scene.floor * (1 + scene.grain * patch[:, None])
    if scene.tile:
        odd = (np.floor(point[:, 0] / scene.tile) + np.floor(point[:, 1] / scene.tile)) % 2
        ground = ground * (1 - scene.tile_contrast * odd)[:, None]
    distance = np.hypot(point[:, 0], point[:, 1])
    if np.isfinite(scene.extent).all():
        colour[:] = ground * (1.1 / (1 + 0.012 * distance**2))[:, None]
    else:  # open ground fades into the haze
        haze = 1 - np.exp(-distance / 60)[:, None]
        colour[:] = ground * (1 - haze) + 0.7 * scene.walls[0] * haze
    for axis in (1, 2):
        on = hit == axis
        if on.any():
            positive = ray[on, axis - 1] > 0
            along, level = point[on, 2 - axis], point[on, 2]
            grain = noise[np.mod((along * 40).astype(int), 256), np.mod((level * 40).astype(int), 256)]
            wall = scene.walls[(axis - 1) + 2 * positive] * (0.75 + 0.1 * level + 0.5 * scene.grain * grain)[:, None]
            if not scene.fade:
                wall = wall * np.where(level < 0.12, 0.6, 1.0)[:, None]  # skirting board
            colour[on] = wall
    colour[hit == 3] = scene.walls[0] * 1.1
    if far.any():
        up = np.clip(ray[far, 2] / np.linalg.norm(ray[far], axis=1) * 2.5, 0, 1)[:, None]
        colour[far] = scene.walls[0] * (1 - up) + scene.walls[1] * up
        depth[far] = 1e6
    if scene.fade:
        smooth = scene.floor * np.clip(1.1 - 0.03 * distance + 0.06 * point[:, 2], 0.55, 1.15)[:, None]
        colour += scene.fade * (smooth - colour)
    return depth, np.maximum(colour, 0), ((hit == 0) & ~far).astype(np.float32)


def _hit(thing: Thing, eye: NDArray, ray: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Depth (M,), normal (M, 3) and index (M,) of the rays (N, 3) that meet a thing."""
    low, high = thing.low.astype(np.float32), thing.high.astype(np.float32)
    if thing.round:
        centre, radius = (low + high) / 2, (high - low) / 2
        o, d = (eye - centre) / radius, ray / radius
        a, b, c = (d * d).sum(1), d @ o, float(o @ o) - 1
        root = b * b - a * c
        spot = np.flatnonzero((root > 0) & (b < 0)) if c > 0 else np.zeros(0, int)
        near = (-b[spot] - np.sqrt(root[spot])) / a[spot]
        normal = (o + d[spot] * near[:, None]) / radius
        return near, normal / np.linalg.norm(normal, axis=1, keepdims=True), spot
    first, second = (low - eye) / ray, (high - eye) / ray
    enter = np.minimum(first, second)
    near = enter.max(1)
    spot = np.flatnonzero((near > 0) & (near <= np.maximum(first, second).min(1)))
    axis = enter[spot].argmax(1)
    normal = np.zeros((len(spot), 3), np.float32)
    normal[np.arange(len(spot)), axis] = -np.sign(ray[spot, axis])
    return near[spot], normal, spot


def _picture(kind: str, domain: Domain, height: int, width: int, rng: np.random.Generator) -> NDArray:
    """Return a flat picture (H, W, 3)."""
    saturation, value = domain.surroundings_saturation, domain.surroundings_value

    def colour() -> NDArray:
        return random_colour(rng, saturation, value)

    columns, rows = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + 0.5 * (np.cos(angle) * columns + np.sin(angle) * rows), 0, 1)[..., None]
    image = colour() * ramp + colour() * (1 - ramp)
    if kind == "gradient":
        return image
    cloud = fractal((height, width), rng, rng.uniform(0.8, 2.2))[..., None]
    mix = np.clip(0.5 + 0.35 * cloud, 0, 1)
    image = image * (1 - mix) + colour() * mix
    if kind == "noise":
        return image
    for _ in range(int(rng.integers(*domain.clutter, endpoint=True)) * 2):
        skin = rng.random() < domain.skin_clutter
        tint = skin_colour(rng.random(), rng) if skin else colour()
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = tuple(max(2, int(v)) for v in rng.uniform(0.02, 0.18, 2) * height)
        turn = float(rng.uniform(0, 180))
        if rng.random() < 0.5:
            cv2.ellipse(image, centre, axes, turn, 0, 360, tint.tolist(), -1)
        else:
            corners = cv2.boxPoints((centre, axes, turn)).astype(np.int32)
            cv2.fillPoly(image, [corners], tint.tolist())
    return np.clip(image * (1 + 0.08 * fractal((height, width), rng, 0.8)[..., None]), 0, None)
