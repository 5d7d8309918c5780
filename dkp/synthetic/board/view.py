"""Drawing one view of the printed board: glazed black frame, hands, clutter, glare, blur and noise, with exact labels.

The appearance follows a real recording: a sheet of ChArUco squares, printed white on black, between two panes of glass
in a black frame, held by a person in a dim room. Nothing of that recording is used except what it looks like.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dkp.captures.board import BOARD_SIZE, MARKER, SQUARE, SQUARES

Rng = np.random.Generator

_TEXTURE = 1000.0  # texture px per metre; twice the densest crop
_ORIGIN = np.array([-0.055, -0.07])  # m, upper left corner of the texture in board coordinates
_EXTENT = np.array([0.326, 0.41])  # m
_OVERSAMPLING = 2
_TONES = np.array([[198, 150, 128], [176, 118, 92], [130, 84, 62], [80, 50, 38]])


@dataclass(frozen=True)
class BoardView:
    """One drawn view.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        coordinate: (H, W, 2) float32, board position [m] of every pixel centre, also outside the board.
        mask: (H, W) bool, pixels that show the board's printed area: not cut off, not behind a hand.
    """

    image: np.ndarray
    coordinate: np.ndarray
    mask: np.ndarray


def draw_view(homography: np.ndarray, size: int, rng: Rng, frame: np.ndarray | None = None) -> BoardView:
    """Draw the board as a pinhole camera sees it.

    Args:
        homography: (3, 3), board positions (x, y, 1) [m] to image pixels [px, centres at integer + 0.5].
        size: side of the square image [px].
        rng: random numbers; the same state draws the same image.
        frame: (4,) left, top, right, bottom [px of the image] of the source camera's frame; black outside.
            None: the frame covers the image.

    Returns:
        The view.
    """
    background = draw_background(size, rng).astype(np.float32)
    shade, opacity, glare, glazed = _warped(_texture(rng), homography, size)
    white = np.exp(rng.uniform(np.log(50), np.log(215)))
    tint = 1 + rng.normal(0, 0.05, 3) + rng.choice([-1, 1]) * np.array([0.05, 0.0, -0.05]) * rng.random()
    light = _gradient(size, rng) * (white * tint).astype(np.float32)
    scene = background * (1 - opacity) + shade * light + opacity * np.float32(rng.uniform(0, 9))
    scene += glare * (rng.uniform(20, 150) * (1 + rng.normal(0, 0.08, 3) + [-0.05, 0.02, 0.05])).astype(np.float32)
    if rng.random() < 0.6:
        mirrored = cv2.blur(background[::-1, ::-1], (9, 9))
        scene += glazed * mirrored * np.float32(rng.uniform(0.02, 0.22))
    hidden = np.zeros((size, size), np.float32)
    for _ in range(rng.choice(4, p=[0.15, 0.35, 0.38, 0.12])):
        skin, cover = _hand(homography, size, rng)
        scene += cv2.merge([cover] * 3) * (skin - scene)
        np.maximum(hidden, cover, out=hidden)

    coordinate = plane_coordinates(homography, size)
    inside = np.all((coordinate >= 0) & (coordinate <= BOARD_SIZE), axis=-1)
    mask = inside & (hidden < 0.5)
    image = _expose(_blur(scene, rng), rng)
    if frame is not None:
        centres = np.arange(size) + 0.5
        left, top, right, bottom = frame
        seen = ((centres >= top) & (centres <= bottom))[:, None] & ((centres >= left) & (centres <= right))[None]
        image[~seen] = 0
        mask &= seen
    return BoardView(image, coordinate, mask)


def _warped(texture: np.ndarray, homography: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the texture's channels in the image, anti-aliased: four of (size, size, 3) float32 in [0, 1], grey.

    Three equal planes, because NumPy broadcasts over a last axis of one slowly.
    """
    from_texture = np.diag([1 / _TEXTURE, 1 / _TEXTURE, 1.0])
    from_texture[:2, 2] = _ORIGIN
    half = np.eye(3)
    half[:2, 2] = 0.5
    to_big = np.diag([_OVERSAMPLING, _OVERSAMPLING, 1.0]) @ homography
    warp = np.linalg.inv(half) @ to_big @ from_texture @ half  # OpenCV has pixel centres at integers
    side = size * _OVERSAMPLING
    layers = cv2.warpPerspective(texture, warp, (side, side), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0))
    layers = cv2.resize(layers, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)
    return [cv2.merge([layer] * 3) for layer in cv2.split(layers)]


