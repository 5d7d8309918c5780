"""Figures and tables of dense keypoint fields; nothing here trains or reads captures."""

from dkp.viz.colours import CoordinateColours
from dkp.viz.epipolar import epipolar_figure
from dkp.viz.figures import FieldRow, draw_field, draw_template, field_figure, save_figure
from dkp.viz.table import summary_markdown, summary_table

__all__ = [
    "CoordinateColours",
    "FieldRow",
    "draw_field",
    "draw_template",
    "epipolar_figure",
    "field_figure",
    "save_figure",
    "summary_markdown",
    "summary_table",
]
