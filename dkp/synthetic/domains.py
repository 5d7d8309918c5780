"""What one kind of capture looks like: rig, surroundings, light, camera and subjects, as plain ranges.

A gap between two domains is the difference of two :class:`Domain` objects; ``dataclasses.replace`` moves one factor of
it at a time. Ranges are uniform unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from dkp.errors import InputError

Range = tuple[float, float]

CHOICES: dict[str, tuple[str, ...]] = {
    "tops": ("bare", "vest", "short", "long"),  # sleeves
    "bottoms": ("briefs", "shorts", "skirt", "trousers", "dress"),  # a dress joins the top
    "feet": ("bare", "socks", "shoes", "boots"),
    "hats": ("none", "cap", "beanie"),
    "hair": ("bald", "short", "medium", "long"),
    "patterns": ("plain", "stripes", "checks", "dots", "noise", "logo"),
    # points: black and tan; bicolour: white feet, chest and blaze
    "markings": ("solid", "points", "saddle", "mask", "bicolour", "patches", "spots", "merle", "brindle"),
    "backdrops": ("gradient", "noise", "collage", "studio", "room", "outdoor"),
}
"""What each table of weights may name."""


def _check(owner: Wardrobe | Coats | Domain) -> None:
    """Raise an InputError for a weight or a range of a wardrobe, of coats or of a domain that makes no sense."""
    for item in fields(owner):
        value = getattr(owner, item.name)
        if item.name in CHOICES:
            unknown = [key for key in value if key not in CHOICES[item.name]]
            if unknown:
                raise InputError(f"{item.name} names {unknown[0]!r}, expected {', '.join(CHOICES[item.name])}")
        weighted = item.name in CHOICES or (item.name == "motions" and value)
        ranged = item.type == "Range" or item.name in ("clutter", "lights")
        if weighted and (min(value.values(), default=-1) < 0 or not sum(value.values()) > 0):
            raise InputError(f"{item.name} has the weights {dict(value)}, expected none negative and one positive")
        if ranged and (len(value) != 2 or not value[0] <= value[1]):
            raise InputError(f"{item.name} is {value}, expected a range with the lower number first")


@dataclass(frozen=True)
class Wardrobe:
    """What people wear, as weights of the choices and ranges of the colours.

    Attributes:
        tops, bottoms, feet, hats, hair, patterns: Weights of the choices in :data:`CHOICES`.
        saturation: Range of the saturation of cloth.
        value: Range of the brightness of cloth.
        melanin: Range of skin tone, 0 palest to 1 darkest.
        flush: Range of how much redder and darker the skin is towards hands, feet and face, 0 not at all.
        gloves: Share of the people who wear them.
        looseness: Range of how far cloth stands off the body [m].
    """

    tops: Mapping[str, float]
    bottoms: Mapping[str, float]
    feet: Mapping[str, float]
    hats: Mapping[str, float]
    hair: Mapping[str, float]
    patterns: Mapping[str, float]
    saturation: Range = (0.1, 0.9)
    value: Range = (0.15, 0.95)
    melanin: Range = (0.0, 1.0)
    flush: Range = (0.0, 0.0)
    gloves: float = 0.0
    looseness: Range = (0.0, 0.012)

    def __post_init__(self) -> None:
        """Check the weights and ranges."""
        _check(self)


@dataclass(frozen=True)
class Coats:
    """What dogs look like, as weights of the markings and ranges of the colours.

    Attributes:
        markings: Weights of the choices in :data:`CHOICES`.
        darkness: Range of the ground colour, 0 white to 1 black.
        redness: Range of the hue of the ground colour, 0 grey to 1 red.
        length: Range of the length of the hair [m].
        collar: Share of the dogs that wear one.
    """

    markings: Mapping[str, float]
    darkness: Range = (0.0, 1.0)
    redness: Range = (0.0, 1.0)
    length: Range = (0.0, 0.01)
    collar: float = 0.3

    def __post_init__(self) -> None:
        """Check the weights and ranges."""
        _check(self)


@dataclass(frozen=True)
class Domain:
    """One kind of capture.

    Attributes:
        name: Written into every view.
        sensor: Sensor width and height of the rig's cameras [px].
        field_of_view: Range of the vertical field of view [degrees].
        distance: Range of the cameras' distance from the middle of the rig, in multiples of the distance at which a
            standing adult (a dog from nose to tail) fills the height of the frame.
        height: Range of the cameras' height above the floor [m]; a dome's upper cameras are placed by elevation.
        margin: Range of the empty border of a crop, as a share of the body's larger side, on each side.
        shift: Largest shift of a crop, as a share of its side.
        backdrops: Weights of the choices in :data:`CHOICES`.
        shared_backdrop: All subjects are recorded in the same scene, as in a laboratory; otherwise each has its own.
        clutter: Range of the number of things standing about.
        skin_clutter: Share of the things that have the colour of skin.
        obstacles: Largest number of low things between subject and cameras, which hide parts of the body.
        occluders: Share of the images with something before the lens.
        surroundings_saturation: Range of the saturation of walls and things.
        surroundings_value: Range of the brightness of walls and things.
        ambient: Range of the light from all around.
        key: Range of the strength of the main light.
        fill: Range of the strength of each further light.
        lights: Least and most directional lights.
        temperature: Range of the colour of the light, negative cool to positive warm.
        exposure: Range of the exposure [stops]; constant per camera, with a tenth of its width per image.
        noise: Range of the sensor noise at mid-grey, as a share of white.
        blur: Range of the standard deviation of the blur [px in an image of 128 px].
        exposure_time: Range of the time over which an image sums up what moves [s]; one for each clip.
        vignette: Range of the darkening of the crop's corners.
        jpeg: Share of the images that pass through lossy compression.
        wardrobe: What people wear, or the coats of dogs.
        shape_scale: Standard deviation of the body shape parameters.
        shape_shift: Mean of the body shape parameters, cut or filled with zeros to their number.
        motions: Weights of the species' activities (of people :data:`dkp.synthetic.human.activities.ACTIVITIES`, of
            dogs :data:`dkp.synthetic.dog.activities.ACTIVITIES`), one a clip; empty for their own mix, which changes
            within a clip.
    """

    name: str
    wardrobe: Wardrobe | Coats
    sensor: tuple[int, int] = (1280, 1280)
    field_of_view: Range = (38.0, 46.0)
    distance: Range = (1.15, 1.35)
    height: Range = (0.8, 1.8)
    margin: Range = (0.08, 0.14)
    shift: float = 0.03
    backdrops: Mapping[str, float] = field(default_factory=lambda: {"room": 1.0})
    shared_backdrop: bool = False
    clutter: tuple[int, int] = (4, 14)
    skin_clutter: float = 0.15
    obstacles: int = 0
    occluders: float = 0.0
    surroundings_saturation: Range = (0.0, 0.6)
    surroundings_value: Range = (0.2, 0.95)
    ambient: Range = (0.35, 0.55)
    key: Range = (0.5, 0.9)
    fill: Range = (0.1, 0.35)
    lights: tuple[int, int] = (1, 3)
    temperature: Range = (-0.1, 0.1)
    exposure: Range = (-0.3, 0.3)
    noise: Range = (0.002, 0.01)
    blur: Range = (0.0, 0.4)
    exposure_time: Range = (0.0, 0.0)
    vignette: Range = (0.0, 0.1)
    jpeg: float = 0.0
    shape_scale: float = 1.0
    shape_shift: tuple[float, ...] = ()
    motions: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the weights and ranges."""
        _check(self)


