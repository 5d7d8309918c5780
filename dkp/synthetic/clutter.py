"""Pictures full of hard edges, patterns and small things: what stands behind a subject in a crowded room.

Nothing in them is a subject, so they teach a detector what to leave alone. `synthesize_backgrounds` writes a folder of
them, which `Augmentation.backgrounds` takes as it takes any folder of photographs.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dkp.errors import InputError
from dkp.synthetic.noise import fractal, random_colour, skin_colour

SHARP = 3
"""Fractional bits of OpenCV's drawing coordinates."""


def synthesize_backgrounds(out: str | Path, *, count: int = 1500, size: int = 192, seed: int = 0) -> None:
    """Draw a folder of cluttered pictures to put behind rendered subjects, the same for the same arguments.

    Args:
        out: Folder, made where it is missing; files of the same names are replaced.
        count: Number of pictures.
        size: Side of the square pictures [px].
        seed: Of all that is random.

    Raises:
        InputError: count or size is too small.
    """
    if count < 1 or size < 32:
        raise InputError(f"count is {count} and size {size} where at least 1 and 32 are expected")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture = clutter(np.random.default_rng((seed, index)), size)
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def clutter(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """One picture.

    Args:
        rng: Source of all that is random.
        side: Of the square [px].

    Returns:
        (side, side, 3) uint8 RGB.
    """
    canvas = _ground(rng, side)
    things = int(np.exp(rng.uniform(np.log(3), np.log(70))))
    sizes = np.sort(np.exp(rng.uniform(np.log(0.03), np.log(0.9), things)))[::-1]
    for size in sizes:
        _thing(canvas, rng, float(size) * side)
    for _ in range(int(rng.integers(0, 4))):
        _heap(canvas, rng)
    for _ in range(rng.poisson(2.0)):
        _cable(canvas, rng)
    ramp = np.linspace(rng.uniform(0.6, 1.3), rng.uniform(0.6, 1.3), side, dtype=np.float32)
    picture: NDArray = canvas.astype(np.float32) * (ramp[:, None, None] if rng.random() < 0.5 else ramp[None, :, None])
    picture *= 1 + rng.uniform(0, 0.06) * fractal((side, side), rng, 0.8).astype(np.float32)[..., None]
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 2.0))
    return np.clip(picture, 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Of a thing, 0 to 255: half of them nearly grey, a few of skin or wood."""
    kind = rng.random()
    if kind < 0.45:
        linear = random_colour(rng, (0.0, 0.15), (0.03, 1.0))
    elif kind < 0.62:
        linear = skin_colour(rng.random(), rng)
    else:
        linear = random_colour(rng, (0.1, 0.9), (0.05, 1.0))
    red, green, blue = 255 * np.clip(linear, 0, 1) ** (1 / 2.2)
    return float(red), float(green), float(blue)


def _ground(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Wall and floor, a gradient, or noise."""
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = _colour(rng)
    kind = rng.random()
    if kind < 0.6:
        for _ in range(int(rng.integers(1, 4))):
            level = rng.uniform(0.2, 0.9) * side
            tilt = rng.normal(0, 0.25) * side
            low = np.array([[0, level - tilt], [side, level + tilt], [side, side], [0, side]])
            _fill(canvas, low, _colour(rng))
    elif kind < 0.8:
        share = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
        canvas = canvas * (1 - share) + np.array(_colour(rng), np.float32) * share
    if rng.random() < 0.5:
        noise = fractal((side, side), rng, rng.uniform(0.8, 2.0)).astype(np.float32)
        canvas *= 1 + rng.uniform(0.05, 0.4) * noise[..., None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _fill(canvas: NDArray, corners: NDArray, colour: tuple[float, float, float]) -> None:
    cv2.fillPoly(canvas, [np.round(corners * 2**SHARP).astype(np.int32)], colour, cv2.LINE_AA, SHARP)


def _quad(rng: np.random.Generator, side: int, size: float) -> NDArray[np.float64]:
    """(4, 2) corners of a rectangle in loose perspective, mostly upright."""
    angle = rng.normal(0, 0.15) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    half = 0.5 * size * np.array([1.0, np.exp(rng.normal(0, 0.8))])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.minimum(half, side)
    corners = corners * (1 + rng.normal(0, 0.12, (4, 2)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return corners @ turn.T + rng.uniform(-0.05, 1.05, 2) * side


def _thing(canvas: NDArray, rng: np.random.Generator, size: float) -> None:
    """Paint a box, a board, a patterned panel, a ball, a pole, a coarse figure or letters, in place."""
    side, colour, kind = canvas.shape[0], _colour(rng), rng.random()
    quad = _quad(rng, side, size)
    if kind < 0.2:
        _box(canvas, rng, quad, colour)
    elif kind < 0.35:
        _fill(canvas, quad, colour)
        if rng.random() < 0.5:
            edge = [np.round(quad * 2**SHARP).astype(np.int32)]
            cv2.polylines(canvas, edge, True, _colour(rng), int(rng.integers(1, 4)), cv2.LINE_AA, SHARP)
    elif kind < 0.62:
        _panel(canvas, rng, quad, colour)
    elif kind < 0.74:
        axes = np.maximum(0.5 * size * np.exp(rng.normal(0, 0.3, 2)), 1).astype(int)
        centre = quad.mean(0).astype(int)
        shape = (tuple(map(int, centre)), tuple(map(int, axes)), float(rng.uniform(0, 180)), 0, 360)
        cv2.ellipse(canvas, *shape, colour, -1 if rng.random() < 0.8 else 2, cv2.LINE_AA)
    elif kind < 0.88:
        start, end = (rng.uniform(-0.2, 1.2, 2) * side for _ in range(2))
        if rng.random() < 0.6:  # upright or level
            end[int(rng.integers(2))] = start[int(rng.integers(2))]
        thick = int(np.clip(0.06 * size * rng.uniform(0.3, 2), 1, 14))
        cv2.line(canvas, tuple(map(int, start)), tuple(map(int, end)), colour, thick, cv2.LINE_AA)
    elif kind < 0.95:
        _figure(canvas, rng, quad.mean(0), max(size, 10.0))
    else:
        word = "".join(chr(int(c)) for c in rng.integers(48, 91, int(rng.integers(2, 8))))
        corner, scale = tuple(map(int, quad.mean(0))), float(np.clip(size / 50, 0.3, 2.5))
        cv2.putText(canvas, word, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, int(rng.integers(1, 4)), cv2.LINE_AA)


def _box(canvas: NDArray, rng: np.random.Generator, quad: NDArray, colour: tuple[float, float, float]) -> None:
    """Paint a box: a front, a side and a top in three shades of a colour."""
    away = rng.normal(0, 0.25, 2) * np.ptp(quad, axis=0).mean() + [0.0, -2.0]
    back, shades = quad + away, np.sort(rng.uniform(0.4, 1.2, 3))
    for corners, shade in (
        (np.array([quad[0], quad[1], back[1], back[0]]), shades[2]),
        (np.array([quad[1], quad[2], back[2], back[1]]), shades[0]),
        (np.array([quad[0], quad[3], back[3], back[0]]), shades[0]),
        (quad, shades[1]),
    ):
        _fill(canvas, corners, tuple(float(min(255.0, c * shade)) for c in colour))  # type: ignore[arg-type]


def _panel(canvas: NDArray, rng: np.random.Generator, quad: NDArray, colour: tuple[float, float, float]) -> None:
    """Blinds, shelves, tiles, a window, or a poster of noise, seen at an angle."""
    cells = 64
    other = np.array(_colour(rng), np.float32)
    row, column = np.mgrid[:cells, :cells]
    period = rng.uniform(3, 24)
    width = rng.uniform(0.15, 0.85)
    down, across = np.mod(row, period) < width * period, np.mod(column, period) < width * period
    kind = rng.random()
    if kind < 0.35:
        mark = down
    elif kind < 0.55:
        mark = across
    elif kind < 0.7:
        mark = down ^ across
    elif kind < 0.85:
        mark = down & across
    else:
        mark = fractal((cells, cells), rng, 1.5) > rng.normal(0, 0.5)
    picture = np.where(mark[..., None], other, np.array(colour, np.float32)).astype(np.float32)
    edge = np.array([[0, 0], [cells, 0], [cells, cells], [0, cells]], np.float32)
    matrix = cv2.getPerspectiveTransform(edge, quad.astype(np.float32))
    size = canvas.shape[:2][::-1]
    there = cv2.warpPerspective(np.full((cells, cells), 1.0, np.float32), matrix, size)[..., None]
    seen = cv2.warpPerspective(picture, matrix, size, flags=cv2.INTER_LINEAR)
    canvas[:] = (canvas * (1 - there) + seen * (there > 0) * np.minimum(there, 1)).clip(0, 255).astype(canvas.dtype)


def _figure(canvas: NDArray, rng: np.random.Generator, middle: NDArray, height: float) -> None:
    """Somebody far away, of a few ellipses: not a subject, however like one."""
    skin = 255 * np.clip(skin_colour(rng.random(), rng), 0, 1) ** (1 / 2.2)
    skin_tone = (float(skin[0]), float(skin[1]), float(skin[2]))
    shirt, trousers = _colour(rng), _colour(rng)
    parts = [
        ((0.0, -0.42), (0.055, 0.08), skin_tone),
        ((-0.06, 0.25), (0.05, 0.26), trousers),
        ((0.06, 0.25), (0.05, 0.26), trousers),
        ((0.0, -0.15), (0.13, 0.2), shirt),
        ((-0.16, -0.1), (0.04, 0.2), shirt),
        ((0.16, -0.1), (0.04, 0.2), shirt),
    ]
    for (x, y), axes, colour in parts:
        centre = (middle + np.array([x, y]) * height).astype(int)
        radii = tuple(max(1, int(a * height)) for a in axes)
        cv2.ellipse(canvas, tuple(map(int, centre)), radii, float(rng.normal(0, 8)), 0, 360, colour, -1, cv2.LINE_AA)


def _heap(canvas: NDArray, rng: np.random.Generator) -> None:
    """Many small things close together, as on a desk."""
    side = canvas.shape[0]
    centre, spread = rng.uniform(0, 1, 2) * side, rng.uniform(0.05, 0.25) * side * np.array([1.5, 0.5])
    for _ in range(int(rng.integers(8, 50))):
        quad = _quad(rng, side, rng.uniform(0.01, 0.07) * side)
        _fill(canvas, quad - quad.mean(0) + centre + rng.normal(0, 1, 2) * spread, _colour(rng))


def _cable(canvas: NDArray, rng: np.random.Generator) -> None:
    """Paint a thin curve."""
    side = canvas.shape[0]
    ends = rng.uniform(-0.1, 1.1, (4, 2)) * side
    t = np.linspace(0, 1, 24)[:, None]
    curve = (1 - t) ** 3 * ends[0] + 3 * t * (1 - t) ** 2 * ends[1] + 3 * t**2 * (1 - t) * ends[2] + t**3 * ends[3]
    points = [np.round(curve * 2**SHARP).astype(np.int32)]
    cv2.polylines(canvas, points, False, _colour(rng), int(rng.integers(1, 4)), cv2.LINE_AA, SHARP)
