"""Figures and tables of dense keypoint fields; nothing here trains or reads captures."""

from dkp.viz.colours import CoordinateColours as CoordinateColours
from dkp.viz.comparison import (
    CurvePanel as CurvePanel,
    Panel as Panel,
    comparison_figure as comparison_figure,
    curve_figure as curve_figure,
)
from dkp.viz.figures import (
    FieldRow as FieldRow,
    draw_field as draw_field,
    draw_template as draw_template,
    field_figure as field_figure,
    save_figure as save_figure,
)
from dkp.viz.progress import Moment as Moment, progress_figure as progress_figure
from dkp.viz.table import (
    evaluation_text as evaluation_text,
    summary_html as summary_html,
    summary_markdown as summary_markdown,
    summary_table as summary_table,
)
