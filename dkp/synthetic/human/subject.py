"""A person as they look, not yet posed."""

from __future__ import annotations

from functools import partial

import numpy as np

from dkp.errors import InputError
from dkp.synthetic.domains import Domain, Wardrobe
from dkp.synthetic.human.appearance import paint, sample_outfit, thickness
from dkp.synthetic.human.regions import BodyRegions
from dkp.synthetic.render import Subject


def sample_person(regions: BodyRegions, domain: Domain, rng: np.random.Generator) -> Subject:
    """Draw a dressed person of a domain.

    Raises:
        InputError: the domain is one of dogs.
    """
    if not isinstance(domain.wardrobe, Wardrobe):
        raise InputError(f"the domain {domain.name!r} has coats for its wardrobe, expected a domain of people")
    outfit = sample_outfit(domain.wardrobe, rng)
    return Subject(regions, thickness(outfit, regions), partial(paint, outfit, regions))
