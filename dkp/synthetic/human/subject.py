"""A person as they look, not yet posed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dkp.errors import InputError
from dkp.synthetic.domains import Domain, Wardrobe
from dkp.synthetic.human.appearance import Outfit, paint, sample_outfit, thickness
from dkp.synthetic.human.regions import BodyRegions


@dataclass(frozen=True)
class Person:
    """A dressed person, a :class:`dkp.synthetic.render.Subject`.

    Attributes:
        regions: Of the template.
        outfit: What the person looks like.
        stand_off: (V, 2) from :func:`dkp.synthetic.human.appearance.thickness`.
    """

    regions: BodyRegions
    outfit: Outfit
    stand_off: NDArray

    @classmethod
    def sample(cls, regions: BodyRegions, domain: Domain, rng: np.random.Generator) -> Person:
        """Draw a person of a domain.

        Raises:
            InputError: the domain is one of dogs.
        """
        if not isinstance(domain.wardrobe, Wardrobe):
            raise InputError(f"the domain {domain.name!r} has coats for its wardrobe, expected a domain of people")
        outfit = sample_outfit(domain.wardrobe, rng)
        return cls(regions, outfit, thickness(outfit, regions))

    def paint(self, columns: NDArray) -> tuple[NDArray, NDArray]:
        """Albedo (N, 3) and gloss (N,) of points, see :func:`dkp.synthetic.human.appearance.paint`."""
        return paint(self.outfit, self.regions, columns)