_VARIED = Wardrobe(
    tops={"bare": 0.12, "vest": 0.16, "short": 0.4, "long": 0.32},
    bottoms={"briefs": 0.05, "shorts": 0.27, "skirt": 0.1, "trousers": 0.5, "dress": 0.08},
    feet={"bare": 0.25, "socks": 0.1, "shoes": 0.5, "boots": 0.15},
    hats={"none": 0.75, "cap": 0.17, "beanie": 0.08},
    hair={"bald": 0.12, "short": 0.45, "medium": 0.23, "long": 0.2},
    patterns={"plain": 0.5, "stripes": 0.15, "checks": 0.1, "dots": 0.05, "noise": 0.1, "logo": 0.1},
)

_LITTLE = replace(
    _VARIED,
    tops={"bare": 0.7, "vest": 0.1, "short": 0.1, "long": 0.1},
    bottoms={"briefs": 0.1, "shorts": 0.75, "trousers": 0.15},
    feet={"bare": 0.75, "socks": 0.1, "shoes": 0.15},
    hats={"none": 0.35, "cap": 0.35, "beanie": 0.3},
    hair={"bald": 0.5, "short": 0.4, "medium": 0.1},
)

_ANY = Wardrobe(
    tops={"bare": 0.3, "vest": 0.12, "short": 0.33, "long": 0.25},
    bottoms={"briefs": 0.06, "shorts": 0.38, "skirt": 0.07, "trousers": 0.42, "dress": 0.07},
    feet={"bare": 0.4, "socks": 0.1, "shoes": 0.4, "boots": 0.1},
    hats={"none": 0.6, "cap": 0.2, "beanie": 0.2},
    hair={"bald": 0.22, "short": 0.43, "medium": 0.18, "long": 0.17},
    patterns={"plain": 0.62, "stripes": 0.1, "checks": 0.08, "dots": 0.04, "noise": 0.08, "logo": 0.08},
    saturation=(0.0, 0.9),
    value=(0.05, 0.95),
)

