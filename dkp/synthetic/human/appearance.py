"""What people look like: skin, hair and clothes, painted on the rest pose and cut by the regions of the body."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dkp.synthetic.domains import Wardrobe
from dkp.synthetic.human.regions import BodyRegions, Region
from dkp.synthetic.noise import choose, fractal, lookup, random_colour, skin_colour

NOISE_PERIOD = 0.64
"""Length after which the noise in skin and cloth repeats [m]."""

# Height of the lower edge of hair and hats above the eyes [m], at these positions before the ears [m].
_HEAD_FRONT = (-0.10, -0.03, 0.02, 0.06, 0.10)
_HAIRLINES = {
    "short": (-0.075, -0.05, 0.015, 0.050, 0.062),
    "medium": (-0.16, -0.11, -0.05, 0.045, 0.060),
    "long": (-0.40, -0.40, -0.13, 0.045, 0.060),
}
_HATLINES = {"cap": (0.015, 0.022, 0.030, 0.036, 0.036), "beanie": (-0.035, -0.030, -0.010, 0.034, 0.036)}
_TOPS = {"bare": -1.0, "vest": 0.0, "short": 0.55, "long": 1.9}
_BOTTOMS = {"briefs": 0.1, "shorts": 0.7, "skirt": 0.75, "trousers": 1.9, "dress": 0.8}
_FEET = {"bare": 9.0, "socks": 2.05, "shoes": 2.02, "boots": 1.6}


@dataclass(frozen=True)
class Cloth:
    """A fabric.

    Attributes:
        pattern: ``plain``, ``stripes``, ``checks``, ``dots``, ``noise`` or ``logo``.
        colours: (3, 3) linear light; the first is the ground.
        period: Of the pattern [m].
        upright: Stripes run up and down instead of around.
        spot: (3,) left and up of the logo and its radius [m].
    """

    pattern: str
    colours: NDArray
    period: float
    upright: bool
    spot: NDArray

    def paint(self, region: Region, grain: NDArray) -> NDArray:
        """Colours (N, 3) at points; ``grain`` (N,) is noise of unit deviation."""
        along = region.up - 0.28 * region.arm + np.where(region.on_leg > 0.5, -0.42 * region.leg - region.up, 0.0)
        across = region.left + region.front
        ground = np.broadcast_to(self.colours[0], (len(along), 3))
        if self.pattern == "plain":
            return ground
        turn = 2 * np.pi / self.period
        if self.pattern == "stripes":
            mark = np.sin(turn * (across if self.upright else along)) > 0.2
        elif self.pattern == "checks":
            mark = (np.sin(turn * along) > 0) ^ (np.sin(turn * across) > 0)
        elif self.pattern == "dots":
            mark = np.sin(turn * along) * np.sin(turn * across) > 0.45
        elif self.pattern == "noise":
            mark = grain > 0.3
            ground = np.where((grain < -0.6)[:, None], self.colours[2], ground)
        else:
            apart = np.hypot(region.left - self.spot[0], region.up - self.spot[1])
            torso = (region.on_arm < 0.5) & (region.on_leg < 0.5) & (region.front > 0)
            mark = torso & (apart < self.spot[2])
            ground = np.where((mark & (apart < 0.55 * self.spot[2]))[:, None], self.colours[2], ground)
            mark &= apart >= 0.55 * self.spot[2]
        return np.where(mark[:, None], self.colours[1], ground)


@dataclass(frozen=True)
class Outfit:
    """What one person looks like.

    Attributes:
        skin: (3,) linear light; ``lips``, ``iris`` and ``hair_colour`` likewise.
        flush: How much redder and darker the skin is at hands, feet and face, 0 not at all.
        glove: Fabric of gloves, or None.
        hair: ``bald``, ``short``, ``medium`` or ``long``.
        beard: Whether there is one.
        hat: ``none``, ``cap`` or ``beanie``.
        top, sleeve: Fabric of the upper garment, and how far down the arm it reaches; below 0 none is worn.
        hem: Lower edge of the upper garment, as :attr:`Region.height`.
        neckline: Depth of the neckline [m].
        bottom, legs: Fabric of the lower garment, and how far down the leg it reaches.
        waist: Upper edge of the lower garment, as :attr:`Region.height`.
        shoe, shoe_top: Fabric of what is on the feet, and where it begins, as :attr:`Region.leg`.
        sock_top: Where socks in the shoes begin.
        sole: (3,) colour.
        hat_cloth: Fabric of the hat.
        looseness: How far cloth stands off the body [m].
        noise: (64, 64, 64) repeating noise.
    """

    skin: NDArray
    lips: NDArray
    iris: NDArray
    hair_colour: NDArray
    flush: float
    glove: Cloth | None
    hair: str
    beard: bool
    hat: str
    hat_cloth: Cloth
    top: Cloth
    sleeve: float
    hem: float
    neckline: float
    bottom: Cloth
    legs: float
    waist: float
    shoe: Cloth
    shoe_top: float
    sock_top: float
    sole: NDArray
    looseness: float
    noise: NDArray


def sample_outfit(wardrobe: Wardrobe, rng: np.random.Generator) -> Outfit:
    """Draw what one person looks like."""

    def cloth(patterns: dict[str, float] | None = None) -> Cloth:
        colours = np.stack([random_colour(rng, wardrobe.saturation, wardrobe.value) for _ in range(3)])
        spot = np.array([rng.uniform(-0.06, 0.06), rng.uniform(0.22, 0.4), rng.uniform(0.05, 0.12)])
        pattern = choose(patterns or wardrobe.patterns, rng)
        return Cloth(pattern, colours, rng.uniform(0.05, 0.16), rng.random() < 0.3, spot)

    skin = skin_colour(rng.uniform(*wardrobe.melanin), rng)
    hair_tones = np.array(
        [[0.008, 0.006, 0.005], [0.03, 0.016, 0.009], [0.11, 0.05, 0.02], [0.40, 0.27, 0.12], [0.4] * 3]
    )
    share = rng.dirichlet([0.7, 0.7, 0.4, 0.25, 0.15])
    top, bottom, feet = choose(wardrobe.tops, rng), choose(wardrobe.bottoms, rng), choose(wardrobe.feet, rng)
    if bottom == "dress" and top == "bare":
        top = "vest"
    upper = cloth()
    lower = (
        upper
        if bottom == "dress"
        else cloth({"plain": 3, **{k: v / 2 for k, v in wardrobe.patterns.items() if k != "logo"}})
    )
    waist = rng.uniform(0.18, 0.3)
    legs = _BOTTOMS[bottom] * (rng.uniform(0.9, 1.03) if bottom == "trousers" else rng.uniform(0.6, 1.35))
    flush = rng.uniform(*wardrobe.flush) if wardrobe.flush[1] else 0.0  # draws nothing where there is none: same bytes
    glove = cloth() if wardrobe.gloves and rng.random() < wardrobe.gloves else None
    shoe_top = _FEET[feet] * (rng.uniform(0.9, 1.1) if feet == "boots" else 1.0)
    return Outfit(
        skin=skin,
        lips=skin * [0.85, 0.5, 0.5],
        iris=random_colour(rng, (0.2, 0.7), (0.1, 0.4)),
        hair_colour=share @ hair_tones,
        flush=flush,
        glove=glove,
        hair=choose(wardrobe.hair, rng),
        beard=rng.random() < 0.2,
        hat=choose(wardrobe.hats, rng),
        hat_cloth=cloth({"plain": 1.0}),
        top=upper,
        sleeve=_TOPS[top] * rng.uniform(0.8, 1.02),
        hem=rng.uniform(-0.02, 0.2) if bottom != "dress" else 0.0,
        neckline=rng.uniform(0.0, 0.1),
        bottom=lower,
        legs=legs,
        waist=waist,
        shoe=cloth({"plain": 1.0}),
        shoe_top=shoe_top,
        sock_top=min(shoe_top, rng.uniform(1.45, 2.0)) if rng.random() < 0.4 and feet == "shoes" else shoe_top,
        sole=np.full(3, rng.choice([0.02, 0.6])),
        looseness=rng.uniform(*wardrobe.looseness),
        noise=fractal((64, 64, 64), rng, 2.2),
    )


def _worn(outfit: Outfit, region: Region) -> dict[str, NDArray]:
    """Where each thing is worn: masks (N,), later ones on top of earlier ones."""
    head, arm, leg = region.on_head > 0.5, region.on_arm > 0.5, region.on_leg > 0.5
    torso = ~(head | arm | leg)
    masks = {"bottom": (leg & (region.leg < outfit.legs)) | (torso & (region.height < outfit.waist))}
    masks["socks"] = leg & (region.leg > outfit.sock_top)
    masks["shoe"] = leg & (region.leg > outfit.shoe_top)
    if outfit.glove is not None:
        masks["glove"] = arm & (region.arm > 1.97)
    if outfit.sleeve >= 0:
        collar = (region.front > 0) & (np.abs(region.left) < 0.09) & (region.height > 0.9)
        dip = region.height * 0.5 > 0.5 - outfit.neckline * (1 - (region.left / 0.09) ** 2)
        masks["top"] = (torso & (region.height > outfit.hem) & ~(collar & dip)) | (arm & (region.arm < outfit.sleeve))
    if outfit.hair != "bald":
        line = np.interp(region.head_front, _HEAD_FRONT, _HAIRLINES[outfit.hair])
        masks["hair"] = head & (region.head_up > line)
        if outfit.hair == "long":
            masks["hair"] |= torso & (region.front < 0) & (region.height > 0.78) & (np.abs(region.left) < 0.11)
    if outfit.beard:
        low = region.head_up < -0.035 - 0.25 * np.maximum(0.075 - region.head_front, 0)
        masks["beard"] = head & low & (region.head_front > 0.0) & (region.head_up > -0.12)
    if outfit.hat != "none":
        masks["hat"] = head & (region.head_up > np.interp(region.head_front, _HEAD_FRONT, _HATLINES[outfit.hat]))
    return masks


def paint(outfit: Outfit, regions: BodyRegions, columns: NDArray) -> tuple[NDArray, NDArray]:
    """Colour and gloss of points of the body.

    Args:
        outfit: What the person looks like.
        regions: Of the template.
        columns: (N, 11) where the points lie, interpolated from :attr:`BodyRegions.columns`.

    Returns:
        (N, 3) albedo in linear light and (N,) gloss in [0, 1].
    """
    region = Region(*np.ascontiguousarray(columns.T))
    grain = lookup(outfit.noise, columns[:, :3], NOISE_PERIOD)
    fine = lookup(outfit.noise, columns[:, :3], NOISE_PERIOD / 5)
    colour = np.broadcast_to(outfit.skin.astype(np.float32), (len(columns), 3)) * (1 + 0.05 * grain)[:, None]
    if outfit.flush:
        far = (
            np.clip(np.maximum(region.arm * region.on_arm, region.leg * region.on_leg) - 1, 0, 1) + 0.4 * region.on_head
        )
        colour *= 1 - outfit.flush * far[:, None] * np.array([0.5, 0.9, 0.9], np.float32)
    gloss = np.full(len(columns), 0.10, np.float32)
    _paint_face(outfit, regions, region, colour)
    worn = _worn(outfit, region)
    wrinkled = 1 + 0.10 * grain + 0.03 * fine
    cloths = {
        "bottom": outfit.bottom,
        "top": outfit.top,
        "shoe": outfit.shoe,
        "socks": outfit.shoe,
        "hat": outfit.hat_cloth,
        "glove": outfit.glove or outfit.top,
    }
    for name, mask in worn.items():
        spot = np.flatnonzero(mask)
        if len(spot) == 0:
            continue
        if name in ("hair", "beard"):
            colour[spot] = outfit.hair_colour * (1 + 0.3 * fine[spot])[:, None]
            gloss[spot] = 0.12
        else:
            there = Region(*(values[spot] for values in region))
            colour[spot] = cloths[name].paint(there, grain[spot]) * wrinkled[spot, None]
            gloss[spot] = 0.15 if name == "shoe" else 0.02
        if name == "socks" and outfit.shoe_top > outfit.sock_top:
            colour[spot] = outfit.shoe.colours[1] * wrinkled[spot, None]
    return np.clip(colour, 0.002, 1.0), gloss


def _paint_face(outfit: Outfit, regions: BodyRegions, region: Region, colour: NDArray) -> None:
    """Eyes, brows and mouth, in place."""
    spot = np.flatnonzero((region.on_head > 0.5) & (region.head_front > 0.045))
    if len(spot) == 0:
        return
    left, up = region.left[spot], region.up[spot]
    for eye_left, eye_up in regions.eyes:
        x, y = left - eye_left, up - eye_up
        colour[spot[(np.abs(x) < 0.022) & (np.abs(y - 0.019) < 0.0045)]] = outfit.hair_colour * 0.7
        colour[spot[(x / 0.016) ** 2 + (y / 0.008) ** 2 < 1]] = 0.65
        colour[spot[np.hypot(x, y) < 0.0065]] = outfit.iris
    mouth = ((left - regions.mouth[0]) / 0.026) ** 2 + ((up - regions.mouth[1]) / 0.008) ** 2 < 1
    colour[spot[mouth]] = outfit.lips


def thickness(outfit: Outfit, regions: BodyRegions) -> NDArray[np.float64]:
    """How far the visible surface stands off the skin: (V, 2), along the normal and straight forward [m].

    Cloth hangs loosest on torso and thighs; hair and hats have their own thickness; a cap has a brim.
    """
    region = regions.vertices()
    worn = _worn(outfit, region)
    off = np.zeros(len(region.left))
    if "top" in worn:
        off[worn["top"]] = 0.002 + outfit.looseness * np.clip(1.2 - 0.8 * region.arm[worn["top"]], 0.1, 1)
    loose = outfit.looseness * np.clip(1.2 - 0.5 * region.leg, 0.2, 1)
    off[worn["bottom"]] = np.maximum(off, 0.002 + loose)[worn["bottom"]]
    off[worn["shoe"]] = 0.006
    if "hair" in worn:
        off[worn["hair"]] = {"short": 0.006, "medium": 0.012, "long": 0.015}[outfit.hair]
    if "beard" in worn:
        off[worn["beard"]] = 0.006
    if "hat" in worn:
        off[worn["hat"]] = 0.012
    for _ in range(2):
        off = regions.spread @ off
    forward = np.zeros_like(off)
    if outfit.hat == "cap":
        edge = (np.abs(region.head_up - 0.04) < 0.008) & (region.head_front > 0.06) & (region.on_head > 0.5)
        forward[edge] = 0.055 * np.clip(1.2 - (region.left[edge] / 0.08) ** 2, 0, 1)
    return np.stack([off, forward], 1)