def plane_coordinates(homography: np.ndarray, size: int) -> np.ndarray:
    """Board position (size, size, 2) float32 [m] of every pixel centre.

    Args:
        homography: (3, 3), board positions (x, y, 1) [m] to image pixels.
        size: side of the image [px].
    """
    inverse = np.linalg.inv(homography)
    inverse *= np.sign(inverse[2] @ homography @ [*(BOARD_SIZE / 2), 1.0]) / np.abs(inverse).max()
    centres = np.arange(size) + 0.5
    x, y, w = ((inverse[row, 1] * centres + inverse[row, 2])[:, None] + inverse[row, 0] * centres for row in range(3))
    seen = w > 1e-9
    w = np.where(seen, w, 1.0)
    # Pixels beyond the horizon of the plane get a position far away, never one on the board.
    return np.stack([np.where(seen, x / w, 1e3), np.where(seen, y / w, 1e3)], -1).astype(np.float32)


@lru_cache(maxsize=1)
def _print() -> np.ndarray:
    """Return the printed area, (270, 216) uint8: white is 255."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_1000)
    board = cv2.aruco.CharucoBoard(SQUARES, SQUARE, MARKER, dictionary)
    width, height = (BOARD_SIZE * _TEXTURE).round().astype(int)
    large = 255 - board.generateImage((int(width) * 4, int(height) * 4))  # 27 px a marker cell: drawn exactly
    return cv2.resize(large, (int(width), int(height)), interpolation=cv2.INTER_AREA)


def _texture(rng: Rng) -> np.ndarray:
    """Albedo times opacity, opacity, glare and glazing over the board's plane: (410, 326, 4) uint8."""
    height, width = (int(v) for v in (_EXTENT[::-1] * _TEXTURE).round())
    albedo, opacity, glare, glazed = (np.zeros((height, width), np.uint8) for _ in range(4))
    jitter = rng.normal(0, 0.002, 12)
    scale = 0.6 + 0.5 * rng.random()
    outer = np.array([-0.040, -0.055, 0.251, 0.306]) + jitter[:4]
    inner = np.array([-0.019, -0.025, 0.223, 0.284]) + jitter[4:8] * scale
    paper = np.array([-0.006, -0.011, 0.2165, 0.2795]) + 0.5 * jitter[8:12]

    def box(canvas: np.ndarray, bounds: np.ndarray, value: float) -> None:
        x0, y0, x1, y1 = np.round((bounds - np.tile(_ORIGIN, 2)) * _TEXTURE).astype(int)
        canvas[max(y0, 0) : y1, max(x0, 0) : x1] = int(value)

    if rng.random() < 0.9:  # a frame; otherwise a bare sheet
        box(opacity, outer, 255)
        box(albedo, outer, rng.uniform(0, 25))
        box(opacity, inner, rng.uniform(20, 240))
        box(albedo, inner, rng.uniform(5, 150) * rng.random())
    box(glazed, inner, 255)
    box(opacity, paper, 255)
    box(albedo, paper, rng.uniform(180, 255))
    dark = rng.uniform(0, 30)
    if rng.random() < 0.8:  # the cut lines above and below the print
        for y in (-0.005, 0.2725):
            box(albedo, np.array([0.002, y, 0.2165, y + rng.uniform(0.002, 0.005)]), dark)
    x0, y0 = np.round(-_ORIGIN * _TEXTURE).astype(int)
    printed = _print()
    h, w = printed.shape
    contrast = (255 - dark) / 255
    albedo[y0 : y0 + h, x0 : x0 + w] = (dark + printed * contrast).astype(np.uint8)

    if rng.random() < 0.55:
        _draw_glare(glare, rng)
        glare[glazed == 0] //= 3
    shade = cv2.multiply(albedo, opacity, scale=1 / 255)
    return cv2.merge([shade, opacity, glare, glazed])


