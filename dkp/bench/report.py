"""Results of a bench as tables and as plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

COLOURS = {"dense": "#9aa1ab", "tiled": "#c98a2b", "fused": "#2b6cb0"}


def print_tables(result: Mapping[str, Any]) -> None:
    """Print what a result holds."""
    console = Console()
    machine = result["machine"]
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']}, "
        f"load {machine['load']} before and {result['load_after']} after"
    )
    if "loss" in result:
        console.print(loss_table(result["loss"]))
        if result["loss"]["fused"]:
            console.print(f"no fused engine: {result['loss']['fused']}")
    if "pipeline" in result:
        console.print(pipeline_table(result["pipeline"]))
    for name, speed in result.get("predict", {}).items():
        over = f", {speed / result['predict']['eager']:.2f} times eager" if name != "eager" else ""
        console.print(f"prediction {name}: {speed:.3g} images a second{over}", highlight=False)
    for name, speed in result.get("reconstruct", {}).items():
        console.print(f"reconstruction, {name}: {speed:.3g} instants a second", highlight=False)


def loss_table(loss: Mapping[str, Any]) -> Table:
    """Return a row for every engine and size."""
    table = Table(title="expected epipolar distance, forward and backward; * = what auto takes")
    for heading in (
        "cells",
        "pairs",
        "engine",
        "least s",
        "median s",
        "x dense",
        "ns a pair",
        "peak MB",
        "error",
        "first s",
    ):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    dense = {run["cells"]: run["seconds"] for run in loss["runs"] if run["engine"] == "dense"}
    for run in loss["runs"]:
        over = dense.get(run["cells"])
        table.add_row(
            str(run["cells"]),
            str(run["pairs"]),
            run["engine"] + ("*" if loss["auto"][str(run["cells"])] == run["engine"] else ""),
            f"{run['seconds']:.4f}",
            f"{run['median_seconds']:.4f}",
            "" if over is None else f"{over / run['seconds']:.1f}",
            f"{run['seconds'] / run['pairs'] / run['cells'] ** 2 * 1e9:.2f}",
            "" if run["memory_bytes"] is None else f"{run['memory_bytes'] / 1e6:.0f}",
            f"{run['error']:.1e}",
            f"{loss['first_call_seconds'][run['engine']]:.1f}",
        )
    return table


def pipeline_table(pipeline: Mapping[str, Any]) -> Table:
    """Return a row for every measurement of the pipeline."""
    table = Table(title="pipeline")
    table.add_column("what")
    table.add_column("value", justify="right")
    for part, values in pipeline.items():
        for name, value in values.items():
            table.add_row(f"{part}: {name.replace('_', ' ')}", f"{value:.4g}")
    return table


def plot_loss(loss: Mapping[str, Any], path: Path) -> None:
    """Draw time and peak memory over the number of cells, and save them as a picture."""
    figure = Figure(figsize=(9, 3.6), dpi=160, layout="constrained")
    axes = figure.subplots(1, 2)
    for engine, colour in COLOURS.items():
        runs = [run for run in loss["runs"] if run["engine"] == engine]
        cells = [run["cells"] for run in runs]
        axes[0].plot(cells, [run["seconds"] for run in runs], "o-", color=colour, label=engine, markersize=4)
        known = [(run["cells"], run["memory_bytes"] / 1e6) for run in runs if run["memory_bytes"]]
        if known:
            axes[1].plot(*zip(*known, strict=True), "o-", color=colour, label=engine, markersize=4)
    for panel, title in zip(axes, ("forward + backward [s]", "peak memory [MB]"), strict=True):
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xlabel("cells in each view")
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.3, linewidth=0.5)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path)


def plot_step(pipeline: Mapping[str, Any], path: Path) -> None:
    """Draw the parts of a training step, each timed alone, and save them as a picture."""
    step = pipeline["step"]
    parts = ("data", "network", "loss", "optimiser", "whole")
    figure = Figure(figsize=(6, 2.4), dpi=160, layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(parts)), [1000 * step[part] for part in parts], color=list(COLOURS.values())[2])
    axes.set_yticks(range(len(parts)), parts)
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    figure.savefig(path)
