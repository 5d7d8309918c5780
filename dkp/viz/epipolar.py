"""Figure of a pair of views: a few matches of the field, and the epipolar line of each in the other view."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree

from dkp.geometry import Camera, epipolar_lines, fundamental_matrix
from dkp.metrics import mutual_matches
from dkp.viz.colours import CoordinateColours
from dkp.viz.figures import DPI, INK, MUTED, as_array, as_images, bare, draw_field, save_figure

if TYPE_CHECKING:
    from dkp.surface import Surface

SIDE = 3.4  # inches
PALETTE = ("#e6194b", "#f58231", "#d4a500", "#2ca02c", "#00a5b5", "#1f5fd6", "#8a2be2", "#e754c4", "#7a4a21", "#5b6470")


def spread(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most ``count`` points that lie far from each other, the first one nearest to their middle.

    Args:
        points: (N, D).
        count: How many.

    Returns:
        (min(N, count),) int64.

    Example:
        >>> spread(np.array([[0.0], [0.1], [1.0], [0.9], [0.52]]), 3).tolist()
        [4, 0, 2]
    """
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]
    gap = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def epipolar_figure(
    images: Any,
    camera: Camera,
    coordinate: Any,
    foreground: Any,
    surface: "Surface",
    *,
    gate: float = 0.05,
    count: int = 8,
    resolution: float = 128.0,
    threshold: float = 0.5,
    view_titles: tuple[str, str] = ("view", "other view"),
    title: str | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Two views side by side, with numbered matches and the epipolar lines that they should lie on.

    Matches are mutual nearest neighbours in surface coordinates, as ``MultiviewConsistency`` takes them; of these the
    ones shown are spread over the first view, without regard to their error. A dotted stroke joins each point to its
    line.

    Args:
        images: (2, 3, h, w) in [0, 1] or (2, h, w, 3) uint8.
        camera: (2,), of these images, without distortion.
        coordinate: (2, 3, H, W) [m].
        foreground: (2, H, W), probability or bool.
        surface: The template, for the colours.
        gate: Greatest distance of a match [m].
        count: How many matches to draw.
        resolution: The median in the heading is for images whose longer side has this many pixels.
        threshold: A cell is foreground above this probability.
        view_titles: Above the views.
        title: Above the figure; the number of matches and the median distance stand below it.
        path: Write the figure there.

    Returns:
        The figure.
    """
    pictures, field, mask = as_images(images), as_array(coordinate), as_array(foreground)
    height, width = pictures.shape[1:3]
    rows, columns = mask.shape[-2:]
    cells = [np.argwhere((mask[view] > threshold) & np.isfinite(field[view]).all(axis=0)) for view in range(2)]
    trees = [cKDTree(field[view][:, where[:, 0], where[:, 1]].T.astype(np.float64)) for view, where in enumerate(cells)]
    match = mutual_matches(trees[0], trees[1], gate)
    points = [(cells[view][match[:, view]][:, ::-1] + 0.5) * [width / columns, height / rows] for view in range(2)]
    fundamental = fundamental_matrix(camera[0], camera[1]).double().cpu()
    lines = [
        epipolar_lines(torch.as_tensor(points[1]), fundamental.mT).numpy(),
        epipolar_lines(torch.as_tensor(points[0]), fundamental).numpy(),
    ]
    signed = [(line[:, :2] * point).sum(axis=1) + line[:, 2] for line, point in zip(lines, points, strict=True)]
    distance = (np.abs(signed[0]) + np.abs(signed[1])) / 2 * resolution / max(height, width)
    chosen = spread(points[0], count)

    shown = SIDE * height / width
    head = 0.85 if title else 0.6
    figure = Figure(figsize=(2 * SIDE + 0.3, shown + head + 0.1), dpi=DPI, facecolor="white")
    whole_width, whole_height = figure.get_size_inches()
    for view in range(2):
        left = 0.1 + view * (SIDE + 0.1)
        axes = figure.add_axes((left / whole_width, 0.1 / whole_height, SIDE / whole_width, shown / whole_height))
        draw_field(
            axes,
            pictures[view],
            field[view],
            mask[view],
            CoordinateColours(surface),
            threshold=threshold,
            isolines=False,
            faded=False,
            opacity=0.3,
        )
        for number, index in enumerate(chosen):
            colour = PALETTE[number % len(PALETTE)]
            point, line = points[view][index], lines[view][index]
            _draw_line(axes, line, width, height, colour)
            foot = point - signed[view][index] * line[:2]
            axes.plot(*np.stack([point, foot]).T, color=colour, linewidth=1.6, linestyle=(0, (1, 0.8)), zorder=4)
            axes.plot(*point, marker="o", markersize=8.5, color=colour, markeredgecolor="white", zorder=5)
            axes.text(
                point[0],
                point[1],
                str(number + 1),
                color="white",
                fontsize=6,
                weight="bold",
                ha="center",
                va="center_baseline",
                zorder=6,
            )
        bare(axes)
        axes.set_title(view_titles[view], fontsize=9, color=INK, pad=4)
    median = f", median epipolar distance {np.median(distance):.1f} px at {resolution:g} px" if len(distance) else ""
    text = f"{len(match)} matches within {100 * gate:.3g} cm{median}; {len(chosen)} shown"
    top = 1 - 0.1 / whole_height
    if title:
        figure.text(0.1 / whole_width, top, title, fontsize=10.5, weight="bold", color=INK, va="top")
        top -= 0.24 / whole_height
    figure.text(0.1 / whole_width, top, text, fontsize=8, color=MUTED, va="top")
    if path is not None:
        save_figure(figure, path)
    return figure


def _draw_line(axes: Axes, line: np.ndarray, width: float, height: float, colour: str) -> None:
    """A line (a, b, c), |(a, b)| = 1, across the image; zero lines are left out."""
    normal = line[:2]
    if not np.isfinite(line).all() or np.linalg.norm(normal) < 0.5:
        return
    middle = np.array([width, height]) / 2
    foot = middle - normal * (normal @ middle + line[2])
    along = np.array([-normal[1], normal[0]]) * (width + height)
    axes.plot(
        *np.stack([foot - along, foot + along]).T,
        color=colour,
        linewidth=1.3,
        zorder=3,
        path_effects=[withStroke(linewidth=2.4, foreground="white", alpha=0.7)],
        scalex=False,
        scaley=False,
    )