def _draw_glare(glare: np.ndarray, rng: Rng) -> None:
    """Reflections of windows, screens and lamps: soft quadrilaterals, streaks and spots."""
    height, width = glare.shape
    for _ in range(rng.integers(1, 4)):
        centre = rng.uniform([0.1 * width, 0.1 * height], [0.9 * width, 0.9 * height])
        kind = rng.random()
        if kind < 0.55:
            half = rng.uniform(15, 90, 2)
        elif kind < 0.85:
            half = np.array([rng.uniform(1.5, 9), rng.uniform(40, 180)])
        else:
            half = rng.uniform(4, 10, 2)
        angle = rng.uniform(0, np.pi) if rng.random() < 0.4 else rng.normal(0, 0.15)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half * rng.uniform(0.85, 1.15, (4, 2))
        cv2.fillConvexPoly(glare, (corners @ turn.T + centre).round().astype(np.int32), int(rng.uniform(60, 255)))
    width = int(rng.integers(1, 12)) * 2 + 1
    cv2.blur(glare, (width, width), dst=glare)


def _gradient(size: int, rng: Rng) -> np.ndarray:
    """Light falling off across the image, (size, size, 3) float32, about 1."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = rng.normal(0, 0.16, 2)
    light = np.clip(1 + np.float32(x) * ramp[None, :] + np.float32(y) * ramp[:, None], 0.3, 1.7)
    return cv2.merge([light] * 3)


def draw_background(size: int, rng: Rng) -> np.ndarray:
    """Return a cluttered room out of walls, furniture, pictures, shelves and a person: (size, size, 3) uint8 RGB."""
    bright = rng.random() < 0.35
    level = rng.uniform(90, 220) if bright else rng.uniform(3, 50)
    image = np.empty((size, size, 3), np.uint8)
    image[:] = np.clip(level * (1 + rng.normal(0, 0.07, 3)), 0, 255)
    for _ in range(rng.integers(2, 9)):
        centre, half = rng.uniform(0, size, 2), rng.uniform(0.06, 0.55, 2) * size
        angle = rng.uniform(0, np.pi) * (rng.random() < 0.5)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half * rng.uniform(0.8, 1.2, (4, 2))
        points = (corners @ turn.T + centre).round().astype(np.int32)
        cv2.fillConvexPoly(image, points, _colour(rng))
        if rng.random() < 0.3:
            cv2.polylines(image, [points], True, _colour(rng), int(rng.integers(1, 4)))
    if rng.random() < 0.35:
        _draw_stripes(image, rng)
    if rng.random() < 0.5:
        _draw_speckle(image, rng)
    if rng.random() < 0.6:  # the person who holds it: dark clothes, a head, arms
        middle = tuple(int(v) for v in rng.uniform(-0.1 * size, 1.1 * size, 2))
        axes = tuple(int(v) for v in rng.uniform(0.2, 0.6, 2) * size)
        dark = tuple(float(v) for v in rng.uniform(2, 40) * np.ones(3))
        cv2.ellipse(image, middle, axes, rng.uniform(0, 180), 0, 360, dark, -1)
        if rng.random() < 0.6:
            head = tuple(int(v) for v in rng.uniform(0, size, 2))
            axes = tuple(int(v) for v in rng.uniform(0.08, 0.2, 2) * size)
            cv2.ellipse(image, head, axes, rng.uniform(0, 180), 0, 360, _skin(rng).tolist(), -1)
    if rng.random() < 0.3:
        spot = tuple(int(v) for v in rng.uniform(0, size, 2))
        cv2.circle(image, spot, int(rng.uniform(1, 6)), (255, 250, 240), -1)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 2.5))


def _colour(rng: Rng) -> tuple[float, ...]:
    draw, spread, *channels = rng.random(5).tolist()
    level = draw / 0.65 * 50 if draw < 0.65 else 40 + (draw - 0.65) / 0.35 * 190
    width = 0.28 if spread < 0.7 else 2.0
    return tuple(min(max(level * (1 + width * (channel - 0.5)), 0.0), 255.0) for channel in channels)


def _skin(rng: Rng) -> np.ndarray:
    """Return an RGB skin tone in [0, 255] under room light."""
    return np.clip(_TONES[rng.integers(4)] * np.exp(rng.uniform(-1.3, 0.15)) * (1 + rng.normal(0, 0.05, 3)), 0, 255)


def _draw_stripes(image: np.ndarray, rng: Rng) -> None:
    """Draw a shelf of books or a blind."""
    size = len(image)
    x, y = rng.integers(0, size, 2)
    step, length = int(rng.integers(2, 9)), int(rng.integers(10, 50))
    for index in range(rng.integers(4, 20)):
        at = index * step
        if length % 2:
            image[y : y + length, x + at : x + at + step - 1] = _colour(rng)
        else:
            image[y + at : y + at + 2, x : x + length] = _colour(rng)


def _draw_speckle(image: np.ndarray, rng: Rng) -> None:
    """Draw a patch of texture or, sometimes, of black and white squares, so that those alone do not make a board."""
    size = len(image)
    height, width = rng.integers(size // 8, size, 2)
    y, x = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    cells = rng.integers(3, 40, 2)
    if rng.random() < 0.3:
        noise = (rng.random((*cells, 1)) < 0.5) * rng.uniform(50, 200) * np.ones(3)
        resized = cv2.resize(noise.astype(np.float32), (int(width), int(height)), interpolation=cv2.INTER_NEAREST)
        image[y : y + height, x : x + width] = resized.astype(np.uint8)
        return
    noise = rng.normal(0, rng.uniform(4, 40), (*cells, 3)).astype(np.float32)
    patch = image[y : y + height, x : x + width]
    patch[:] = np.clip(patch + cv2.resize(noise, (int(width), int(height)), interpolation=cv2.INTER_LINEAR), 0, 255)


def _hand(homography: np.ndarray, size: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Return a hand on the edge of the frame, with a forearm: skin (size, size, 3) and cover (size, size) in [0, 1]."""
    low, high = np.array([-0.035, -0.05]), np.array([0.246, 0.30])
    side = rng.integers(4)
    along = rng.uniform(0.0, 1.0)
    at = low + (high - low) * (np.array([along, side % 2]) if side < 2 else np.array([side % 2, along]))
    inward = np.array([0.0, 1.0 - 2 * (side % 2)]) if side < 2 else np.array([1.0 - 2 * (side % 2), 0.0])
    across = np.array([-inward[1], inward[0]])
    tone = _skin(rng)
    skin = np.empty((size, size, 3), np.uint8)
    skin[:] = tone
    cover = np.zeros((size, size), np.uint8)
    scale = _local_scale(homography, at)

    def pixel(position: np.ndarray) -> np.ndarray:
        x, y, w = homography @ [*position, 1.0]
        return np.array([x, y]) / max(w, 1e-6)

    def limb(start: np.ndarray, end: np.ndarray, first: float, last: float, shade: float) -> None:
        direction = end - start
        normal = np.array([-direction[1], direction[0]]) / max(float(np.linalg.norm(direction)), 1e-6)
        outline = np.array([start + normal * first, end + normal * last, end - normal * last, start - normal * first])
        outline = np.clip(outline, -4 * size, 5 * size).round().astype(np.int32)
        ends = [(start, first), (end, last)]
        for canvas, colour in ((cover, 255), (skin, (tone * shade).tolist())):
            cv2.fillConvexPoly(canvas, outline, colour)
            for centre, radius in ends:
                point = tuple(int(v) for v in np.clip(centre, -4 * size, 5 * size))
                cv2.circle(canvas, point, max(int(radius), 1), colour, -1)

    reach = rng.uniform(-0.02, 0.035)  # how far fingers lie over the frame towards the print
    palm = pixel(at - inward * rng.uniform(0.01, 0.05))
    if rng.random() < 0.75:
        elbow = palm + (palm - pixel(at + inward * 0.05)) * rng.uniform(2, 8) + rng.normal(0, 0.35 * size, 2)
        elbow[:] = elbow if rng.random() < 0.9 else palm + rng.normal(0, size, 2)  # an arm in front of the board
        wide = 0.045 * scale * rng.uniform(0.7, 1.5)
        limb(palm, elbow, wide * 0.65, wide, rng.uniform(0.6, 1.1))
        limb(palm + 0.15 * wide, elbow + 0.3 * wide, wide * 0.2, wide * 0.35, rng.uniform(0.9, 1.35))
        if rng.random() < 0.4:
            sleeve = palm + (elbow - palm) * rng.uniform(0.35, 0.8)
            limb(sleeve, elbow, wide * 1.2, wide * 1.6, rng.uniform(0.05, 0.5))
        if rng.random() < 0.3:
            limb(palm * 0.8 + elbow * 0.2, palm * 0.76 + elbow * 0.24, wide * 0.75, wide * 0.75, 0.1)
    limb(palm, pixel(at), 0.03 * scale, 0.035 * scale, rng.uniform(0.7, 1.1))
    bend = rng.normal(0, 0.4)
    for finger in range(rng.integers(1, 5)):
        root = at + across * (0.02 * (finger - 1.5)) - inward * 0.015
        tip = root + inward * (0.015 + max(reach, 0) * rng.uniform(0.7, 1.2) + 0.02) + across * bend * 0.03
        wide = 0.009 * scale * rng.uniform(0.8, 1.2)
        limb(pixel(root), pixel(tip), wide, wide * 0.8, rng.uniform(0.55, 1.2))
    soft = cv2.blur(skin, (3, 3)).astype(np.float32)
    return soft, cv2.GaussianBlur(cover, (3, 3), 0.6).astype(np.float32) * np.float32(1 / 255)


