"""The dense field type: what a detector says about every cell of an image."""

from dkp.fields.atlas import ChartAtlas as ChartAtlas
from dkp.fields.field import ChartField as ChartField, EmbeddingField as EmbeddingField, Field as Field
from dkp.fields.mirrored import mirrored_average as mirrored_average
from dkp.fields.sampling import cells_at as cells_at, gather_cells as gather_cells
