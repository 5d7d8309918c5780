"""The species that can be rendered: what each looks like, how it moves and how large it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dkp.errors import InputError
from dkp.surface import Surface
from dkp.synthetic.body import load_body
from dkp.synthetic.dog.coat import fur, paint_coat, sample_coat
from dkp.synthetic.dog.domains import DOG_DOMAINS
from dkp.synthetic.dog.motion import sample_dog_motion
from dkp.synthetic.dog.regions import DogRegions
from dkp.synthetic.domains import DOMAINS, Coats, Domain, Wardrobe, find_domain
from dkp.synthetic.human.appearance import paint, sample_outfit, thickness
from dkp.synthetic.human.motion import sample_motion
from dkp.synthetic.human.regions import BodyRegions
from dkp.synthetic.render import Subject
from dkp.synthetic.rig import ADULT


@dataclass(frozen=True)
class Species:
    """What has to be known of a species to render it.

    Attributes:
        name: Of the surface and of the body.
        extent: Largest side of a standing adult [m].
        middle: Height of a standing adult's middle above the floor [m].
        domains: Its domains by name.
        licence: Of what is rendered: that of the template, which the posed surfaces are made of.
        looks: Type of a domain's ``wardrobe``.
        sample_subject: Draws what one individual of a domain looks like.
        sample_motion: Draws a motion from a source of randomness, a number of frames, their rate, an activity or None
            and body shape parameters; the result is that of :func:`dkp.synthetic.human.motion.sample_motion`.
    """

    name: str
    extent: float
    middle: float
    domains: Mapping[str, Domain]
    licence: str
    looks: type
    sample_subject: Callable[[Domain, np.random.Generator], Subject]
    sample_motion: Callable[[np.random.Generator, int, float, str | None, np.ndarray], tuple[np.ndarray, np.ndarray]]

    def domain(self, domain: str | Domain) -> Domain:
        """Return a domain of this species by name, or the given one.

        Raises:
            InputError: no domain has that name, or it is one of another species.
        """
        found = find_domain(domain, self.domains)
        if not isinstance(found.wardrobe, self.looks):
            raise InputError(
                f"the domain {found.name!r} has {type(found.wardrobe).__name__} for its wardrobe, expected "
                f"{self.looks.__name__} for the species {self.name}"
            )
        return found


@cache
def _human_regions() -> BodyRegions:
    return BodyRegions(Surface.load("human"))


@cache
def _dog_regions() -> DogRegions:
    return DogRegions(Surface.load("dog"), load_body("dog"))


def _dressed(domain: Domain, rng: np.random.Generator) -> Subject:
    """Draw a person of a domain of `Species.domain`."""
    regions, outfit = _human_regions(), sample_outfit(cast(Wardrobe, domain.wardrobe), rng)
    return Subject(regions, thickness(outfit, regions), partial(paint, outfit, regions))


def _coated(domain: Domain, rng: np.random.Generator) -> Subject:
    """Draw a dog of a domain of `Species.domain`."""
    regions, coat = _dog_regions(), sample_coat(cast(Coats, domain.wardrobe), rng)
    return Subject(regions, fur(coat, regions), partial(paint_coat, coat, regions))


def _human_motion(
    rng: np.random.Generator, frames: int, fps: float, activity: str | None, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion of the mean body; the renderer puts the lowest point of the skin on the floor."""
    return sample_motion(rng, frames, fps, activity)


def facing(joints: Mapping[str, NDArray]) -> NDArray:
    """Return the unit direction (3,) in which a head faces: from the ears to the nose."""
    front = joints["nose"] - (joints["left_ear"] + joints["right_ear"]) / 2
    return front / np.linalg.norm(front)


SPECIES: dict[str, Species] = {
    "human": Species(
        "human",
        extent=ADULT,
        middle=ADULT / 2,
        domains=DOMAINS,
        licence="CC0-1.0",
        looks=Wardrobe,
        sample_subject=_dressed,
        sample_motion=_human_motion,
    ),
    "dog": Species(
        "dog",
        extent=1.1,
        middle=0.35,
        domains=DOG_DOMAINS,
        licence="Apache-2.0",
        looks=Coats,
        sample_subject=_coated,
        sample_motion=sample_dog_motion,
    ),
}
"""Species by name, which is also the name of the surface."""


def find_species(name: str) -> Species:
    """Return a species by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in SPECIES:
        raise InputError(f"the species is {name!r}, expected one of {', '.join(SPECIES)}")
    return SPECIES[name]