def _local_scale(homography: np.ndarray, at: np.ndarray) -> float:
    """Pixels per metre of the plane around a board position [m], along the longer direction."""
    x, y, w = homography @ [*at, 1.0]
    w = max(w, 1e-6)
    jacobian = (homography[:2, :2] - np.outer([x / w, y / w], homography[2, :2])) / w
    return float(np.linalg.norm(jacobian, 2))


def _blur(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Defocus and motion."""
    if rng.random() < 0.65:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.25, 1.1))
    if rng.random() < 0.25:
        length, angle = rng.uniform(1, 6), rng.uniform(0, np.pi)
        kernel = np.zeros((9, 9), np.float32)
        step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        ends = [tuple(int(v) for v in ((4 + sign * step) * 16).round()) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
        kernel[4, 4] += 0.1
        image = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    return image


def _expose(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Saturation, gamma, sensor noise and, sometimes, compression: (H, W, 3) uint8."""
    size = len(image)
    saturation = rng.uniform(0.4, 1.3)
    mix = np.full((3, 3), (1 - saturation) / 3) + saturation * np.eye(3)
    levels = np.clip(cv2.transform(image, mix) + 0.5, 0, 255).astype(np.uint8)
    curve = 255 * (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.15))
    image = cv2.LUT(levels, curve.astype(np.float32))
    fine = rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0, 4))
    coarse = rng.standard_normal((size // 2, size // 2, 3), np.float32) * np.float32(max(rng.uniform(-4, 4), 0))
    image += cv2.merge([fine] * 3) + cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    out = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 95))])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)  # red and blue are exchanged twice
        out = out if decoded is None else np.asarray(decoded, np.uint8)
    return out
