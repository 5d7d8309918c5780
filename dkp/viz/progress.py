"""Figure of a training: the fields of a pair of views and the epipolar error of their cells, from step to step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from dkp.errors import InputError
from dkp.fields import ChartAtlas, Field
from dkp.losses import epipolar_residuals
from dkp.metrics.consistency import RELATIVE_GATE
from dkp.viz.colours import CoordinateColours
from dkp.viz.figures import INK, THRESHOLD, as_array, as_images, bare, draw_field, finished, new_figure

if TYPE_CHECKING:
    from dkp.surface import Surface

TILE = 1.45  # inches
UNMATCHED = "#c9ced6"
LIMIT = 10.0
"""Error [px] at the end of the colour scale."""


@dataclass(frozen=True)
class Moment:
    """A detector at one step of its training.

    Attributes:
        title: above its column.
        coordinate: (2, 3, H, W) [m].
        foreground: (2, H, W), probability or bool.
        error: (2, H, W) [px], epipolar distance of each cell's match; infinite where there is none.
    """

    title: str
    coordinate: Any
    foreground: Any
    error: Any

    @classmethod
    def of_pair(
        cls,
        title: str,
        field: Field,
        atlas: ChartAtlas | None,
        fundamental: Tensor,
        surface: "Surface",
        pixel: float = 1.0,
    ) -> "Moment":
        """Return what a detector says of the first two views of a field, from whose one to the other F (1, 3, 3) leads.

        Errors are in image pixels times `pixel`.
        """
        gate = RELATIVE_GATE * surface.extent
        error = torch.cat(epipolar_residuals(field[:1], field[1:2], fundamental, gate, clip=None, atlas=atlas))
        return cls(title, field.coordinates(atlas)[:2], field.foreground_probability[:2], pixel * error)


def progress_figure(
    images: Any,
    moments: Sequence[Moment],
    surface: "Surface",
    *,
    title: str = "",
    path: str | Path | None = None,
) -> Figure:
    """Draw the steps as columns: of each of two views its field and, below, the epipolar error of foreground cells.

    Foreground cells that match nothing in the other view are grey.

    Args:
        images: (2, 3, h, w) in [0, 1] or (2, h, w, 3) uint8.
        moments: from the first step to the last.
        surface: The template, for the colours.
        title: Above the figure.
        path: Write the figure there.

    Returns:
        The figure.

    Raises:
        InputError: There is no moment, or not a pair of images.
    """
    pictures = as_images(images)
    if len(pictures) != 2 or not moments:
        raise InputError(
            f"progress figure: found {len(pictures)} images and {len(moments)} moments, expected 2 and some."
        )
    colours = CoordinateColours(surface)
    height, width = pictures.shape[1:3]
    columns = len(moments) + 1
    figure = new_figure(TILE * columns + 0.9, 4 * TILE * height / width + (0.75 if title else 0.45))
    grid = figure.subplots(4, columns, squeeze=False)
    drawn = None
    for view in range(2):
        grid[2 * view][0].imshow(pictures[view])
        bare(grid[2 * view][0])
        grid[2 * view + 1][0].set_axis_off()
        for column, moment in enumerate(moments, start=1):
            foreground = as_array(moment.foreground)[view]
            axes, below = grid[2 * view][column], grid[2 * view + 1][column]
            draw_field(axes, pictures[view], as_array(moment.coordinate)[view], foreground, colours)
            error, inside = as_array(moment.error)[view], foreground > THRESHOLD
            below.imshow(np.where(inside, 0.0, np.nan), cmap=ListedColormap([UNMATCHED]), interpolation="nearest")
            shown = np.ma.masked_where(~(inside & np.isfinite(error)), error)
            drawn = below.imshow(shown, cmap="viridis", vmin=0, vmax=LIMIT, interpolation="nearest")
            known = error[inside & np.isfinite(error)]
            text = f"{np.median(known):.1f} px, {known.size / max(1, inside.sum()):.0%}" if known.size else "no match"
            below.set_xlabel(text, fontsize=7, color=INK)
            for one in (axes, below):
                bare(one)
            if view == 0:
                axes.set_title(moment.title, fontsize=8.5, color=INK)
        grid[2 * view][1].set_ylabel(f"view {view + 1}: field", fontsize=8, color=INK)
        grid[2 * view + 1][1].set_ylabel("epipolar error", fontsize=8, color=INK)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=grid[:, -1].tolist(), shrink=0.5, extend="max")
    bar.ax.tick_params(labelsize=7)
    bar.set_label("epipolar error [px]", fontsize=8)
    return finished(figure, title, path)