_BRIGHT = Wardrobe(
    tops={"vest": 0.2, "short": 0.5, "long": 0.3},
    bottoms={"shorts": 0.3, "skirt": 0.1, "trousers": 0.55, "dress": 0.05},
    feet={"bare": 0.1, "socks": 0.1, "shoes": 0.8},
    hats={"none": 0.9, "beanie": 0.1},
    hair={"short": 0.5, "medium": 0.3, "long": 0.2},
    patterns={"plain": 0.8, "stripes": 0.1, "logo": 0.1},
    saturation=(0.45, 0.95),
    value=(0.45, 1.0),
    melanin=(0.0, 0.55),
    looseness=(0.0, 0.008),
)

_MUTED = Wardrobe(
    tops={"bare": 0.3, "vest": 0.12, "short": 0.28, "long": 0.3},
    bottoms={"briefs": 0.06, "shorts": 0.5, "skirt": 0.06, "trousers": 0.32, "dress": 0.06},
    feet={"bare": 0.5, "socks": 0.1, "shoes": 0.25, "boots": 0.15},
    hats={"none": 0.5, "cap": 0.4, "beanie": 0.1},
    hair={"bald": 0.25, "short": 0.45, "medium": 0.15, "long": 0.15},
    patterns={"plain": 0.3, "stripes": 0.15, "checks": 0.2, "dots": 0.05, "noise": 0.2, "logo": 0.1},
    saturation=(0.05, 0.45),
    value=(0.06, 0.5),
    melanin=(0.25, 1.0),
    looseness=(0.004, 0.018),
)

