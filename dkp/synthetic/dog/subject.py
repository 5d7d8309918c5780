"""A dog as it looks, not yet posed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dkp.errors import InputError
from dkp.synthetic.dog.coat import Coat, fur, paint_coat, sample_coat
from dkp.synthetic.dog.regions import DogRegions
from dkp.synthetic.domains import Coats, Domain


@dataclass(frozen=True)
class Dog:
    """A dog, a :class:`dkp.synthetic.render.Subject`.

    Attributes:
        regions: Of the template.
        coat: What it looks like.
        stand_off: (V, 2) from :func:`dkp.synthetic.dog.coat.fur`.
    """

    regions: DogRegions
    coat: Coat
    stand_off: NDArray

    @classmethod
    def sample(cls, regions: DogRegions, domain: Domain, rng: np.random.Generator) -> Dog:
        """Draw a dog of a domain.

        Raises:
            InputError: the domain is one of people.
        """
        if not isinstance(domain.wardrobe, Coats):
            raise InputError(f"the domain {domain.name!r} has no coats, expected a domain of dogs")
        coat = sample_coat(domain.wardrobe, rng)
        return cls(regions, coat, fur(coat, regions))

    def paint(self, columns: NDArray) -> tuple[NDArray, NDArray]:
        """Albedo (N, 3) and gloss (N,) of points, see :func:`dkp.synthetic.dog.coat.paint_coat`."""
        return paint_coat(self.coat, self.regions, columns)
