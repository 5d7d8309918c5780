"""What dogs look like: coats with markings, painted on the rest pose."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dkp.synthetic.dog.regions import DogRegion, DogRegions
from dkp.synthetic.domains import Coats
from dkp.synthetic.noise import choose, fractal, lookup, random_colour

NOISE_PERIOD = 0.64
"""Length after which the noise in the coat repeats [m]."""

_GROUNDS = np.array(
    [
        [[0.74, 0.72, 0.69], [0.78, 0.61, 0.38]],
        [[0.23, 0.225, 0.22], [0.40, 0.185, 0.06]],
        [[0.011, 0.011, 0.012], [0.05, 0.021, 0.010]],
    ]
)
"""Hair in linear light: from white over grey to black, and from cream over red to dark brown."""

_LEATHER = np.array([0.012, 0.010, 0.010])
_GUMS = np.array([0.42, 0.12, 0.11])
_EAR = np.array([0.35, 0.20, 0.17])


@dataclass(frozen=True)
class Coat:
    """What one dog looks like.

    Attributes:
        marking: One of :data:`dkp.synthetic.domains.CHOICES` ``["markings"]``.
        ground: (3,) linear light of most of the coat.
        light, dark, tan: (3,) of markings.
        iris: (3,).
        socks: How far up the legs markings reach, as :attr:`DogRegion.leg`.
        extent: How much of the dog the markings cover, 0 to 1.
        blaze: Half the width of the stripe on the head [m].
        collar: (3,) or None.
        pale: How much lighter the underside is, 0 to 1.
        length: Of the hair [m].
        noise: (64, 64, 64) repeating noise.
    """

    marking: str
    ground: NDArray
    light: NDArray
    dark: NDArray
    tan: NDArray
    iris: NDArray
    socks: float
    extent: float
    blaze: float
    collar: NDArray | None
    pale: float
    length: float
    noise: NDArray


def hair_colour(darkness: float, redness: float) -> NDArray:
    """Return a colour (3,) of hair in linear light, darkness 0 white to 1 black, redness 0 grey to 1 red."""
    hues = (1 - redness) * _GROUNDS[:, 0] + redness * _GROUNDS[:, 1]
    return np.array([np.interp(2 * darkness, [0, 1, 2], hues[:, channel]) for channel in range(3)])


def sample_coat(coats: Coats, rng: np.random.Generator) -> Coat:
    """Draw what one dog looks like."""
    marking = choose(coats.markings, rng)
    darkness, redness = rng.uniform(*coats.darkness), rng.uniform(*coats.redness)
    if marking == "points":
        darkness = 0.85 + 0.15 * darkness
    elif marking in ("saddle", "mask", "brindle"):
        darkness, redness = 0.15 + 0.5 * darkness, 0.4 + 0.6 * redness
    elif marking in ("bicolour", "patches", "spots"):
        darkness = 0.35 + 0.65 * darkness  # of the patches; the rest is white
    elif marking == "merle":
        darkness, redness = 0.3 + 0.2 * darkness, 0.3 * redness
    ground = hair_colour(darkness, redness)
    worn = rng.random() < coats.collar
    return Coat(
        marking,
        ground,
        light=hair_colour(rng.uniform(0.0, 0.08), rng.uniform(0.0, 0.3)),
        dark=hair_colour(rng.uniform(0.9, 1.0), rng.uniform(0.0, 0.6)),
        tan=hair_colour(rng.uniform(0.3, 0.6), rng.uniform(0.8, 1.0)),
        iris=rng.choice([[0.06, 0.025, 0.01], [0.20, 0.10, 0.03], [0.25, 0.35, 0.45]], p=[0.6, 0.3, 0.1]),
        socks=rng.uniform(0.9, 2.4),
        extent=rng.uniform(0.0, 1.0),
        blaze=rng.uniform(-0.004, 0.022),
        collar=random_colour(rng, (0.3, 1.0), (0.1, 0.9)) if worn else None,
        pale=rng.uniform(0.0, 0.6),
        length=rng.uniform(*coats.length),
        noise=fractal((64, 64, 64), rng, 2.2),
    )


def paint_coat(coat: Coat, regions: DogRegions, columns: NDArray) -> tuple[NDArray, NDArray]:
    """Colour and gloss of points of the dog.

    Args:
        coat: What the dog looks like.
        regions: Of the template.
        columns: (N, 14) where the points lie, interpolated from :attr:`DogRegions.columns`.

    Returns:
        (N, 3) albedo in linear light and (N,) gloss in [0, 1].
    """
    region = DogRegion(*np.ascontiguousarray(columns.T))
    grain = lookup(coat.noise, columns[:, :3], NOISE_PERIOD)
    fine = lookup(coat.noise, columns[:, :3], NOISE_PERIOD / 5)
    ragged = columns[:, :3] + 0.005 * fine[:, None]  # borders as hair has them, not along the cells of the noise
    blotch = lookup(coat.noise, ragged + 0.21, 2 * NOISE_PERIOD)
    speck = lookup(coat.noise, ragged + 0.11, NOISE_PERIOD / 2.5)
    colour = np.broadcast_to(coat.ground, (len(columns), 3)).astype(np.float32)
    pale = coat.pale * np.clip(0.3 + 0.9 * region.under, 0, 1) * (region.on_head < 0.5)
    colour = colour + pale[:, None] * 0.5 * (coat.light - colour).clip(0)
    for mask, shade in _markings(coat, regions, region, grain, blotch, speck):
        colour[mask] = shade
    colour *= (1 + 0.10 * grain + 0.10 * fine)[:, None]
    gloss = np.full(len(columns), 0.06, np.float32)
    if coat.collar is not None:
        band = (np.abs(region.neck - 0.42) < 0.06) & (region.on_neck > 0.5) & (region.on_head < 0.3)
        colour[band], gloss[band] = coat.collar, 0.15
    _paint_face(coat, regions, region, colour, gloss)
    return np.clip(colour, 0.002, 1.0), gloss


def _markings(
    coat: Coat, regions: DogRegions, region: DogRegion, grain: NDArray, blotch: NDArray, speck: NDArray
) -> list[tuple[NDArray, NDArray]]:
    """Masks (N,) and their colours, later ones on top of earlier ones; noises of unit deviation blur the borders."""
    eye, nose = regions.joints["left_eye"], regions.joints["nose"]
    head, trunk = region.on_head > 0.5, (region.on_head < 0.5) & (region.on_leg < 0.5) & (region.on_tail < 0.5)
    socks = (region.on_leg > 0.5) & (region.leg > coat.socks + 0.12 * grain)
    muzzle = head & (region.front > eye[2] + 0.012 + 0.004 * grain) & (region.on_ear < 0.5)
    low_muzzle = muzzle & (region.up < nose[1] + 0.016 - 0.2 * (region.front - nose[2]))
    ears = region.on_ear > 0.5
    if coat.marking == "points":
        away = np.stack([np.abs(region.left) - 0.024, region.up - eye[1] - 0.018, region.front - eye[2] - 0.002])
        chest = trunk & (region.front > 0.19) & (region.up < -0.02) & (np.abs(np.abs(region.left) - 0.04) < 0.022)
        inner = (region.on_leg > 0.5) & (region.under > 0.55 + 0.15 * grain)
        points = socks | low_muzzle | chest | inner | (head & (np.linalg.norm(away, axis=0) < 0.011))
        return [(points, coat.tan)]
    if coat.marking == "saddle":
        line = 0.06 - 0.10 * coat.extent + 0.025 * grain
        back = (trunk | (region.on_leg > 0.5)) & (region.up > line + 0.5 * np.maximum(region.front - 0.2, 0))
        neck = (region.on_neck > 0.4) & ~head & (region.front < 0.23 + 0.02 * grain) & (coat.extent > 0.3)
        tail = (region.on_tail > 0.5) & (region.under < 0.2 + 0.2 * grain)
        mask = muzzle if coat.extent > 0.5 else np.zeros_like(head)
        return [(back | neck | tail | mask | ears, coat.dark)]
    if coat.marking == "mask":
        return [(muzzle | ears if coat.extent > 0.3 else muzzle, coat.dark)]
    if coat.marking == "bicolour":
        front = trunk & (region.front > 0.16) & (np.abs(region.left) < 0.03 + 0.05 * coat.extent + 0.012 * grain)
        chest = front & (region.up < 0.10 + 0.10 * coat.extent) & (region.under > -0.35)
        belly = trunk & (region.under > 0.75 - 0.4 * coat.extent + 0.15 * grain)
        blaze = head & (np.abs(region.left) < coat.blaze + 0.003 * grain) & ~ears & (region.front > 0.30)
        ruff = (region.on_neck > 0.5) & ~head & (np.abs(region.neck - 0.35) < 0.5 * coat.extent - 0.15)
        tip = (region.on_tail > 0.5) & (region.tail > 0.75 + 0.05 * grain)
        low = low_muzzle if coat.blaze > 0.004 else np.zeros_like(head)
        return [(socks | chest | belly | blaze | ruff | tip | low, coat.light)]
    if coat.marking == "patches":
        bare = (blotch < 0.9 - 1.2 * coat.extent) & ~(head & (np.abs(region.left) > coat.blaze) & ~low_muzzle)
        return [(bare | (head & (np.abs(region.left) < coat.blaze)), coat.light)]
    if coat.marking == "spots":
        spots = (speck > 1.15 - 0.35 * coat.extent) | (ears & (coat.extent > 0.6))
        return [(~spots, coat.light)]
    if coat.marking == "merle":
        dark = (blotch > 0.7) | (grain > 1.0 - 0.5 * coat.extent)
        light = (grain < -1.4) | (socks & (coat.extent > 0.4))
        tan = (low_muzzle | socks) & (coat.extent < 0.4)
        return [(dark, coat.dark), (light, coat.light), (tan, coat.tan)]
    if coat.marking == "brindle":
        wave = np.sin(2 * np.pi * (region.front + 0.25 * region.up + 0.016 * grain) / 0.030)
        stripes = (wave + 0.6 * speck > 0.6 - 0.5 * coat.extent) & ~head
        return [(stripes, 0.45 * coat.ground + 0.55 * coat.dark), (muzzle, coat.dark)]
    return []


def _paint_face(coat: Coat, regions: DogRegions, region: DogRegion, colour: NDArray, gloss: NDArray) -> None:
    """Eyes, nose, mouth, claws and pads, in place."""
    nose = regions.joints["nose"]
    off = np.hypot(region.left / 1.15, region.up - nose[1] + 0.004)
    leather = (region.on_head > 0.5) & (region.front > nose[2] - 0.022) & (off < 0.0165)
    colour[leather], gloss[leather] = _LEATHER, 0.25
    eye = regions.joints["left_eye"]
    apart = np.sqrt((np.abs(region.left) - eye[0]) ** 2 + (region.up - eye[1]) ** 2 + (region.front - eye[2]) ** 2)
    rim, ball = (region.on_head > 0.5) & (apart < 0.0165), (region.on_head > 0.5) & (apart < 0.012)
    colour[rim] = colour[rim] * 0.25
    colour[ball], gloss[ball] = coat.iris, 0.5
    inside = region.in_mouth > 0.5
    colour[inside], gloss[inside] = _GUMS, 0.15
    inner_ear = (region.on_ear > 0.5) & (region.front > 0.368) & (region.ear < 0.8)
    colour[inner_ear] = 0.55 * colour[inner_ear] + 0.45 * coat.ground.mean() ** 0.3 * _EAR
    pads = (region.on_leg > 0.5) & (region.leg > 2.9) & (region.under > 0.75)
    colour[pads] = _LEATHER


def fur(coat: Coat, regions: DogRegions) -> NDArray[np.float64]:
    """How far the visible surface stands off the skin: (V, 2), along the normal and straight forward [m].

    Hair is longest on the throat and short on face, legs and the tip of the tail.
    """
    region = regions.vertices()
    share = np.ones(len(region.left))
    share += 0.5 * region.on_neck * np.clip(region.under + 0.7, 0, 1)
    share *= 1 - region.on_tail * np.clip((region.tail - 0.5) / 0.45, 0, 1)  # or the pointed tip would flare
    share *= 1 - 0.75 * region.on_head
    share *= 1 - 0.9 * region.on_leg * np.clip((region.leg - 0.6) / 1.6, 0, 1)
    roughness = lookup(coat.noise, regions.columns[:, :3], NOISE_PERIOD / 3)
    off = coat.length * share * np.clip(1 + 0.35 * roughness, 0, 2) * (1 - region.in_mouth)
    for _ in range(2):
        off = regions.spread @ off
    return np.stack([off, np.zeros_like(off)], 1)