DOMAINS: dict[str, Domain] = {
    # A clean recording studio: even light, plain bright clothes, lean people, cameras at chest height.
    "source": Domain(
        name="source",
        wardrobe=_BRIGHT,
        backdrops={"studio": 0.45, "gradient": 0.3, "noise": 0.25},
        clutter=(0, 4),
        skin_clutter=0.0,
        surroundings_saturation=(0.0, 0.25),
        surroundings_value=(0.55, 0.95),
        ambient=(0.5, 0.7),
        key=(0.35, 0.6),
        temperature=(-0.12, 0.02),
        height=(0.9, 1.6),
        noise=(0.001, 0.006),
        motions={"stand": 0.3, "walk": 0.35, "reach": 0.2, "raise_arms": 0.15},
    ),
    # A cluttered room: hard warm light, dark or little clothing, heavier people, high cameras, noisy compressed video.
    "target": Domain(
        name="target",
        wardrobe=_MUTED,
        sensor=(1920, 1080),
        field_of_view=(44.0, 56.0),
        distance=(1.25, 1.6),
        height=(1.6, 2.6),
        backdrops={"room": 1.0},
        shared_backdrop=True,
        clutter=(8, 20),
        skin_clutter=0.2,
        obstacles=2,
        occluders=0.05,
        surroundings_saturation=(0.05, 0.4),
        surroundings_value=(0.15, 0.75),
        ambient=(0.25, 0.45),
        key=(0.6, 1.0),
        temperature=(0.08, 0.3),
        exposure=(-0.3, 0.3),
        noise=(0.006, 0.018),
        blur=(0.1, 0.5),
        vignette=(0.1, 0.3),
        jpeg=0.4,
        shape_scale=1.2,
        shape_shift=(-0.7,),  # the first direction: taller and heavier people
        motions={"balance": 0.3, "free": 0.3, "bend": 0.1, "squat": 0.05, "sit": 0.05, "lunge": 0.1, "twist": 0.1},
    ),
    # Everything at once: the widest mix, for a detector that is to start on unknown images.
    "varied": Domain(
        name="varied",
        wardrobe=_VARIED,
        backdrops={"gradient": 0.1, "noise": 0.15, "collage": 0.2, "studio": 0.1, "room": 0.3, "outdoor": 0.15},
        height=(0.6, 2.4),
        clutter=(2, 24),
        obstacles=1,
        occluders=0.06,
        surroundings_saturation=(0.0, 0.8),
        surroundings_value=(0.08, 0.95),
        ambient=(0.2, 0.6),
        key=(0.3, 1.1),
        temperature=(-0.25, 0.3),
        exposure=(-0.8, 0.5),
        noise=(0.001, 0.03),
        blur=(0.0, 0.9),
        vignette=(0.0, 0.25),
        jpeg=0.4,
        shape_scale=1.2,
    ),
    # Seamless grey backdrop and soft light, mixed clothing.
    "studio": Domain(
        name="studio",
        wardrobe=_VARIED,
        backdrops={"studio": 1.0},
        shared_backdrop=True,
        clutter=(0, 3),
        surroundings_saturation=(0.0, 0.1),
        surroundings_value=(0.4, 0.8),
        ambient=(0.5, 0.7),
    ),
    # Grass or asphalt, sky, trees and houses, hard sun.
    "outdoor": Domain(
        name="outdoor",
        wardrobe=_VARIED,
        sensor=(1920, 1080),
        backdrops={"outdoor": 1.0},
        clutter=(8, 20),
        ambient=(0.3, 0.5),
        key=(0.8, 1.3),
        lights=(1, 1),
        temperature=(-0.05, 0.15),
        exposure=(-0.5, 0.3),
        noise=(0.002, 0.012),
        jpeg=0.4,
    ),
}

# What the shipped detector for people learns from, beside varied: crowded places, hard light, any camera.
DOMAINS["wild"] = replace(
    DOMAINS["varied"],
    name="wild",
    wardrobe=_ANY,
    backdrops={"room": 0.7, "outdoor": 0.2, "collage": 0.1},
    field_of_view=(36.0, 66.0),
    height=(0.4, 2.5),
    margin=(0.05, 0.2),
    clutter=(8, 28),
    occluders=0.0,
    ambient=(0.25, 0.7),
    key=(0.5, 1.5),
    exposure=(-0.5, 0.8),
    noise=(0.0, 0.014),
    blur=(0.0, 0.5),
    vignette=(0.0, 0.15),
    jpeg=0.2,
    motions={
        "balance": 0.18,
        "free": 0.2,
        "stand": 0.1,
        "lunge": 0.1,
        "raise_arms": 0.08,
        "walk": 0.1,
        "reach": 0.08,
        "squat": 0.05,
        "sit": 0.04,
        "bend": 0.04,
        "twist": 0.03,
    },
)

# As varied, with the little that people wear for a movement analysis.
DOMAINS["sport"] = replace(
    DOMAINS["varied"],
    name="sport",
    wardrobe=_LITTLE,
    motions={"balance": 0.35, "free": 0.25, "stand": 0.1, "lunge": 0.15, "raise_arms": 0.15},
)

# As wild and sport, of people who move fast and lose their balance: smeared hands and feet, red or gloved hands.
DOMAINS["action"] = replace(
    DOMAINS["wild"],
    name="action",
    wardrobe=replace(
        _ANY, tops=_LITTLE.tops, hats={"none": 0.5, "cap": 0.15, "beanie": 0.35}, flush=(0.0, 0.6), gloves=0.08
    ),
    exposure_time=(0.0, 0.08),
    motions={"stumble": 0.3, "balance": 0.15, "free": 0.2, "lunge": 0.1, "raise_arms": 0.1, "reach": 0.1, "bend": 0.05},
)


def find_domain(domain: str | Domain, domains: Mapping[str, Domain] = DOMAINS) -> Domain:
    """Return a domain by name, or the given one.

    Raises:
        InputError: no domain has that name.
    """
    if isinstance(domain, Domain):
        return domain
    if domain not in domains:
        raise InputError(f"the domain is {domain!r}, expected one of {', '.join(domains)}")
    return domains[domain]
