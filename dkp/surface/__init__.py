"""The canonical surface: template mesh, charts, geodesics and left-right symmetry."""

from dkp.surface.template import Surface

__all__ = ["Surface"]
