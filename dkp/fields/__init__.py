"""The dense field type: what a detector says about every cell of an image."""

from dkp.fields.atlas import ChartAtlas
from dkp.fields.conversion import to_charts, to_embedding
from dkp.fields.field import ChartField, EmbeddingField, Field

__all__ = ["ChartAtlas", "ChartField", "EmbeddingField", "Field", "to_charts", "to_embedding"]
