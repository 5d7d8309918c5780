"""Figures of dense keypoint fields: several views, several detectors, one colour for one point of the surface."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from dkp.errors import InputError
from dkp.viz.colours import CoordinateColours

if TYPE_CHECKING:
    from torch import Tensor

    from dkp.batches import MultiviewBatch
    from dkp.surface import Surface

TILE = 1.75  # inches
DPI = 160
INK = "#22262b"
MUTED = "#6b7280"
THRESHOLD = 0.5
"""A cell is shown as foreground above this probability."""


@dataclass
class FieldRow:
    """One row of a figure: the field of one detector, or the label, in every view.

    Attributes:
        title: Beside the row.
        coordinate: (V, 3, H, W) [m], tensor or array.
        foreground: (V, H, W), probability or bool.
    """

    title: str
    coordinate: Any
    foreground: Any

    @classmethod
    def of_labels(cls, batch: "MultiviewBatch", chosen: "Tensor") -> "FieldRow | None":
        """Return the labels of some views of a batch's first instant, where all of them have one."""
        if "coordinate" not in batch or not bool(batch["has_label"][0, chosen].all()):
            return None
        return cls("label", batch["coordinate"][0, chosen], batch["foreground"][0, chosen])


def as_array(value: Any) -> np.ndarray:
    """Return a tensor or array as an array on the CPU, half precision as float32."""
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    return np.asarray(value)


def as_images(images: Any) -> np.ndarray:
    """Images (V, 3, H, W) in [0, 1] or (V, H, W, 3) uint8 as (V, H, W, 3) float in [0, 1]."""
    array = as_array(images)
    if array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]):
        raise InputError(f"images: found shape {array.shape}, expected (V, 3, H, W) or (V, H, W, 3).")
    if array.shape[3] != 3:
        array = array.transpose(0, 2, 3, 1)
    return (array / 255 if array.dtype == np.uint8 else array).clip(0, 1)


def bare(axes: Axes) -> None:
    """No ticks and no frame, but room for labels."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_field(
    axes: Axes,
    image: np.ndarray,
    coordinate: np.ndarray,
    foreground: np.ndarray,
    colours: CoordinateColours,
) -> None:
    """Draw one field, and the outline of its foreground, over its image in pale grey.

    Lines of equal height stand for tenths of the surface.

    Args:
        axes: To draw on.
        image: (h, w, 3) in [0, 1].
        coordinate: (3, H, W) [m].
        foreground: (H, W), probability or bool.
        colours: Of the surface.
    """
    height, width = image.shape[:2]
    rows, columns = foreground.shape
    pale = np.repeat(0.5 + 0.48 * (image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
    axes.imshow(pale, extent=(0, width, height, 0))
    inside = foreground.astype(np.float64) > THRESHOLD
    points = np.moveaxis(coordinate, 0, -1).astype(np.float64)
    axes.imshow(overlay(colours(points), inside, foreground, (height, width)), extent=(0, width, height, 0))

    x, y = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
    if inside.any() and min(rows, columns) > 1:
        up = np.where(inside & np.isfinite(points).all(axis=-1), colours.turned(points)[..., 1], np.nan)
        levels = np.linspace(colours.low[1], colours.high[1], 11)[1:-1]
        axes.contour(x, y, np.ma.masked_invalid(up), levels=levels, colors="black", linewidths=0.35, alpha=0.35)
    if inside.any():
        # A border of background closes the outline at the edge of the image.
        framed = np.pad(foreground.astype(np.float64), 1)
        x = np.concatenate([[0], x, [width]])
        y = np.concatenate([[0], y, [height]])
        axes.contour(x, y, framed, levels=[THRESHOLD], colors="white", linewidths=1.6)
        axes.contour(x, y, framed, levels=[THRESHOLD], colors=INK, linewidths=0.6)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def overlay(colour: np.ndarray, inside: np.ndarray, foreground: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Colours of cells as an image: interpolated between the cells of the foreground, with its outline.

    Args:
        colour: (H, W, 3) in [0, 1].
        inside: (H, W) bool, cells that have one.
        foreground: (H, W), probability.
        size: h and w of the image, which has at least one pixel a cell.

    Returns:
        (h, w, 4) in [0, 1].
    """
    weight = inside[..., None].astype(np.float32)
    layers = np.concatenate([colour * weight, weight, foreground[..., None]], axis=-1).astype(np.float32)
    fine = np.asarray(cv2.resize(layers, size[::-1], interpolation=cv2.INTER_LINEAR))
    mass = fine[..., 3:4]
    shown = 0.95 * ((fine[..., 4:] > THRESHOLD) & (mass > 0))
    return np.concatenate([(fine[..., :3] / np.maximum(mass, 1e-6)).clip(0, 1), shown], axis=-1)


