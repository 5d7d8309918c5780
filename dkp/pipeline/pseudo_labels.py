"""Bootstrapping without gradients: a detector labels unlabelled views by triangulation, for itself to learn from."""

from __future__ import annotations

from pathlib import Path

import yaml

from dkp.callbacks.pseudo_labels import PseudoLabelWriter
from dkp.captures import Capture
from dkp.data.places import SPLIT_MARK, split_of
from dkp.errors import InputError
from dkp.reconstruction import ReconstructionSettings, Reconstructor


def pseudo_label(
    config: str,
    ckpt_path: str,
    out: str,
    capture: str | None = None,
    points: int = 4000,
    min_views: int = 3,
    sigma: float | None = None,
    threshold: float = 0.06,
    hide_background: bool = False,
    overwrite: bool = False,
) -> Capture:
    """Label the views of a capture with what a detector says of all views of an instant together.

    Surface points are found in each view's field, triangulated robustly from all views, and projected into all views;
    see the documentation of `dkp.callbacks.PseudoLabelWriter` for which points label which view. The capture that is
    written has the same images with these points as labels, in the split "train".

    Args:
        config: A run's config.yaml, which describes the detector.
        ckpt_path: The detector's checkpoint.
        out: Folder of the capture to write.
        capture: PATH or PATH#SPLIT of the views to label; without a split, "train" is taken. Default: the run's target.
        points: How many surface points.
        min_views: Least number of views that have to agree on a point.
        sigma: Width of the match between a cell's coordinate and a point [m]; default 3 % of the surface's largest
            side.
        threshold: Greatest reprojection distance of a view that agrees, as a share of the image's longer side.
        hide_background: Whether the detector sees black where the captured masks are off.
        overwrite: Whether an existing capture is replaced.

    Returns:
        The capture.
    """
    from dkp.lightning_cli import run

    path, split = split_of(capture or target_of(config), "train")
    source = Capture.open(path)
    source.instants(split)  # an unknown split is refused before anything is read
    settings = ReconstructionSettings(points=points, min_views=min_views, sigma=sigma, threshold=threshold)
    writing = Capture.create(
        out,
        name=f"{source.name}-pseudo",
        surface=own_surface(source),
        cameras=source.cameras,
        unit=source.unit,
        source=f"labelled by triangulation of a detector's fields, {ckpt_path}; images: {source.source}",
        licence=source.licence,
        overwrite=overwrite,
    )
    with writing as writer:
        labels = PseudoLabelWriter(source, writer, Reconstructor(source.surface, settings))
        words = [f"--config={config}", f"--ckpt_path={ckpt_path}", f"--data.predict={path}{SPLIT_MARK}{split or ''}"]
        words += ["--trainer.logger=false", "--trainer.devices=1", "--trainer.strategy=auto"]
        words += ["--data.hide_background=constant"] if hide_background else []
        run("predict", words, [labels])
        if not labels.points:
            raise InputError(
                f"{ckpt_path}: no surface point was triangulated in {path}, expected a detector of whose fields "
                f"{min_views} agree on some (see the options sigma, threshold and min_views)"
            )
        writer.splits = {"train": labels.frames}
    return Capture.open(out)


def target_of(config: str) -> str:
    """The `target` of a run's saved configuration."""
    try:
        target = yaml.safe_load(Path(config).read_text())["target"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise InputError(f"config {config} cannot be read as a run's config.yaml with a target ({error!r})") from error
    if not isinstance(target, str):
        raise InputError(f"config {config}: target is {target!r}, expected a capture; name one with --capture")
    return target


def own_surface(capture: Capture) -> str | Path:
    """A capture's surface as `Capture.create` takes it: its file, or the name of a shipped one."""
    own = capture.path / "surface.npz"
    return own if own.exists() else capture.surface.name
