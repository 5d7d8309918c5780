"""The dense field type: what a detector says about every cell of an image."""

from dkp.fields.atlas import ChartAtlas
from dkp.fields.field import ChartField, EmbeddingField, Field
from dkp.fields.mirrored import mirrored_average
from dkp.fields.sampling import cells_at, gather_cells

__all__ = ["ChartAtlas", "ChartField", "EmbeddingField", "Field", "cells_at", "gather_cells", "mirrored_average"]
