"""Repeating fractal noise of any dimension, and random colours in linear light."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def fractal(shape: tuple[int, ...], rng: np.random.Generator, slope: float = 1.5) -> NDArray[np.float32]:
    """Noise whose spectrum falls with frequency, so that all octaves are there; it repeats at the borders.

    Args:
        shape: Of the result, one to three axes.
        rng: Source of randomness.
        slope: Exponent of the fall of amplitude with frequency: 0 white, 1.5 cloudy, 2.5 smooth.

    Returns:
        Array of the given shape with mean 0 and standard deviation 1.
    """
    white = rng.standard_normal(shape, np.float32)
    frequency = np.zeros(np.fft.rfftn(white).shape)
    for axis, count in enumerate(shape):
        along = np.fft.rfftfreq(count) if axis == len(shape) - 1 else np.fft.fftfreq(count)
        frequency += (along * count).reshape([-1 if a == axis else 1 for a in range(len(shape))]) ** 2
    amplitude = np.maximum(frequency, 1.0) ** (-slope / 2)
    amplitude[(0,) * len(shape)] = 0.0
    axes = tuple(range(len(shape)))
    result = np.fft.irfftn(np.fft.rfftn(white) * amplitude, shape, axes)
    return (result / max(float(result.std()), 1e-12)).astype(np.float32)


def lookup(noise: NDArray, points: NDArray, period: float) -> NDArray:
    """Nearest entries of repeating noise at points.

    Args:
        noise: Array of D axes, repeating.
        points: (N, D) [m].
        period: Length after which the noise repeats [m].

    Returns:
        (N,) values.
    """
    index = np.zeros(len(points), np.int64)
    for axis, count in enumerate(noise.shape):
        cell = np.floor(points[:, axis] * (count / period)).astype(np.int64)
        index = index * count + np.mod(cell, count)
    return noise.ravel()[index]


def linear(colour: NDArray) -> NDArray:
    """Display values in [0, 1] to linear light (the sRGB curve)."""
    colour = np.asarray(colour)
    return np.where(colour <= 0.04045, colour / 12.92, ((np.maximum(colour, 0.04045) + 0.055) / 1.055) ** 2.4)


def random_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> NDArray[np.float64]:
    """Return a colour (3,) of any hue in linear light, with saturation and brightness drawn from ranges."""
    hue, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    ramp = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return linear(v * (1 - s + s * ramp))


def skin_colour(melanin: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a skin tone (3,) in linear light, from 0 palest to 1 darkest, with a little individual variation."""
    tones = np.array(
        [[0.96, 0.80, 0.71], [0.89, 0.68, 0.54], [0.75, 0.53, 0.39], [0.51, 0.33, 0.23], [0.30, 0.19, 0.14]]
    )
    position = np.clip(melanin, 0, 1) * (len(tones) - 1)
    tone = np.array([np.interp(position, np.arange(len(tones)), tones[:, channel]) for channel in range(3)])
    return linear(np.clip(tone * (1 + rng.normal(0, 0.025, 3)), 0, 1))


def choose(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """Return a key of a mapping, with probability proportional to its weight."""
    names = list(weights)
    share = np.array([weights[name] for name in names], float)
    return names[int(rng.choice(len(names), p=share / share.sum()))]
