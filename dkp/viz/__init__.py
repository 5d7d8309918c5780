"""Figures and tables of dense keypoint fields; nothing here trains or reads captures."""

from dkp.viz.colours import CoordinateColours
from dkp.viz.comparison import CurvePanel, Panel, comparison_figure, curve_figure
from dkp.viz.figures import FieldRow, draw_field, draw_template, field_figure, save_figure
from dkp.viz.progress import Moment, progress_figure
from dkp.viz.table import evaluation_text, summary_html, summary_markdown, summary_table

__all__ = [
    "CoordinateColours",
    "CurvePanel",
    "FieldRow",
    "Moment",
    "Panel",
    "comparison_figure",
    "curve_figure",
    "draw_field",
    "draw_template",
    "evaluation_text",
    "field_figure",
    "progress_figure",
    "save_figure",
    "summary_html",
    "summary_markdown",
    "summary_table",
]
