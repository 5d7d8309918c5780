"""Light on the subject and the camera's response: from albedo to the bytes of an image."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dkp.synthetic.domains import Domain

_STEPS = 4096
_ramp = np.linspace(0, 1, _STEPS)
_ENCODE = np.where(_ramp <= 0.0031308, 12.92 * _ramp, 1.055 * np.maximum(_ramp, 1e-9) ** (1 / 2.4) - 0.055).astype(
    np.float32
)
"""The sRGB curve, from linear light in [0, 1]."""


@dataclass(frozen=True)
class Lighting:
    """Light of one recording.

    Attributes:
        sky, ground: (3,) light from above and from below.
        directions: (L, 3) unit directions towards the lights in the world; the first is the main light.
        colours: (L, 3) their strength.
    """

    sky: NDArray
    ground: NDArray
    directions: NDArray
    colours: NDArray

    def shade(self, albedo: NDArray, gloss: NDArray, normals: NDArray, towards_eye: NDArray, lit: NDArray) -> NDArray:
        """Light that leaves points of a surface towards the camera.

        Args:
            albedo: (N, 3).
            gloss: (N,) strength of the highlights.
            normals: (N, 3) unit, world axes.
            towards_eye: (3,) unit direction to the camera, the same for all points.
            lit: (N,) share of the main light that arrives.

        Returns:
            (N, 3) linear light.
        """
        up = (0.5 + 0.5 * normals[:, 2:3]).astype(np.float32)
        light = self.ground.astype(np.float32) + (self.sky - self.ground).astype(np.float32) * up
        shine = np.zeros_like(light)
        for index, (direction, colour) in enumerate(zip(self.directions, self.colours, strict=True)):
            half = (direction + towards_eye) / np.linalg.norm(direction + towards_eye)
            facing = np.clip((normals @ direction.astype(np.float32) + 0.15) / 1.15, 0, 1)
            bright = np.clip(normals @ half.astype(np.float32), 0, 1)
            for _ in range(4):  # to the power 16
                bright *= bright
            if index == 0:
                facing, bright = facing * lit, bright * lit
            light += facing[:, None] * colour.astype(np.float32)
            shine += bright[:, None] * colour.astype(np.float32)
        return albedo * light + gloss[:, None] * shine


def sample_lighting(domain: Domain, rng: np.random.Generator) -> Lighting:
    """Draw the light of one recording."""
    warmth = rng.uniform(*domain.temperature)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    count = int(rng.integers(domain.lights[0], domain.lights[1] + 1))
    azimuth = rng.uniform(0, 2 * np.pi, count)
    elevation = np.radians(rng.uniform(25, 70, count))
    level = np.cos(elevation)
    directions = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], 1)
    strength = np.array([rng.uniform(*(domain.key if k == 0 else domain.fill)) for k in range(count)])
    ambient = rng.uniform(*domain.ambient)
    cool = np.array([1 - 0.3 * warmth, 1.0, 1 + 0.3 * warmth])
    return Lighting(ambient * cool, ambient * 0.55 * tint, directions, strength[:, None] * tint)


@dataclass(frozen=True)
class Response:
    """How one camera turns light into an image.

    Attributes:
        gain: (3,) exposure and white balance.
        noise: Standard deviation of the noise at mid-grey, as a share of white.
        blur: Standard deviation of the blur [px in an image of 128 px].
        vignette: Darkening of the corners.
    """

    gain: NDArray
    noise: float
    blur: float
    vignette: float

    def develop(self, light: NDArray, domain: Domain, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return an image (S, S, 3) uint8 RGB from linear light (S, S, 3) float32."""
        size = len(light)
        wobble = 2.0 ** (0.1 * rng.uniform(-0.5, 0.5) * (domain.exposure[1] - domain.exposure[0]))
        image = light * (self.gain * wobble).astype(np.float32)
        if self.vignette:
            axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
            image *= (1 - 0.5 * self.vignette * (axis[:, None] + axis))[..., None]
        sigma = self.blur * size / 128
        if sigma > 0.15:
            image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
        # Photon noise: its deviation in linear light goes with the square root, as does the display curve nearly.
        shown = _ENCODE[np.clip(image * (_STEPS - 1), 0, _STEPS - 1).astype(np.int16)]
        if self.noise:
            shown += rng.standard_normal(shown.shape, np.float32) * np.float32(self.noise)
        result = np.clip(shown * 255 + 0.5, 0, 255).astype(np.uint8)
        if rng.random() < domain.jpeg:
            quality = int(rng.integers(35, 90))
            ok, data = cv2.imencode(".jpg", result[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if ok else None
            if decoded is not None:
                result = np.ascontiguousarray(decoded[..., ::-1], np.uint8)
        return result


def sample_response(domain: Domain, rng: np.random.Generator) -> Response:
    """Draw how one camera responds."""
    stops = rng.uniform(*domain.exposure)
    balance = 1 + rng.normal(0, 0.03, 3)
    return Response(
        2.0**stops * balance, rng.uniform(*domain.noise), rng.uniform(*domain.blur), rng.uniform(*domain.vignette)
    )
