"""One html page of a run or of several beside each other: what was run, curves, tables and pictures."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import yaml
from torch import Tensor

from dkp import __version__
from dkp.batches import MultiviewBatch, flatten_views, shown_views
from dkp.config_files import run_config
from dkp.data import MultiviewInstants, SemiSupervisedDataModule, collate
from dkp.errors import InputError
from dkp.fields import ChartAtlas, ChartField
from dkp.files import write_text
from dkp.geometry import pairwise_epipolar_distance
from dkp.metrics.consistency import RELATIVE_GATE
from dkp.metrics.names import is_detail
from dkp.models import Detector
from dkp.pipeline.matching import matching_data, matching_html, packed_field
from dkp.pipeline.stages import read_curves
from dkp.surface import Surface
from dkp.viz import CoordinateColours, FieldRow, Moment, field_figure, progress_figure, summary_html
from dkp.viz.page import page, picture
from dkp.viz.training import Curve, matrix_figure, training_figure
from dkp.weights import weights_file

MATRIX_PIXELS = 200
"""Rows and columns of a matrix of a pair of views."""


@dataclass(frozen=True)
class Run:
    """A run's folder.

    Attributes:
        name: by which the page calls it.
        folder: with config.yaml.
        config: with its references resolved.
    """

    name: str
    folder: Path
    config: dict[str, Any]

    def weights(self) -> Path | None:
        """Return the detector at the end of training, or the one that was only tested; None where there is none."""
        last = self.folder / "checkpoints" / "last.ckpt"
        given = self.config.get("ckpt_path") or self.options("detector").get("weights")
        file = last if last.is_file() else weights_file(given) if given else None
        return file if file is not None and file.is_file() else None

    def options(self, part: str) -> dict[str, Any]:
        """Arguments of the "detector" or of the "data"."""
        held = self.config["model"]["init_args"]["detector"] if part == "detector" else self.config["data"]
        return dict(held.get("init_args") or {})

    def metrics(self) -> dict[str, float]:
        """Metrics of the test, without those of single pairs and joints; empty where it was not tested."""
        values = self.measured("test/metrics.json").get("metrics", {})
        return {key.removeprefix("test/"): value for key, value in values.items() if not is_detail(key)}

    def measured(self, name: str) -> dict[str, Any]:
        """Return what a metrics.json holds; empty where there is none."""
        file = self.folder / name
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def curves(self) -> dict[str, Curve]:
        """Columns of metrics.csv over the steps."""
        return dict(read_curves(self.folder / "metrics.csv"))


def report(runs: list[str], out: str | None = None, views: int = 4) -> str:
    """Write one html page of a run, of several beside each other, or of all of a ``dkp train``.

    It has what was run, the curves of every loss term with its weight and the norm of its gradient, the test's metrics
    beside the trivial field's, and of a test instant the fields of all detectors, their epipolar errors, and
    matchability and epipolar errors of all pixels of a pair of views. The page asks nothing of any other machine.

    Args:
        runs: Folders of runs, or of a ``dkp train``.
        out: The page; default report.html in the first folder.
        views: At most so many views are shown.
    """
    found = [run for name in runs for run in opened(Path(name))]
    if not found:
        raise InputError("runs is empty, expected at least one folder of a run")
    if len({run.name for run in found}) < len(found):
        found = [replace(run, name=str(run.folder)) for run in found]
    parts = ["<h2>What was run</h2>", *(said(run) for run in found)]
    curves = {run.name: run.curves() for run in found}
    if any("train/loss" in one for one in curves.values()):
        parts += ["<h2>Training</h2>", picture(training_figure(curves), "Loss terms over the steps.")]
    measured = {run.name: values for run in found if (values := run.metrics())}
    if measured:
        last = next(reversed(measured.values()))
        trivial = {key.removeprefix("trivial/"): value for key, value in last.items() if key.startswith("trivial/")}
        parts += ["<h2>Test</h2>", summary_html(measured | ({"trivial": trivial} if trivial else {}))]
        parts.append('<p class="note">trivial: the position in the crop, which is no detector.</p>')
    shown, data = pictures(found, views)
    parts += shown
    file = Path(out) if out else Path(runs[0]) / "report.html"
    title = f"Report: {', '.join(run.name for run in found)}"
    write_text(file, page(title, "\n".join(parts), data, ("data", "matching") if data else ()))
    return f"dkp: wrote {file}"


def opened(folder: Path) -> list[Run]:
    """Return a run, or the runs of a ``dkp train`` in the order in which they began.

    Raises:
        InputError: it is neither.
    """
    configs = [folder / "config.yaml"]
    if not configs[0].is_file():
        configs = sorted(folder.glob("*/config.yaml"), key=lambda one: one.stat().st_mtime)
        tested = [one for one in folder.glob("*/test/config.yaml") if one.parents[1] / "config.yaml" not in configs]
        configs = [*tested, *configs]  # a shipped teacher is only tested
    if not configs:
        raise InputError(f"{folder} has no config.yaml, nor a folder that has one, expected the folder of a run")
    folders = [one.parent.parent if one.parent.name == "test" else one.parent for one in configs]
    return [Run(own.name, own, run_config(one)) for own, one in zip(folders, configs, strict=True)]


def said(run: Run) -> str:
    """Html of what a run was."""
    data = {name: run.config.get(name) for name in ("source", "target", "test", "seed_everything")}
    data["commit"] = (run.measured("metrics.json") or run.measured("test/metrics.json")).get("commit")
    rows = "".join(
        f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in data.items() if value
    )
    text = html.escape(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    return (
        f"<h3>{html.escape(run.name)}</h3><p>{html.escape(str(run.folder))}; page written by dkp {__version__}</p>"
        f"<table>{rows}</table><details><summary>configuration</summary><pre>{text}</pre></details>"
    )


class Views(NamedTuple):
    """Some views of a test instant, at the size of one detector.

    Attributes:
        batch: of the instant alone.
        chosen: (V,) long, the views; an eligible pair first, where there is one.
        images: (V, 3, N, N).
        fundamental: (1, 3, 3), from the first to the second view; None where they are no pair.
        surface: of the capture.
    """

    batch: MultiviewBatch
    chosen: Tensor
    images: Tensor
    fundamental: Tensor | None
    surface: Surface

    @classmethod
    def read(cls, options: Mapping[str, Any], test: str, count: int) -> Views:
        """Read the views of the instant in the middle of a test capture.

        Args:
            options: of the data of a detector's run.
            test: the capture, PATH or PATH#SPLIT.
            count: at most so many views, but a pair.
        """
        own = {name: options[name] for name in ("size", "stride", "hide_background") if options.get(name) is not None}
        dataset = test_views(test=test, **own)
        batch = cast(MultiviewBatch, collate([dataset[len(dataset) // 2]]))
        chosen, fundamental = shown_views(batch, max(2, count))
        return cls(batch, chosen, flatten_views(batch)[chosen], fundamental, dataset.surface)


@torch.no_grad()
def pictures(runs: list[Run], count: int) -> tuple[list[str], dict[str, Any]]:
    """Html of the fields of all runs in the views of a test instant, and of pairs of them; and the data of its script.

    Each detector sees the views at its own size; they are shown at the largest one, whose pixels are also those of the
    epipolar errors.
    """
    shown = [(run, weights) for run in runs if (weights := run.weights()) is not None]
    test = runs[-1].options("data").get("test")
    if not shown or not test:
        return ['<p class="note">No pictures: there is no checkpoint, or no test capture.</p>'], {}
    test = test if isinstance(test, str) else test[0]
    seen = [Views.read(run.options("data"), test, count) for run, _ in shown]
    largest = max(seen, key=lambda views: views.images.shape[-1])
    surface, names = largest.surface, [largest.batch["camera_name"][0][view] for view in largest.chosen.tolist()]
    rows: list[FieldRow] = []
    moments: list[Moment] = []
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    held: dict[str, dict[str, Any]] = {}
    for (run, weights), views in zip(shown, seen, strict=True):
        field = Detector(**{**run.options("detector"), "weights": str(weights)}).eval()(views.images)
        atlas = ChartAtlas.from_surface(surface) if isinstance(field, ChartField) else None
        coordinate, foreground = field.coordinates(atlas), field.foreground_probability
        rows.append(FieldRow(run.name, coordinate, foreground))
        held[run.name] = packed_field(coordinate, foreground, surface)
        if views.fundamental is None:
            continue
        pixel = largest.images.shape[-1] / views.images.shape[-1]
        moments.append(Moment.of_pair(run.name, field, atlas, views.fundamental, surface, pixel))
        if bool((foreground[:2] > 0.5).flatten(1).any(1).all()):
            pair = coordinate[:2], foreground[:2]
            match, distance = pair_matrices(*pair, views.fundamental[0], field.stride, surface)
            matrices[run.name] = match, pixel * distance
    if (label := FieldRow.of_labels(largest.batch, largest.chosen)) is not None:
        rows.insert(0, label)
    fields = field_figure(largest.images, rows, surface, view_titles=names)
    parts = ["<h2>Fields</h2>", picture(fields, f"Instant {largest.batch['frame'][0]} of {test}.")]
    if moments:
        heat = progress_figure(largest.images[:2], moments, surface)
        parts += ["<h2>A pair of views</h2>", picture(heat, "Epipolar distance of each pixel's match; grey: no match.")]
    if matrices:
        parts.append(picture(matrix_figure(matrices), "All pixels of the pair against each other."))
    camera = largest.batch["camera"][0, largest.chosen]
    return [*parts, matching_html(names, held)], matching_data(largest.images, camera, held, surface)


def test_views(**options: Any) -> MultiviewInstants:
    """Return the instants of a test capture, the first where there are several; options are those of the data."""
    data = SemiSupervisedDataModule(**options)
    data.setup("test")
    return data.datasets["test"][0]


def pair_matrices(
    coordinate: Tensor, foreground: Tensor, fundamental: Tensor, stride: int, surface: Surface
) -> tuple[Tensor, Tensor]:
    """Matchability and epipolar distance of the foreground pixels of two views, in the order of the surface's height.

    Args:
        coordinate: (2, 3, H, W) [m].
        foreground: (2, H, W), probability.
        fundamental: (3, 3), from the first view's pixels to lines of the second.
        stride: pixels of a cell.
        surface: of the coordinates.

    Returns:
        (N, M) in [0, 1] and (N, M) [px], of at most `MATRIX_PIXELS` pixels a view, evenly spread over the height.
    """
    colours, sides = CoordinateColours(surface), []
    for field, shown in zip(coordinate, foreground, strict=True):
        row, column = (shown > 0.5).nonzero(as_tuple=True)
        points = field[:, row, column].T
        order = torch.from_numpy(colours.turned(points.numpy())[:, 1]).argsort()
        order = order[torch.linspace(0, len(order) - 1, min(MATRIX_PIXELS, len(order))).long()]
        pixels = (torch.stack([column, row], -1)[order] + 0.5) * stride
        sides.append((points[order], pixels))
    (points, pixels), (other, other_pixels) = sides
    sigma = RELATIVE_GATE * surface.extent
    match = torch.exp(-torch.cdist(points, other).square() / (2 * sigma**2))
    distance = pairwise_epipolar_distance(pixels, other_pixels, fundamental.to(pixels))
    return match, distance
