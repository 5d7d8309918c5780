"""A dog as it looks, not yet posed."""

from __future__ import annotations

from functools import partial

import numpy as np

from dkp.errors import InputError
from dkp.synthetic.dog.coat import fur, paint_coat, sample_coat
from dkp.synthetic.dog.regions import DogRegions
from dkp.synthetic.domains import Coats, Domain
from dkp.synthetic.render import Subject


def sample_dog(regions: DogRegions, domain: Domain, rng: np.random.Generator) -> Subject:
    """Draw a dog of a domain.

    Raises:
        InputError: the domain is one of people.
    """
    if not isinstance(domain.wardrobe, Coats):
        raise InputError(f"the domain {domain.name!r} has no coats, expected a domain of dogs")
    coat = sample_coat(domain.wardrobe, rng)
    return Subject(regions, fur(coat, regions), partial(paint_coat, coat, regions))
