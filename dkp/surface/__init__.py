"""The canonical surface: template mesh, charts, geodesics and left-right symmetry."""

from dkp.surface.template import Surface as Surface
