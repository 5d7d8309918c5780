"""Figures that compare methods: means with error bars, and curves over one setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dkp.viz.figures import INK, MUTED, finished, new_figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#5b6470")
"""Told apart with any colour vision: M. Okabe, K. Ito, "Color universal design" (2008)."""

Point = tuple[float, float | None]
"""Mean and spread; None where there is a single value."""


@dataclass(frozen=True)
class Panel:
    """One quantity of several methods.

    Attributes:
        title: with the unit.
        values: method -> mean and spread, or None where there is no result.
    """

    title: str
    values: Mapping[str, Point | None]


def comparison_figure(
    panels: Sequence[Panel], *, title: str = "", emphasised: str | None = None, path: str | Path | None = None
) -> Figure:
    """Methods from top to bottom, quantities side by side, a dot and an error bar for each.

    Returns:
        The figure; it belongs to no window and needs no closing.
    """
    methods = list(panels[0].values)
    figure = new_figure(2.2 + 2.5 * len(panels), 1.0 + 0.27 * len(methods))
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for number, (axes, panel) in enumerate(zip(row, panels, strict=True)):
        for height, method in enumerate(methods):
            point = panel.values[method]
            if point is None:
                axes.annotate(
                    "no result yet",
                    (0.03, height),
                    xycoords=("axes fraction", "data"),
                    fontsize=7,
                    color=MUTED,
                    va="center",
                )
                continue
            colour = COLOURS[1] if method == emphasised else COLOURS[0]
            axes.errorbar(
                point[0], height, xerr=point[1], fmt="o", color=colour, markersize=4.5, capsize=2.5, linewidth=1.2
            )
        axes.set_ylim(len(methods) - 0.5, -0.5)
        if number == 0:  # the others share the axis
            axes.set_yticks(range(len(methods)), methods)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _dress(axes, panel.title, "x")
    return finished(figure, title, path)


@dataclass(frozen=True)
class CurvePanel:
    """One quantity as a function of a setting.

    Attributes:
        title: with the unit.
        lines: name -> (x, mean, spread) of its points, by x.
        levels: name -> a value that does not depend on x, drawn as a horizontal line.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float, float | None]]]
    levels: Mapping[str, float]


def curve_figure(
    panels: Sequence[CurvePanel],
    axis: str,
    *,
    title: str = "",
    path: str | Path | None = None,
) -> Figure:
    """Curves with error bars, quantities side by side.

    Args:
        panels: the quantities.
        axis: what x is; its scale is logarithmic.
        title: above the figure.
        path: write the figure there.

    Returns:
        The figure.
    """
    figure = new_figure(1.0 + 3.1 * len(panels), 3.0)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        shown = set()
        for colour, (name, points) in zip(COLOURS, panel.lines.items(), strict=False):
            x, mean, spread = zip(*points, strict=True) if points else ((), (), ())
            error = [0.0 if value is None else value for value in spread]
            axes.errorbar(
                x, mean, yerr=error, fmt="o-", label=name, color=colour, markersize=4, capsize=2.5, linewidth=1.2
            )
            shown |= set(x)
        for style, (name, level) in zip((":", "--", "-."), panel.levels.items(), strict=False):
            axes.axhline(level, color=MUTED, linestyle=style, linewidth=1, label=name)
        if shown:
            axes.set_xscale("log")
        axes.set_xticks(sorted(shown), [f"{x:g}" for x in sorted(shown)])
        axes.minorticks_off()
        axes.set_xlabel(axis, fontsize=8, color=INK)
        _dress(axes, panel.title, "y")
        axes.legend(fontsize=7, frameon=False)
    return finished(figure, title, path)


def _dress(axes: Axes, title: str, grid: Literal["x", "y"]) -> None:
    """Title, grid and ticks of one panel."""
    axes.set_title(title, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis=grid, color="#e5e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