def draw_template(axes: Axes, surface: "Surface", colours: CoordinateColours, *, back: bool = False) -> None:
    """Draw the surface in its colours, seen from the front (the subject's left to the right) or from the back.

    A flat surface is drawn with x to the right and y downwards, as in an image.

    Args:
        axes: To draw on.
        surface: The template.
        colours: Of the surface.
        back: Look from behind.
    """
    placed = colours.turned(surface.vertices)
    sign = -1.0 if back else 1.0
    flat = np.stack([sign * placed[:, 0], placed[:, 1] * (-1 if surface.flat else 1)], axis=1)
    corners = placed[surface.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    toward = sign * normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    seen = np.flatnonzero(np.abs(toward) > 1e-6) if surface.flat else np.flatnonzero(toward > 0)
    order = seen[np.argsort(sign * corners[seen, :, 2].mean(axis=1), kind="stable")]
    colour = colours(surface.vertices[surface.faces[order]].mean(axis=1))
    if not surface.flat:
        colour = colour * (0.72 + 0.28 * toward[order, None])
    axes.add_collection(
        PolyCollection(
            flat[surface.faces[order]], facecolors=colour, edgecolors=colour, linewidths=0.7, rasterized=True
        )
    )
    margin = 0.03 * np.ptp(flat, axis=0).max()
    axes.set_xlim(flat[:, 0].min() - margin, flat[:, 0].max() + margin)
    axes.set_ylim(flat[:, 1].min() - margin, flat[:, 1].max() + margin)
    axes.set_aspect("equal")
    bare(axes)


def field_figure(
    images: Any,
    rows: Sequence[FieldRow],
    surface: "Surface",
    *,
    view_titles: Sequence[str] | None = None,
    title: str | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Return views as columns; the images, and below them the fields of the label and of each detector.

    Args:
        images: (V, 3, h, w) in [0, 1] or (V, h, w, 3) uint8.
        rows: From top to bottom, for instance label, teacher, control, adapted.
        surface: The template; drawn beside the rows in the same colours.
        view_titles: V texts above the columns.
        title: Above the figure.
        path: Write the figure there, as PNG or what the ending says.

    Returns:
        The figure; it belongs to no window and needs no closing.

    Raises:
        InputError: A row's shape does not fit the images.
    """
    pictures = as_images(images)
    views = len(pictures)
    fields = []
    for row in rows:
        coordinate, foreground = as_array(row.coordinate), as_array(row.foreground)
        if coordinate.shape != (views, 3, *foreground.shape[1:]) or foreground.ndim != 3:
            raise InputError(
                f"row {row.title!r}: found coordinate {coordinate.shape} and foreground {foreground.shape}, "
                f"expected ({views}, 3, H, W) and ({views}, H, W)."
            )
        fields.append((coordinate, foreground))
    colours = CoordinateColours(surface)

    count = len(rows) + 1
    aspect = pictures.shape[1] / pictures.shape[2]
    legend, label, top, gap = 1.5, 0.34, 0.34 + (0.30 if title else 0), 0.05
    width = label + views * (TILE + 0.05) + legend
    height = top + count * (TILE * aspect + gap) + 0.05
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def tile(row: int, column: int) -> Axes:
        left = label + column * (TILE + 0.05)
        bottom = height - top - (row + 1) * TILE * aspect - row * gap
        axes = figure.add_axes((left / width, bottom / height, TILE / width, TILE * aspect / height))
        bare(axes)
        return axes

    for column in range(views):
        axes = tile(0, column)
        axes.imshow(pictures[column], extent=(0, pictures.shape[2], pictures.shape[1], 0))
        if view_titles is not None:
            axes.set_title(view_titles[column], fontsize=8.5, color=INK, pad=4)
        if column == 0:
            axes.set_ylabel("image", fontsize=9, color=INK, labelpad=5)
        for number, (row, (coordinate, foreground)) in enumerate(zip(rows, fields, strict=True), start=1):
            axes = tile(number, column)
            draw_field(axes, pictures[column], coordinate[column], foreground[column], colours)
            if column == 0:
                axes.set_ylabel(row.title, fontsize=9, color=INK, labelpad=5)
    if title:
        figure.text(label / width, 1 - 0.08 / height, title, fontsize=10.5, weight="bold", color=INK, va="top")
    _draw_legend(figure, surface, colours, legend - 0.2, 0.12, height - top)
    if path is not None:
        save_figure(figure, path)
    return figure


def _draw_legend(
    figure: Figure, surface: "Surface", colours: CoordinateColours, width: float, margin: float, top: float
) -> None:
    """Draw the template at the right edge of a figure, from the front and, if it has one, the back (in inches)."""
    whole_width, whole_height = figure.get_size_inches()
    size = colours.high - colours.low
    tall = min(width * size[1] / max(size[0], 1e-9), (top - 0.6) / (1 if surface.flat else 2))
    for number, name in enumerate(["surface"] if surface.flat else ["front", "back"]):
        bottom = top - 0.16 - tall - number * (tall + 0.3)
        axes = figure.add_axes(
            (
                (whole_width - width - margin / 2) / whole_width,
                bottom / whole_height,
                width / whole_width,
                tall / whole_height,
            )
        )
        draw_template(axes, surface, colours, back=number == 1)
        axes.set_title(name, fontsize=8, color=MUTED, pad=2)
        if colours.sided and not surface.flat:
            for side, text in ((0.02, "R"), (0.98, "L")):
                side = 1 - side if number == 1 else side
                axes.text(side, 0.99, text, transform=axes.transAxes, fontsize=8, color=MUTED, ha="center", va="top")


CHARACTERS = 11.0
"""Of a title, that an inch has room for."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure [inches]."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained")
    return figure


def finished(figure: Figure, title: str, path: str | Path | None) -> Figure:
    """Return a figure with its title, in lines as wide as it, written where a path is given."""
    if title:
        title = fill(title, int(CHARACTERS * figure.get_figwidth()))
        figure.suptitle(title, fontsize=10.5, weight="bold", color=INK, x=0.01, ha="left")
    if path is not None:
        save_figure(figure, path)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure, folder included; the ending of the path chooses the format."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI if path.suffix.lower() == ".png" else rcParams["savefig.dpi"])
    return path
