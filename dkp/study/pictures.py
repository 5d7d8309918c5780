"""Pictures of a study: methods with error bars, curves, and fields over the course of a training."""

from pathlib import Path
from typing import cast

import torch

from dkp.batches import MultiviewBatch, flatten_views, shown_views
from dkp.callbacks.snapshots import FOLDER
from dkp.config_files import run_config
from dkp.data import collate
from dkp.fields import ChartAtlas, ChartField
from dkp.models import load_detector
from dkp.pipeline.report import test_views
from dkp.study.plan import Ablation, Cell
from dkp.study.recipe import detector
from dkp.study.summary import FLOOR, Results
from dkp.study.tables import HEADINGS
from dkp.viz import CurvePanel, Moment, Panel, comparison_figure, curve_figure, progress_figure

SHOWN = ("geodesic_median_cm", "geodesic_mean_cm", "epipolar_median_px", "surface_median_mm")
AT_JOINTS = ("joint_cm", "left_right_exchanged")
"""Shown, too, where there is no label to measure by."""


def draw_methods(results: Results, capture: str, path: Path) -> Path | None:
    """Return the methods of a capture with error bars; None where there is no result at all."""
    plan = results.plan
    methods = plan.methods_on(capture)
    known = {name for found in results.values.get(capture, {}).values() for name in found}
    panels = [
        Panel(HEADINGS[metric], {m.title: results.mean(capture, m.name, metric) for m in methods})
        for metric in (SHOWN if SHOWN[0] in known else AT_JOINTS + SHOWN)
        if metric in known
    ]
    if not panels:
        return None
    ours = plan.methods["ours"].title if "ours" in plan.methods else None
    comparison_figure(panels, title=plan.captures[capture].title, emphasised=ours, path=path)
    return path


def draw_curve(results: Results, ablation: Ablation, capture: str, path: Path) -> Path | None:
    """Return the curves of an ablation; None where there is no axis, or no line with two points."""
    if ablation.axis is None:
        return None
    plan = results.plan
    positions = {
        name: (plan.methods[name].line or plan.methods[ablation.base].title, plan.methods[name].x)
        for name in ablation.rows
    }
    panels = []
    for metric in SHOWN[:1] + SHOWN[2:3]:
        lines: dict[str, list[tuple[float, float, float | None]]] = {}
        for name, (line, x) in {**positions, **ablation.lines}.items():
            pair = results.mean(capture, name, metric, ablation.seeds)
            if pair is not None and x is not None:
                lines.setdefault(line, []).append((x, *pair))
        level = results.mean(capture, FLOOR, metric, ablation.seeds)
        constant = {} if level is None or FLOOR in ablation.lines else {plan.methods[FLOOR].title: level[0]}
        panels.append(CurvePanel(HEADINGS[metric], {line: sorted(points) for line, points in lines.items()}, constant))
    if not any(len(points) > 1 for panel in panels for points in panel.lines.values()):
        return None
    curve_figure(panels, ablation.axis, title=ablation.title, path=path)
    return path


@torch.no_grad()
def draw_training(cell: Cell, folder: Path, path: Path) -> Path | None:
    """Fields and epipolar errors of a pair of test views over a cell's training; None where no snapshots were kept."""
    config_file = detector(folder, cell)[0]
    files = sorted((config_file.parent / FOLDER).glob("step-*.safetensors"))
    if not files:
        return None
    options = run_config(config_file)["data"]["init_args"]
    dataset = test_views(test=options["test"], size=options["size"], stride=options["stride"])
    surface = dataset.surface
    for index in [len(dataset) // 2, *range(len(dataset))]:
        batch = cast(MultiviewBatch, collate([dataset[index]]))
        chosen, fundamental = shown_views(batch, 2)
        if fundamental is not None:
            break
    else:
        return None
    images = flatten_views(batch)[chosen]
    moments = []
    for file in files:
        field = load_detector(file)(images)
        atlas = ChartAtlas.from_surface(surface) if isinstance(field, ChartField) else None
        moments.append(Moment.of_pair(f"step {int(file.stem.split('-')[1])}", field, atlas, fundamental, surface))
    title = f"{cell.method.title}: {cell.capture.title}, seed {cell.seed}"
    progress_figure(images, moments, surface, title=title, path=path)
    return path
