"""Figures of how a training went: every loss term over the steps, and what the terms look at in a pair of views."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dkp.viz.comparison import COLOURS
from dkp.viz.figures import INK, new_figure
from dkp.viz.progress import LIMIT

Curve = Sequence[tuple[int, float]]
"""Step and value."""

PARTS = {"": "value", "/weight": "weight", "/gradient_norm": "norm of the gradient"}
MATCHES = {
    "multiview/distance": "matches: epipolar distance [px]",
    "multiview/matchability": "matches: matchability",
    "multiview/valid_share": "matches: share of the pixels",
}
"""What the multiview term says of the matches that it sees, drawn below the terms."""


def training_figure(runs: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Draw every loss term of some runs as a row: value, weight, and norm of the gradient over the steps.

    Below them is what the multiview term sees: how far matches are from their epipolar lines, and how many there are.

    Args:
        runs: run -> column of metrics.csv -> curve; columns are train/TERM and train/TERM/weight, .../gradient_norm.
    """
    names = {name.split("/")[1] for curves in runs.values() for name in curves if name.startswith("train/")}
    terms = ["loss", *sorted(term for term in names if any(f"train/{term}/weight" in one for one in runs.values()))]
    rows = [{f"{term}{part}": f"{term}: {title}" for part, title in PARTS.items()} for term in terms]
    rows += [MATCHES] if any("train/multiview/distance" in one for one in runs.values()) else []
    figure = new_figure(9.5, 0.6 + 1.55 * len(rows))
    for line, drawn in zip(figure.subplots(len(rows), 3, squeeze=False, sharex=True), rows, strict=True):
        for axes, (name, title) in zip(line, drawn.items(), strict=True):
            for colour, (run, curves) in zip(COLOURS, runs.items(), strict=False):
                curve = curves.get(f"train/{name}")
                if curve:
                    alone = "." if len(curve) == 1 else None  # a line of one point does not show
                    axes.plot(*zip(*curve, strict=True), color=colour, linewidth=1, marker=alone, label=run)
            if not axes.lines:
                axes.set_axis_off()
                continue
            axes.set_title(title, fontsize=8, color=INK, loc="left")
            axes.tick_params(labelsize=7, colors=INK, labelbottom=True)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
    figure.axes[0].legend(fontsize=7, frameon=False)
    figure.supxlabel("step", fontsize=8, color=INK)
    return figure


def matrix_figure(pairs: Mapping[str, tuple[Any, Any]]) -> Figure:
    """Draw, for each detector, the matchability of the pixels of two views and how far they miss each other's lines.

    Args:
        pairs: detector -> (N, M) matchability in [0, 1], and (N, M) distance [px] of each pixel of the second view from
            the epipolar line of each of the first. Pixels stand in the order of the surface's height.
    """
    figure = new_figure(0.6 + 2.6 * len(pairs), 5.4)
    grid = figure.subplots(2, len(pairs), squeeze=False)
    scales = (("matchability", "viridis", 1.0), ("epipolar error [px]", "viridis", LIMIT))
    for column, (name, matrices) in enumerate(pairs.items()):
        for axes, matrix, (title, colours, most) in zip(grid[:, column], matrices, scales, strict=True):
            drawn = axes.imshow(
                np.asarray(matrix), cmap=colours, vmin=0, vmax=most, aspect="auto", interpolation="nearest"
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{name}: {title}", fontsize=8, color=INK)
            if column == len(pairs) - 1:
                figure.colorbar(drawn, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    grid[0, 0].set_ylabel("pixels of view 1, feet to head", fontsize=7, color=INK)
    grid[1, 0].set_xlabel("pixels of view 2", fontsize=7, color=INK)
    return figure
